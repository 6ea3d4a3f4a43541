import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { closeRedis, connectRedis, redisClient, type RedisClient } from '../../src/adapters/redis/redis-client.ts';
import { redisPeerDirectory, type RedisPeerDirectory } from '../../src/adapters/redis/redis-peer-directory.ts';
import { silentLogger } from '../../src/ports/logger.ts';
import { keyring } from '../../src/protocol/keys.ts';
import { startRedis, type Redis } from '../../tools/services/redis.ts';
import { ManualClock } from '../support/manual-clock.ts';

const SECRET = 'the secret of all sidecars of this deployment';
const URL = 'http://10.0.0.5:8080';

let redis: Redis;
let client: RedisClient;
let clock: ManualClock;
let serial = 0;
let prefix: string;

beforeAll(async () => {
  redis = await startRedis();
  client = redisClient({ url: redis.url, role: 'commands', logger: silentLogger });
  await connectRedis(client);
});
beforeEach(() => {
  clock = new ManualClock();
  prefix = `prefix-${serial++}`;
});
afterAll(async () => {
  closeRedis(client);
  await redis.stop();
});

function directory(
  changes: { name?: string; host?: string; secret?: string; clock?: ManualClock } = {},
): RedisPeerDirectory {
  const { secret = SECRET, ...others } = changes;
  return redisPeerDirectory({ client, name: 'shop', host: 'one', clock, keys: keyring(secret, [], 'peer'), ...others });
}

const lifeOf = (): Promise<number> => client.pttl(`bridgehead:shop:peer:${prefix}`);

describe('the peer directory in Redis', () => {
  it('tells every sidecar of the deployment where the one with a prefix is, and nobody else', async () => {
    const [one, two] = [directory(), directory({ host: 'two' })];
    expect(await two.find(prefix)).toBeUndefined();
    await one.announce(prefix, URL);
    expect(await two.find(prefix)).toBe(URL);
    expect(await directory({ name: 'other' }).find(prefix)).toBeUndefined();
    expect(await directory({ secret: `${SECRET}!` }).find(prefix)).toBeUndefined();
    await one.close();
    expect(await directory().find(prefix)).toBeUndefined();
    expect(clock.timers).toBe(0);
  });

  it('keeps an address for as long as its sidecar says so', async () => {
    const one = directory();
    await one.announce(prefix, URL);
    expect(await lifeOf()).toBeGreaterThan(10_000);
    await client.pexpire(`bridgehead:shop:peer:${prefix}`, 50);
    clock.advance(3_000);
    await expect.poll(lifeOf).toBeGreaterThan(10_000);
    await one.close();
  });

  it('knows a loopback address on its own machine alone', async () => {
    const one = directory();
    for (const url of ['http://127.0.0.1:8080', 'http://localhost:8080', 'http://[::1]:8080']) {
      await one.announce(prefix, url);
      expect(await directory().find(prefix)).toBe(url);
      expect(await directory({ host: 'two' }).find(prefix)).toBeUndefined();
      await one.close();
    }
  });

  it('asks again after seconds, and heeds no value that is played back after a minute', async () => {
    const [one, two] = [directory(), directory()];
    await one.announce(prefix, URL);
    const value = (await client.get(`bridgehead:shop:peer:${prefix}`)) ?? '';
    expect(await two.find(prefix)).toBe(URL);
    await one.close();
    expect(await two.find(prefix)).toBe(URL);
    clock.advance(10_000);
    expect(await two.find(prefix)).toBeUndefined();
    await client.set(`bridgehead:shop:peer:${prefix}`, value, 'PX', 20_000);
    expect(await directory().find(prefix)).toBe(URL);
    clock.advance(50_001);
    expect(await directory().find(prefix)).toBeUndefined();
  });
});
