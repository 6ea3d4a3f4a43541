import type { Invalidation } from '../../ports/auth.ts';

/** Flights last seconds: what is older than this many invalidations cannot concern one. */
const MAX_REMEMBERED = 10_000;

/** Tells whether something was invalidated since a flight began. */
export class Invalidations {
  #sequence = 0;
  #all = 0;
  /** Every invalidation up to here may be forgotten: a flight older than that is told yes. */
  #floor = 0;
  readonly #keys = new Map<string, number>();

  /** Now, for a later `since`. */
  get mark(): number {
    return this.#sequence;
  }

  add(what: Invalidation): void {
    this.#sequence++;
    if ('all' in what) {
      this.#all = this.#sequence;
      return;
    }
    const key = 'user' in what ? `u ${what.user}` : `s ${what.session}`;
    this.#keys.delete(key);
    this.#keys.set(key, this.#sequence);
    if (this.#keys.size <= MAX_REMEMBERED) return;
    for (const [oldest, at] of this.#keys) {
      this.#floor = at;
      this.#keys.delete(oldest);
      break;
    }
  }

  /** Whether this session, or the user it was found to be, was invalidated after `mark`. */
  since(mark: number, session: string, user: string | undefined): boolean {
    if (this.#all > mark || this.#floor > mark) return true;
    if ((this.#keys.get(`s ${session}`) ?? 0) > mark) return true;
    return user !== undefined && (this.#keys.get(`u ${user}`) ?? 0) > mark;
  }
}
