import { createHash } from 'node:crypto';
import type { Invalidation } from '../../ports/auth.ts';
import type { RedisClient } from './redis-client.ts';

/** Longer than any answer may live (a day), so that an epoch outlives whatever it forbids. Milliseconds. */
const EPOCH_TTL = 25 * 3_600_000;

/**
 * The deployment's counter of invalidations. It begins at the server's time in microseconds: should Redis lose it, the new one is
 * still ahead of every number given before.
 */
const NOW = `
local n = redis.call('GET', KEYS[1])
if n then return n end
local time = redis.call('TIME')
n = time[1] .. string.format('%06d', time[2])
redis.call('SET', KEYS[1], n, 'PX', ARGV[1])
return n`;

const NEXT = `
if redis.call('EXISTS', KEYS[1]) == 0 then
  local time = redis.call('TIME')
  redis.call('SET', KEYS[1], time[1] .. string.format('%06d', time[2]), 'PX', ARGV[1])
end
return redis.call('INCR', KEYS[1])`;

/** Two invalidations at once may come here in either order: the higher one stays. */
const RAISE = `
local n = redis.call('GET', KEYS[1])
if n and tonumber(n) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`;

/**
 * When sessions, users and everything were last invalidated, as numbers that only grow. A value made at mark `m` holds as long as
 * none of its epochs is above `m`. Every command has one key, so that a cluster may hold them anywhere.
 */
export class Epochs {
  readonly #client: RedisClient;
  readonly #prefix: string;

  constructor(client: RedisClient, name: string) {
    this.#client = client;
    this.#prefix = `bridgehead:${name}:auth-epoch`;
  }

  /** Where the counter stands. */
  async now(): Promise<number> {
    return Number(await this.#client.eval(NOW, 1, this.#prefix, EPOCH_TTL));
  }

  async raise(what: Invalidation): Promise<void> {
    const next = Number(await this.#client.eval(NEXT, 1, this.#prefix, EPOCH_TTL));
    await this.#client.eval(RAISE, 1, this.#key(what), next, EPOCH_TTL);
  }

  /** 0 where it was never invalidated. */
  async of(what: Invalidation): Promise<number> {
    return Number((await this.#client.get(this.#key(what))) ?? 0);
  }

  #key(what: Invalidation): string {
    if ('all' in what) return `${this.#prefix}:all`;
    if ('session' in what) return `${this.#prefix}:s:${what.session}`;
    // Primary keys may be addresses: Redis gets none of them.
    const user = createHash('sha256').update(what.user).digest().subarray(0, 16).toString('base64url');
    return `${this.#prefix}:u:${user}`;
  }
}
