import type { Invalidation } from '../../ports/auth.ts';
import type { Clock } from '../../ports/clock.ts';

/** More than anybody invalidates in the seconds of a flight. What is forgotten counts as invalidated. */
const MAX_REMEMBERED = 10_000;
/** Another sidecar's clock may be ahead of this one's by as much. Milliseconds. */
const SKEW = 5_000;

interface Moment {
  readonly sequence: number;
  /** Unix milliseconds. */
  readonly at: number;
}

/** Tells whether something was invalidated since a flight began, or since an answer was made elsewhere. */
export class Invalidations {
  readonly #clock: Clock;
  readonly #moments = new Map<string, Moment>();
  #sequence = 0;
  /** When everything was invalidated. Of what was before its begin this process has heard nothing. */
  #all: Moment;
  /** Every invalidation up to here may be forgotten. */
  #floor: Moment;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#all = { sequence: 0, at: clock.now() };
    this.#floor = this.#all;
  }

  /** Now, for a later `since`. */
  get mark(): number {
    return this.#sequence;
  }

  add(what: Invalidation): void {
    const moment = { sequence: ++this.#sequence, at: this.#clock.now() };
    if ('all' in what) {
      this.#all = moment;
      return;
    }
    const key = 'user' in what ? `u ${what.user}` : `s ${what.session}`;
    this.#moments.delete(key);
    this.#moments.set(key, moment);
    if (this.#moments.size <= MAX_REMEMBERED) return;
    for (const [oldest, forgotten] of this.#moments) {
      this.#floor = forgotten;
      this.#moments.delete(oldest);
      break;
    }
  }

  /** Whether this session, or the user it was found to be, was invalidated after `mark`. */
  since(mark: number, session: string, user: string | undefined): boolean {
    return this.#some(session, user, ({ sequence }) => sequence > mark);
  }

  /** The same for an answer that another sidecar may have made: `at` in Unix milliseconds. When in doubt it was. */
  sinceMade(at: number, session: string, user: string | undefined): boolean {
    return this.#some(session, user, (moment) => at <= moment.at + SKEW);
  }

  #some(session: string, user: string | undefined, isLate: (moment: Moment) => boolean): boolean {
    if (isLate(this.#all) || isLate(this.#floor)) return true;
    const ofSession = this.#moments.get(`s ${session}`);
    if (ofSession !== undefined && isLate(ofSession)) return true;
    const ofUser = user === undefined ? undefined : this.#moments.get(`u ${user}`);
    return ofUser !== undefined && isLate(ofUser);
  }
}
