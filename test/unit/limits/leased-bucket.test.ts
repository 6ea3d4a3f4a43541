import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { KeyedLimits } from '../../../src/core/limits/keyed-limits.ts';
import { LeasedBucket } from '../../../src/core/limits/leased-bucket.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { MemoryBudget } from '../../support/memory-budget.ts';

function sidecars(count: number, limit: { perSecond: number; burst: number }) {
  const clock = new ManualClock();
  const budget = new MemoryBudget(clock);
  const buckets = Array.from({ length: count }, () => new LeasedBucket({ key: 'user 42', limit, budget, clock }));
  return { clock, budget, buckets };
}

/** Every millisecond each sidecar sees as many events as `perMillisecond` says; returns how many each let through. */
async function load(
  { clock, buckets }: Pick<ReturnType<typeof sidecars>, 'clock' | 'buckets'>,
  milliseconds: number,
  perMillisecond: readonly number[],
): Promise<number[]> {
  const passed = buckets.map(() => 0);
  const due = buckets.map(() => 0);
  for (let now = 0; now < milliseconds; now++) {
    clock.advance(1);
    for (const [at, bucket] of buckets.entries()) {
      for (due[at] = (due[at] ?? 0) + (perMillisecond[at] ?? 0); (due[at] ?? 0) >= 1; due[at] = (due[at] ?? 0) - 1) {
        if (bucket.take(clock.monotonic())) passed[at] = (passed[at] ?? 0) + 1;
      }
    }
    // Leases answer a moment later.
    await setImmediate();
  }
  return passed;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

describe('a leased bucket', () => {
  it.each([
    { perSecond: 200, burst: 400, load: [2, 2] },
    { perSecond: 200, burst: 20, load: [5, 0.05] },
    { perSecond: 10, burst: 10, load: [1, 1] },
    { perSecond: 1000, burst: 1000, load: [3, 3] },
  ])('keeps two sidecars together within 10 % of $perSecond/s', async ({ load: perMillisecond, ...limit }) => {
    const all = sidecars(2, limit);
    const first = sum(await load(all, 4_000, perMillisecond));
    expect(first).toBeLessThanOrEqual((limit.burst + limit.perSecond * 4) * 1.1);
    const steady = sum(await load(all, 10_000, perMillisecond));
    expect(steady).toBeGreaterThan(limit.perSecond * 10 * 0.9);
    expect(steady).toBeLessThan(limit.perSecond * 10 * 1.1);
  });

  it('lets everything through below the rate, with a few leases a second', async () => {
    const all = sidecars(2, { perSecond: 200, burst: 100 });
    const passed = await load(all, 10_000, [0.125, 0.0625]);
    expect(passed).toEqual([1_250, 625]);
    expect(all.budget.leases).toBeLessThan(120);
  });

  it('decides the first event at once, before any lease came', () => {
    const { clock, buckets } = sidecars(1, { perSecond: 1, burst: 1 });
    expect(buckets[0]?.take(clock.monotonic())).toBe(true);
    expect(buckets[0]?.take(clock.monotonic())).toBe(false);
    expect(buckets[0]?.wait(clock.monotonic())).toBeGreaterThan(0);
  });

  it('holds the rate for each sidecar alone while the store is gone, and together once it is back', async () => {
    const limit = { perSecond: 200, burst: 50 };
    const all = sidecars(2, limit);
    await load(all, 2_000, [2, 2]);
    all.budget.gone = true;
    await load(all, 1_000, [2, 2]);
    const alone = await load(all, 5_000, [2, 2]);
    for (const passed of alone) {
      expect(passed).toBeGreaterThan(900);
      expect(passed).toBeLessThan(1_100);
    }
    all.budget.gone = false;
    await load(all, 2_000, [2, 2]);
    const together = sum(await load(all, 5_000, [2, 2]));
    expect(together).toBeGreaterThan(900);
    expect(together).toBeLessThan(1_100);
  });

  it('gives up what it did not use', async () => {
    const limit = { perSecond: 10, burst: 10 };
    const { clock, budget, buckets } = sidecars(2, limit);
    await load({ clock, buckets: buckets.slice(0, 1) }, 300, [0.02]);
    clock.advance(60_000);
    const passed = sum(await load({ clock, buckets }, 100, [1, 1]));
    expect(passed).toBeLessThanOrEqual(limit.burst + 1 + 2);
    expect(budget.leases).toBeGreaterThan(0);
  });

  it('limits nothing where the rate is 0', async () => {
    const all = sidecars(1, { perSecond: 0, burst: 0 });
    expect(await load(all, 100, [10])).toEqual([1_000]);
    expect(all.buckets[0]?.wait(all.clock.monotonic())).toBe(0);
    expect(all.budget.leases).toBe(0);
  });
});

describe('keyed limits', () => {
  it('has a bucket for each key and forgets the one that was unused longest', () => {
    const clock = new ManualClock();
    const limits = new KeyedLimits({
      scope: 'user',
      limit: { perSecond: 1, burst: 1 },
      budget: undefined,
      clock,
      max: 2,
    });
    const take = (key: string): boolean => limits.bucket(key).take(clock.monotonic());
    expect(['a', 'a', 'b', 'b'].map(take)).toEqual([true, false, true, false]);
    expect(['c', 'b', 'a'].map(take)).toEqual([true, false, true]);
  });

  it('shares keys of one scope between sidecars, and not those of another', async () => {
    const clock = new ManualClock();
    const budget = new MemoryBudget(clock);
    const limit = { perSecond: 100, burst: 10 };
    const [one, two, other] = ['user', 'user', 'ip'].map((scope) =>
      new KeyedLimits({ scope, limit, budget, clock, max: 10 }).bucket('x'),
    ) as [LeasedBucket, LeasedBucket, LeasedBucket];
    const passed = await load({ clock, buckets: [one, two, other] }, 5_000, [1, 1, 1]);
    expect(sum(passed.slice(0, 2))).toBeLessThan(560);
    expect(passed[2]).toBeGreaterThan(450);
  });
});
