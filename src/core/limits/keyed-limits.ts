import { LRUCache } from 'lru-cache';
import type { SharedBudget } from '../../ports/budget.ts';
import type { Clock } from '../../ports/clock.ts';
import { TokenBucket } from '../relay/token-bucket.ts';
import { LeasedBucket } from './leased-bucket.ts';
import type { RateLimit, RateLimiter } from './rate-limiter.ts';

export interface KeyedLimitsOptions {
  readonly limit: RateLimit;
  /** Names the kind of key beside other limits, such as `user`. */
  readonly scope: string;
  /** Undefined: every sidecar counts for itself. */
  readonly budget: SharedBudget | undefined;
  readonly clock: Clock;
  /** Keys in memory; the one that was unused longest is forgotten first. */
  readonly max: number;
}

/** The same limit for many keys: a bucket for each user, or address. */
export class KeyedLimits {
  readonly #options: KeyedLimitsOptions;
  readonly #buckets: LRUCache<string, RateLimiter>;

  constructor(options: KeyedLimitsOptions) {
    this.#options = options;
    this.#buckets = new LRUCache({ max: options.max });
  }

  bucket(key: string): RateLimiter {
    const known = this.#buckets.get(key);
    if (known !== undefined) return known;
    const made = this.#make(key);
    this.#buckets.set(key, made);
    return made;
  }

  #make(key: string): RateLimiter {
    const { limit, scope, budget, clock } = this.#options;
    if (budget === undefined) return new TokenBucket(limit, clock.monotonic());
    return new LeasedBucket({ key: `${scope} ${key}`, limit, budget, clock });
  }
}
