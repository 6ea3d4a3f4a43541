import { LRUCache } from 'lru-cache';
import type { Invalidation } from '../../ports/auth.ts';
import type { Clock } from '../../ports/clock.ts';

/** A replica may lag so long behind what was invalidated. Milliseconds. */
const LAG = 30_000;
const MAX_REMEMBERED = 50_000;

/** Sessions and users that a replica may still show as they were. */
export class RecentlyInvalidated {
  readonly #clock: Clock;
  readonly #until: LRUCache<string, number>;
  /** Of what was invalidated just before the start nothing is known. */
  #everythingUntil: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#everythingUntil = clock.monotonic() + LAG;
    this.#until = new LRUCache({
      max: MAX_REMEMBERED,
      // More than can be remembered: rather the primary for everybody than a replica too early.
      dispose: (until, _, reason) => {
        if (reason === 'evict') this.#everythingUntil = Math.max(this.#everythingUntil, until);
      },
    });
  }

  add(what: Invalidation): void {
    const until = this.#clock.monotonic() + LAG;
    if ('all' in what) this.#everythingUntil = until;
    else this.#until.set('user' in what ? `u ${what.user}` : `s ${what.session}`, until);
  }

  hasSession(session: string): boolean {
    return this.#has(`s ${session}`);
  }

  hasUser(user: string): boolean {
    return this.#has(`u ${user}`);
  }

  #has(name: string): boolean {
    const now = this.#clock.monotonic();
    return now < this.#everythingUntil || now < (this.#until.get(name) ?? 0);
  }
}
