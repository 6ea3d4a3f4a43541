import { createHash } from 'node:crypto';
import type { SharedBudget } from '../../ports/budget.ts';
import type { Clock } from '../../ports/clock.ts';
import { Breaker } from '../shared/breaker.ts';
import type { RedisClient } from './redis-client.ts';

export interface RedisBudgetOptions {
  readonly client: RedisClient;
  /** The deployment's. */
  readonly name: string;
  readonly clock: Clock;
}

/** Nobody waits for a lease, but what comes later than this is of no use. Milliseconds. */
const TIMEOUT = 250;
const PAUSE = 1_000;

/** A token bucket by the server's own clock: sidecars' clocks do not matter. Times in microseconds. */
const LEASE = `
local rate, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local state = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(state[1]), tonumber(state[2])
if tokens and at then
  tokens = math.min(burst, tokens + math.max(0, now - at) * rate / 1000000)
else
  tokens = burst
end
local granted = math.min(wanted, math.floor(tokens))
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens - granted), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return granted`;

/** Buckets under `bridgehead:<name>:limit:<hash of the key>`; a full one is forgotten. */
export function redisBudget({ client, name, clock }: RedisBudgetOptions): SharedBudget {
  const breaker = new Breaker({ timeout: TIMEOUT, pause: PAUSE, clock });
  return {
    async lease(key, wanted, { perSecond, burst }) {
      // Keys hold users and addresses: Redis gets none of them.
      const hash = createHash('sha256').update(key).digest().subarray(0, 16).toString('base64url');
      const amount = Math.max(0, Math.floor(wanted));
      const done = await breaker.run(() =>
        client.eval(LEASE, 1, `bridgehead:${name}:limit:${hash}`, perSecond, Math.max(1, burst), amount),
      );
      if (done === undefined) throw new Error('the shared budget cannot be reached');
      return Number(done.value);
    },
  };
}
