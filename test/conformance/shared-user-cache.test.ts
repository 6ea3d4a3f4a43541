import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { closeRedis, connectRedis, redisClient, type RedisClient } from '../../src/adapters/redis/redis-client.ts';
import { redisUserCache } from '../../src/adapters/redis/redis-user-cache.ts';
import type { AuthAnswer, SharedUserCache } from '../../src/ports/auth.ts';
import { systemClock, type Clock } from '../../src/ports/clock.ts';
import { silentLogger } from '../../src/ports/logger.ts';
import { keyring } from '../../src/protocol/keys.ts';
import { waitUntil } from '../../tools/process.ts';
import { startRedisCluster, type RedisCluster } from '../../tools/services/redis-cluster.ts';
import { startRedis, type Redis } from '../../tools/services/redis.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { patientClock } from '../support/patient-clock.ts';

const SECRET = 'a secret of at least thirty-two bytes';
const TTL = 60_000;

const demo = (at = Date.now()): AuthAnswer => ({
  kind: 'user',
  user: { m: 'auth.user', id: '42', b: 'backend', h: 'hash', f: { username: 'demo', is_active: true } },
  permissions: ['shop.change_product'],
  at,
});

/** One deployment's caches, as several sidecars have them. */
interface Deployment {
  cache(options?: { clock?: Clock; secret?: string; previous?: string[]; name?: string }): Promise<SharedUserCache>;
}

interface Adapter extends Deployment {
  start(): Promise<void>;
  stop(): Promise<void>;
}

let redis: Redis;
let raw: RedisClient;
const clients: RedisClient[] = [];
let deployments = 0;

async function client(): Promise<RedisClient> {
  const made = redisClient({ url: redis.url, role: 'commands', logger: silentLogger });
  clients.push(made);
  await connectRedis(made);
  return made;
}

const redisAdapter: Adapter = {
  async start() {
    redis = await startRedis();
    raw = await client();
  },
  async stop() {
    for (const open of clients) closeRedis(open);
    await redis.stop();
  },
  async cache({ clock = patientClock, secret = SECRET, previous = [], name = `d${deployments}` } = {}) {
    const keys = keyring(secret, previous, 'cache');
    return redisUserCache({ client: await client(), name, ttl: TTL, keys, clock, logger: silentLogger });
  },
};

let cluster: RedisCluster;
const clusterClients: RedisClient[] = [];

const clusterAdapter: Adapter = {
  async start() {
    cluster = await startRedisCluster();
  },
  async stop() {
    for (const open of clusterClients.splice(0)) closeRedis(open);
    await cluster.stop();
  },
  async cache({ clock = patientClock, secret = SECRET, previous = [], name = `d${deployments}` } = {}) {
    const made = redisClient({ url: cluster.url, role: 'commands', logger: silentLogger });
    clusterClients.push(made);
    await connectRedis(made);
    const keys = keyring(secret, previous, 'cache');
    const cache = redisUserCache({ client: made, name, ttl: TTL, keys, clock, logger: silentLogger });
    await waitUntil(async () => (await cache.mark('probe')) !== '', { what: 'the cluster to answer' });
    return cache;
  },
};

