import type { SharedBudget } from '../../src/ports/budget.ts';
import type { Clock } from '../../src/ports/clock.ts';

/** One budget for several buckets of a test, by its clock. Runs through the same conformance suite as Redis. */
export class MemoryBudget implements SharedBudget {
  readonly #clock: Clock;
  readonly #states = new Map<string, { tokens: number; at: number }>();
  leases = 0;
  gone = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  lease(key: string, wanted: number, { perSecond, burst }: { perSecond: number; burst: number }): Promise<number> {
    if (this.gone) return Promise.reject(new Error('gone'));
    this.leases++;
    const now = this.#clock.monotonic();
    const { tokens, at } = this.#states.get(key) ?? { tokens: burst, at: now };
    const there = Math.min(burst, tokens + ((now - at) * perSecond) / 1000);
    const granted = Math.min(wanted, Math.floor(there));
    this.#states.set(key, { tokens: there - granted, at: now });
    return Promise.resolve(granted);
  }
}
