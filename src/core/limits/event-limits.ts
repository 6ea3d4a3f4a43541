import type { RateLimiter } from './rate-limiter.ts';

/**
 * What an event must pass: its session's own rate, then those that it shares with other sessions of its address and user. A token
 * that was taken stays taken while the next limiter has none: nothing is paid twice.
 */
export class EventLimits implements RateLimiter {
  readonly #limiters: RateLimiter[];
  /** How many of them the event at the head has passed already. */
  #passed = 0;

  constructor(limiters: readonly RateLimiter[]) {
    this.#limiters = [...limiters];
  }

  add(limiter: RateLimiter): void {
    this.#limiters.push(limiter);
  }

  take(now: number): boolean {
    while (this.#passed < this.#limiters.length) {
      if (this.#limiters[this.#passed]?.take(now) === false) return false;
      this.#passed++;
    }
    this.#passed = 0;
    return true;
  }

  wait(now: number): number {
    return this.#limiters[this.#passed]?.wait(now) ?? 0;
  }
}