describe.each([
  ['redis', redisAdapter],
  ['a cluster', clusterAdapter],
])('the shared user cache %s', (_, adapter) => {
  beforeAll(() => adapter.start());
  afterAll(() => adapter.stop());
  beforeEach(() => void deployments++);

  async function filled(): Promise<SharedUserCache> {
    const cache = await adapter.cache();
    await cache.set('s1', demo(), await cache.mark('s1'), TTL);
    return cache;
  }

  it('knows nobody at first', async () => {
    expect(await (await adapter.cache()).get('s1')).toBeUndefined();
  });

  it.each<[AuthAnswer['kind'], () => AuthAnswer]>([
    ['user', demo],
    ['anonymous', () => ({ kind: 'anonymous', at: Date.now() })],
  ])('gives an answer to every sidecar: %s', async (_kind, made) => {
    const [one, two, answer] = [await adapter.cache(), await adapter.cache(), made()];
    await one.set('s1', answer, await one.mark('s1'), TTL);
    expect(await two.get('s1')).toEqual(answer);
    expect(await two.get('s2')).toBeUndefined();
  });

  it.each([{ session: 's1' }, { user: 'auth.user:42' }, { all: true as const }])(
    'forgets what any sidecar invalidates: %o',
    async (what) => {
      await filled();
      const [one, two] = [await adapter.cache(), await adapter.cache()];
      await two.invalidate(what);
      expect(await one.get('s1')).toBeUndefined();
      expect(await two.get('s1')).toBeUndefined();
    },
  );

  it('keeps what an invalidation does not concern', async () => {
    const cache = await filled();
    await cache.invalidate({ session: 's2' });
    await cache.invalidate({ user: 'auth.user:4' });
    expect(await cache.get('s1')).toEqual(expect.objectContaining({ kind: 'user' }));
  });

  it.each([{ session: 's1' }, { user: 'auth.user:42' }, { all: true as const }])(
    'is not filled by a flight that began before the invalidation %o',
    async (what) => {
      const [one, two] = [await adapter.cache(), await adapter.cache()];
      const mark = await one.mark('s1');
      await two.invalidate(what);
      await one.set('s1', demo(), mark, TTL);
      expect(await two.get('s1')).toBeUndefined();
      await one.set('s1', demo(), await one.mark('s1'), TTL);
      expect(await two.get('s1')).toBeDefined();
    },
  );

  it('never serves a user between two invalidations and fills that overlap', async () => {
    const caches = await Promise.all([adapter.cache(), adapter.cache(), adapter.cache()]);
    for (let round = 0; round < 100; round++) {
      const [one, two, three] = caches;
      const mark = await one.mark('s1');
      await Promise.all([
        one.set('s1', demo(), mark, TTL),
        two.invalidate({ user: 'auth.user:42' }),
        three.invalidate({ user: 'auth.user:42' }),
      ]);
      expect(await caches[round % 3]?.get('s1')).toBeUndefined();
    }
  });

  it('holds an answer from when it was made, and never longer', async () => {
    const clock = new ManualClock(Date.now());
    const cache = await adapter.cache({ clock });
    await cache.set('s1', demo(clock.now() - 40_000), await cache.mark('s1'), TTL);
    clock.advance(19_000);
    expect(await cache.get('s1')).toBeDefined();
    clock.advance(1_000);
    expect(await cache.get('s1')).toBeUndefined();
  });

  it('does not keep an answer that is too old or from the future', async () => {
    const cache = await adapter.cache();
    await cache.set('s1', demo(Date.now() - TTL), await cache.mark('s1'), TTL);
    await cache.set('s2', demo(Date.now() + 10_000), await cache.mark('s2'), TTL);
    expect([await cache.get('s1'), await cache.get('s2')]).toEqual([undefined, undefined]);
  });

  it('keeps no answer beyond the end of its session', async () => {
    const clock = new ManualClock(Date.now());
    const cache = await adapter.cache({ clock });
    await cache.set(
      's1',
      { ...demo(clock.now()), expires: clock.now() + 5_000 } as AuthAnswer,
      await cache.mark('s1'),
      TTL,
    );
    clock.advance(4_900);
    expect(await cache.get('s1')).toBeDefined();
    clock.advance(100);
    expect(await cache.get('s1')).toBeUndefined();
  });

  it('reads values of previous secrets while they are accepted, and none of other secrets or deployments', async () => {
    const next = 'another secret of thirty-two bytes or more';
    await filled();
    expect(await (await adapter.cache({ secret: next, previous: [SECRET] })).get('s1')).toBeDefined();
    expect(await (await adapter.cache({ secret: next })).get('s1')).toBeUndefined();
    expect(await (await adapter.cache({ name: 'other' })).get('s1')).toBeUndefined();
  });
});

