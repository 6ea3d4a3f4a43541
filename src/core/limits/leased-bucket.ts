import type { SharedBudget } from '../../ports/budget.ts';
import type { Clock } from '../../ports/clock.ts';
import { TokenBucket } from '../relay/token-bucket.ts';
import type { RateLimit, RateLimiter } from './rate-limiter.ts';

export interface LeasedBucketOptions {
  /** Names the bucket for every sidecar. */
  readonly key: string;
  readonly limit: RateLimit;
  readonly budget: SharedBudget;
  readonly clock: Clock;
}

/** A lease is meant to last so long at the present pace, and what is left of it is given up after. Milliseconds. */
const LEASE_LENGTH = 500;
const LEASE_EXPIRY = 2_000;
/** Between two requests while the budget has too little, and while it cannot be reached. Milliseconds. */
const MIN_RETRY = 50;
const MAX_RETRY = 1_000;
const STORE_RETRY = 1_000;
/** A lease that is under way is looked for so soon. Milliseconds. */
const LEASE_TIME = 5;
/** What may be taken ahead of the first lease, as a share of a second's tokens; it is paid back out of the leases. */
const CREDIT = 0.05;

/**
 * One sidecar's share of a rate that several share. Tokens are leased ahead in the background, so that `take` never waits; what
 * has to be decided before a lease came is taken on a small credit. Without the shared store the rate holds for each sidecar alone.
 */
export class LeasedBucket implements RateLimiter {
  readonly #options: LeasedBucketOptions;
  /** The rate holds here too: nobody's share is more than the whole. */
  readonly #local: TokenBucket;
  readonly #credit: number;
  /** Below zero: taken on credit. */
  #tokens = 0;
  /** How many tokens a lease should bring. */
  #size = 1;
  #taken = 0;
  #leasedAt: number;
  #nextLease = 0;
  #leasing = false;
  #storeGone = false;

  constructor(options: LeasedBucketOptions) {
    const { limit, clock } = options;
    this.#options = options;
    this.#leasedAt = clock.monotonic();
    this.#local = new TokenBucket(limit, this.#leasedAt);
    this.#credit = Math.max(1, Math.min(limit.burst, limit.perSecond * CREDIT));
  }

  take(now: number): boolean {
    if (this.#options.limit.perSecond === 0) return true;
    this.#expire(now);
    const allowed = (this.#storeGone || this.#tokens - 1 >= -this.#credit) && this.#local.take(now);
    if (allowed) {
      this.#taken++;
      if (!this.#storeGone) this.#tokens--;
    }
    this.#leaseAhead(now, allowed ? 0 : 1);
    return allowed;
  }

  wait(now: number): number {
    const local = this.#local.wait(now);
    if (this.#options.limit.perSecond === 0 || this.#storeGone || this.#tokens - 1 >= -this.#credit) return local;
    return Math.max(local, this.#nextLease - now, LEASE_TIME);
  }

  /** What nobody used in time belongs to the others again. */
  #expire(now: number): void {
    if (this.#tokens > 0 && now - this.#leasedAt > LEASE_EXPIRY) this.#tokens = 0;
  }

  #leaseAhead(now: number, refused: number): void {
    if (this.#leasing || now < this.#nextLease) return;
    if (!this.#storeGone && this.#tokens >= this.#size / 2) return;
    const { perSecond, burst } = this.#options.limit;
    const pace = (this.#taken + refused) / Math.max(now - this.#leasedAt, MIN_RETRY);
    const most = Math.max(1, Math.min(burst, (perSecond * LEASE_LENGTH) / 1000));
    this.#size = Math.max(1, Math.min(most, Math.ceil(pace * LEASE_LENGTH)));
    // Without the store nothing was owed to it.
    const wanted = Math.ceil(this.#size - (this.#storeGone ? 0 : this.#tokens));
    this.#leasing = true;
    void this.#lease(wanted);
  }

  async #lease(wanted: number): Promise<void> {
    const { key, limit, budget, clock } = this.#options;
    try {
      const granted = await budget.lease(key, wanted, limit);
      if (this.#storeGone) this.#tokens = 0;
      this.#storeGone = false;
      this.#tokens += granted;
      // An empty budget is asked again when it can have refilled a little.
      const retry = Math.min(MAX_RETRY, Math.max(MIN_RETRY, 1000 / limit.perSecond));
      this.#nextLease = clock.monotonic() + (granted < wanted ? retry : 0);
    } catch {
      this.#storeGone = true;
      this.#nextLease = clock.monotonic() + STORE_RETRY;
    }
    this.#leasedAt = clock.monotonic();
    this.#taken = 0;
    this.#leasing = false;
  }
}
