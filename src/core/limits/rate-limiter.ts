/** A rate: `perSecond` in the long run, `burst` at once. `perSecond` 0 means no limit. */
export interface RateLimit {
  readonly perSecond: number;
  readonly burst: number;
}

/** Decides at once, without I/O. `now` in milliseconds, never backwards. */
export interface RateLimiter {
  /** Takes one token; false where there is none yet. */
  take(now: number): boolean;
  /** Milliseconds until it is worth asking again. */
  wait(now: number): number;
}
