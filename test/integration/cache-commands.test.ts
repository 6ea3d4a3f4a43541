import { Redis as Client } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPostgres, startRedis, type Postgres, type Redis } from '../../tools/services/index.ts';
import { DjangoStack } from '../support/django-stack.ts';

const EVENTS = 20;

describe("what events cost the Redis of Django's cache and sessions", () => {
  let redis: Redis;
  let cache: Redis;
  let postgres: Postgres;
  let stack: DjangoStack;
  let client: Client;

  beforeAll(async () => {
    [redis, cache, postgres] = [await startRedis(), await startRedis(), await startPostgres()];
    client = new Client({ port: cache.port });
    const services = { databaseUrl: postgres.url, redisUrl: redis.url, cacheUrl: cache.url };
    stack = await DjangoStack.start({ source: 'companion', ...services });
  });

  afterAll(async () => {
    client?.disconnect();
    await stack?.stop();
    await Promise.all([redis, cache, postgres].map((service) => service?.stop()));
  });

  /** All commands that this Redis has done, without those that ask it for them. */
  const commands = async (): Promise<number> => {
    const counts = [...(await client.info('commandstats')).matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)];
    return counts.reduce((sum, [, name, calls]) => sum + (name === 'info' ? 0 : Number(calls)), 0);
  };

  it('none in the tier auth_only once the user is known', async () => {
    const { name, cookie } = await stack.user();
    const tab = await stack.connect(cookie);
    const cold = await commands();
    expect(await stack.ask(tab, { tier: 'auth_only' })).toMatchObject({ tier: 'auth_only', user: name });
    const warm = await commands();
    // It is this Redis that knows the session.
    expect(warm).toBeGreaterThan(cold);
    for (let sent = 0; sent < EVENTS; sent++) {
      expect(await stack.ask(tab, { tier: 'auth_only' })).toMatchObject({ user: name, queries: 0 });
    }
    expect((await commands()) - warm).toBe(0);
  });
});
