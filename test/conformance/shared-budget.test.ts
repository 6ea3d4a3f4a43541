import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { redisBudget } from '../../src/adapters/redis/redis-budget.ts';
import { closeRedis, connectRedis, redisClient, type RedisClient } from '../../src/adapters/redis/redis-client.ts';
import { LeasedBucket } from '../../src/core/limits/leased-bucket.ts';
import type { SharedBudget } from '../../src/ports/budget.ts';
import { systemClock } from '../../src/ports/clock.ts';
import { silentLogger } from '../../src/ports/logger.ts';
import { startRedis, type Redis } from '../../tools/services/redis.ts';
import { MemoryBudget } from '../support/memory-budget.ts';
import { patientClock } from '../support/patient-clock.ts';

/** Of what real time decides. */
const TRIES = 5;

let redis: Redis;
const clients: RedisClient[] = [];
let memory: MemoryBudget;

beforeAll(async () => {
  redis = await startRedis();
  memory = new MemoryBudget(systemClock);
});
afterAll(async () => {
  for (const client of clients) closeRedis(client);
  await redis.stop();
});

async function overRedis(): Promise<SharedBudget> {
  const client = redisClient({ url: redis.url, role: 'commands', logger: silentLogger });
  clients.push(client);
  await connectRedis(client);
  return redisBudget({ client, name: 'shop', clock: patientClock });
}

describe.each<[string, () => Promise<SharedBudget>]>([
  ['redis', overRedis],
  ['of the unit tests', async () => Promise.resolve(memory)],
])('the shared budget %s', (name, make) => {
  it('grants what is there, to everybody together', async () => {
    const [one, two] = [await make(), await make()];
    const limit = { perSecond: 0.01, burst: 100 };
    expect(await one.lease(`${name} a`, 30, limit)).toBe(30);
    expect(await two.lease(`${name} a`, 60, limit)).toBe(60);
    expect(await one.lease(`${name} a`, 30, limit)).toBe(10);
    expect(await two.lease(`${name} a`, 1, limit)).toBe(0);
    expect(await two.lease(`${name} b`, 1, limit)).toBe(1);
  });

  it('grants no token twice when many ask at once', async () => {
    const budgets = await Promise.all([make(), make(), make()]);
    const limit = { perSecond: 0.01, burst: 100 };
    const granted = await Promise.all(
      Array.from({ length: 60 }, (_, n) => (budgets[n % 3] as SharedBudget).lease(`${name} c`, 7, limit)),
    );
    expect(granted.reduce((total, number) => total + number, 0)).toBe(100);
  });

  it('refills with the rate, up to the burst', async () => {
    const budget = await make();
    const limit = { perSecond: 200, burst: 50 };
    let seconds = Infinity;
    // A machine that stands still for a moment takes longer: it does not do so again and again.
    for (let tries = 0; tries < TRIES && seconds >= 1.5; tries++) {
      const begun = performance.now();
      let granted = await budget.lease(`${name} d${tries}`, 50, limit);
      while (granted < 200) {
        granted += await budget.lease(`${name} d${tries}`, 50, limit);
        await setImmediate();
      }
      seconds = (performance.now() - begun) / 1000;
      expect(granted).toBeLessThan((50 + 200 * seconds) * 1.05 + 1);
    }
    expect(seconds).toBeLessThan(1.5);
  });

  it('keeps two sidecars together within 10 % of the rate', async () => {
    const limit = { perSecond: 500, burst: 100 };
    const buckets = [await make(), await make()].map(
      (budget) => new LeasedBucket({ key: `${name} e`, limit, budget, clock: systemClock }),
    );
    const run = async (milliseconds: number): Promise<number> => {
      let passed = 0;
      for (const end = performance.now() + milliseconds; performance.now() < end; await setImmediate()) {
        for (const bucket of buckets) if (bucket.take(systemClock.monotonic())) passed++;
      }
      return passed;
    };
    const first = performance.now();
    // The burst is spent first.
    let all = await run(500);
    let share = 0;
    // As above: what was not let through while the machine stood still comes on top later.
    for (let tries = 0; tries < TRIES && !(share > 0.9 && share < 1.1); tries++) {
      const begun = performance.now();
      const passed = await run(2_000);
      share = passed / ((limit.perSecond * (performance.now() - begun)) / 1000);
      all += passed;
    }
    expect(share).toBeGreaterThan(0.9);
    expect(share).toBeLessThan(1.1);
    expect(all).toBeLessThan((limit.burst + (limit.perSecond * (performance.now() - first)) / 1000) * 1.1);
  });
});

describe('the Redis budget', () => {
  it('keeps no full bucket, and no key in clear', async () => {
    const budget = await overRedis();
    await budget.lease('user demo@example.test', 1, { perSecond: 10, burst: 10 });
    const keys = (await clients.at(-1)?.keys('*')) ?? [];
    expect(keys.join(' ')).not.toContain('demo');
    for (const key of keys) expect(await clients.at(-1)?.pttl(key)).toBeGreaterThan(0);
  });

  it('rejects in time while Redis hangs or is gone, and a bucket goes on alone', async () => {
    const own = await startRedis();
    const client = redisClient({ url: own.url, role: 'commands', logger: silentLogger });
    clients.push(client);
    await connectRedis(client);
    const budget = redisBudget({ client, name: 'shop', clock: systemClock });
    const limit = { perSecond: 1_000, burst: 1_000 };
    expect(await budget.lease('a', 1, limit)).toBe(1);
    process.kill(own.pid, 'SIGSTOP');
    const begun = performance.now();
    await expect(budget.lease('a', 1, limit)).rejects.toThrow('the shared budget cannot be reached');
    expect(performance.now() - begun).toBeLessThan(1_000);
    process.kill(own.pid, 'SIGCONT');
    await own.stop();
    await expect(budget.lease('a', 1, limit)).rejects.toThrow('the shared budget cannot be reached');
    const bucket = new LeasedBucket({ key: 'a', limit, budget, clock: systemClock });
    bucket.take(systemClock.monotonic());
    await setImmediate();
    const passed = Array.from({ length: 500 }, () => bucket.take(systemClock.monotonic())).filter(Boolean);
    expect(passed.length).toBe(500);
  });
});
