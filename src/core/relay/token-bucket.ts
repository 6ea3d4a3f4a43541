/** Limits a rate: `burst` at once, `perSecond` in the long run. 0 means no limit, for either of them. */
export class TokenBucket {
  readonly #perMillisecond: number;
  readonly #burst: number;
  #tokens: number;
  #updated: number;

  constructor(limit: { readonly perSecond: number; readonly burst: number }, now: number) {
    this.#perMillisecond = limit.perSecond / 1000;
    this.#burst = limit.burst === 0 ? Infinity : Math.max(1, limit.burst);
    this.#tokens = this.#burst;
    this.#updated = now;
  }

  /** Takes one token; false where there is none yet. `now` in milliseconds, never backwards. */
  take(now: number): boolean {
    if (this.#perMillisecond === 0) return true;
    this.#refill(now);
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Milliseconds until the next token. */
  wait(now: number): number {
    if (this.#perMillisecond === 0) return 0;
    this.#refill(now);
    return this.#tokens >= 1 ? 0 : Math.ceil((1 - this.#tokens) / this.#perMillisecond);
  }

  #refill(now: number): void {
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#updated) * this.#perMillisecond);
    this.#updated = now;
  }
}