describe('the Redis user cache', () => {
  beforeAll(() => redisAdapter.start());
  afterAll(() => redisAdapter.stop());
  beforeEach(() => void deployments++);

  const key = (session: string): string => `bridgehead:d${deployments}:auth:${session}`;

  it('lets Redis forget by itself', async () => {
    const cache = await redisAdapter.cache();
    await cache.set('s1', demo(Date.now() - 30_000), await cache.mark('s1'), TTL);
    expect(await raw.pttl(key('s1'))).toBeGreaterThan(25_000);
    expect(await raw.pttl(key('s1'))).toBeLessThanOrEqual(30_000);
    await cache.invalidate({ user: 'auth.user:42' });
    const names = await raw.keys(`bridgehead:d${deployments}:*`);
    expect(names.length).toBeGreaterThan(2);
    for (const name of names) expect(await raw.pttl(name)).toBeGreaterThan(0);
  });

  it('believes nobody who can merely write to Redis', async () => {
    const cache = await redisAdapter.cache();
    await cache.set('s1', demo(), await cache.mark('s1'), TTL);
    const signed = (await raw.get(key('s1'))) ?? '';
    const [kid = '', payload = '', mac = ''] = signed.split('.');
    const made = Buffer.from(payload, 'base64url').toString().replace('"42"', '"1"');
    const forged = [
      signed.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A')),
      `${kid}.${Buffer.from(made).toString('base64url')}.${mac}`,
      `${kid}.${payload}`,
      `${kid}.${payload}.`,
      `${signed}.x`,
      JSON.stringify(demo()),
      '',
    ];
    for (const text of forged) {
      await raw.set(key('s2'), text);
      expect(await cache.get('s2'), text).toBeUndefined();
    }
    await raw.set(key('s2'), signed);
    expect(await cache.get('s2'), 'moved to another session').toBeUndefined();
    expect(await cache.get('s1')).toBeDefined();
  });

  it('does not even write what was overtaken by an invalidation', async () => {
    const cache = await redisAdapter.cache();
    for (const what of [{ session: 's1' }, { user: 'auth.user:42' }, { all: true as const }]) {
      const mark = await cache.mark('s1');
      await cache.invalidate(what);
      await cache.set('s1', demo(), mark, TTL);
      expect(await raw.exists(key('s1')), JSON.stringify(what)).toBe(0);
    }
  });

  it("deletes a session's value with its invalidation", async () => {
    const cache = await redisAdapter.cache();
    await cache.set('s1', demo(), await cache.mark('s1'), TTL);
    expect(await raw.exists(key('s1'))).toBe(1);
    await cache.invalidate({ session: 's1' });
    expect(await raw.exists(key('s1'))).toBe(0);
  });

  it.each([{ user: 'auth.user:42' }, { all: true as const }, undefined])(
    'brings nobody back when Redis loses epochs, after the invalidation of %o',
    async (what) => {
      const cache = await redisAdapter.cache();
      await cache.set('s1', demo(), await cache.mark('s1'), TTL);
      if (what !== undefined) await cache.invalidate(what);
      const epochs = await raw.keys(`bridgehead:d${deployments}:auth-epoch*`);
      expect(epochs.length).toBeGreaterThan(3);
      for (const lost of epochs) {
        const value = (await raw.get(lost)) ?? '';
        await raw.del(lost);
        if (what !== undefined || !lost.endsWith('-epoch')) expect(await cache.get('s1'), lost).toBeUndefined();
        await raw.set(lost, value);
      }
      await raw.del(epochs);
      expect(await cache.get('s1')).toBeUndefined();
      // An epoch that begins anew is none that an old value was made under.
      await cache.set('s2', demo(), await cache.mark('s2'), TTL);
      await cache.mark('s1');
      expect(await cache.get('s1')).toBeUndefined();
      expect(await cache.get('s2')).toBeDefined();
    },
  );

  it('lets no writer make a value outlive invalidations by a counter that runs ahead', async () => {
    const cache = await redisAdapter.cache();
    const counter = `bridgehead:d${deployments}:auth-epoch`;
    await raw.set(counter, 9e15);
    await cache.set('s1', demo(), await cache.mark('s1'), TTL);
    await raw.set(counter, 1);
    expect(await cache.get('s1')).toBeDefined();
    await cache.invalidate({ user: 'auth.user:42' });
    expect(await cache.get('s1')).toBeUndefined();
  });

  it('stays right when Redis loses its counter', async () => {
    const cache = await redisAdapter.cache();
    for (let n = 0; n < 50; n++) await cache.invalidate({ session: 's9' });
    await cache.set('s1', demo(), await cache.mark('s1'), TTL);
    await raw.del(`bridgehead:d${deployments}:auth-epoch`);
    await cache.invalidate({ session: 's1' });
    expect(await cache.get('s1')).toBeUndefined();
  });

  it('holds nobody up while Redis hangs, and then remembers what was invalidated meanwhile', async () => {
    const [one, two] = [await redisAdapter.cache({ clock: systemClock }), await redisAdapter.cache()];
    // By the other one, which is patient: to this one a Redis that answers late is one that hangs.
    await two.set('s1', demo(), await two.mark('s1'), TTL);
    await two.set('s2', { kind: 'anonymous', at: Date.now() }, await two.mark('s2'), TTL);
    process.kill(redis.pid, 'SIGSTOP');
    try {
      const begun = performance.now();
      expect(await one.get('s2')).toBeUndefined();
      expect(performance.now() - begun).toBeLessThan(500);
      const again = performance.now();
      for (let n = 0; n < 100; n++) {
        expect(await one.get('s2')).toBeUndefined();
        expect(await one.mark('s2')).toBe('');
        await one.set('s2', demo(), '', TTL);
      }
      await one.invalidate({ user: 'auth.user:42' });
      expect(performance.now() - again, 'the breaker is open').toBeLessThan(500);
    } finally {
      process.kill(redis.pid, 'SIGCONT');
    }
    await waitUntil(async () => (await one.get('s2'))?.kind === 'anonymous', { what: 'Redis to be used again' });
    expect(await one.get('s1')).toBeUndefined();
    await waitUntil(async () => (await two.get('s2')) !== undefined && (await two.get('s1')) === undefined, {
      what: 'the invalidation to arrive',
    });
  });

  it('works again after Redis was gone', async () => {
    const cache = await redisAdapter.cache();
    const { port } = redis;
    await redis.stop();
    expect(await cache.get('s1')).toBeUndefined();
    await cache.set('s1', demo(), await cache.mark('s1'), TTL);
    await cache.invalidate({ all: true });
    redis = await startRedis({ port });
    await waitUntil(async () => {
      await cache.set('s1', demo(), await cache.mark('s1'), TTL);
      return (await cache.get('s1')) !== undefined;
    });
  });
});
