import { describe, expect, it } from 'vitest';
import { departure } from '../../../src/core/gateway/departure.ts';
import { ManualClock } from '../../support/manual-clock.ts';

/** When each of so many sessions was closed, in milliseconds from the beginning. */
async function departures(count: number, bound: number): Promise<number[]> {
  const clock = new ManualClock();
  const closed: number[] = [];
  const sessions = Array.from({ length: count }, () => ({ close: () => void closed.push(clock.monotonic()) }));
  const ended = new AbortController();
  const done = departure(sessions, bound, clock).then(() => ended.abort());
  while (!ended.signal.aborted) {
    clock.advance(5);
    await Promise.resolve();
  }
  await done;
  return closed;
}

describe('the departure of a sidecar', () => {
  it('is over at once for a few sessions', async () => {
    expect(await departures(0, 20_000)).toEqual([]);
    expect(await departures(10, 20_000)).toEqual(Array.from({ length: 10 }, () => 0));
  });

  it('lets 500 sessions go each second', async () => {
    const closed = await departures(5_000, 20_000);
    expect(closed).toHaveLength(5_000);
    for (let second = 0; second < 10; second++) {
      const count = closed.filter((at) => at >= second * 1000 && at < (second + 1) * 1000).length;
      expect(count).toBeGreaterThan(450);
      expect(count).toBeLessThan(550);
    }
  });

  it('keeps to its time, however many they are', async () => {
    const closed = await departures(50_000, 10_000);
    expect(closed).toHaveLength(50_000);
    expect(Math.max(...closed.slice(-1))).toBeLessThanOrEqual(10_000);
    expect(closed[25_000]).toBeGreaterThan(4_500);
  });
});
