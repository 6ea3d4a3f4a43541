import type { Clock } from '../../ports/clock.ts';

/** At a time: users of events come first at whoever answers. */
const LANES = 16;
const MAX_WAITING = 50_000;
/** What waited for longer is not worth asking any more. Milliseconds. */
const PATIENCE = 30_000;

interface Waiting {
  readonly until: number;
  readonly look: () => Promise<void>;
  readonly tooLate: () => void;
}

/** Questions that nobody waits for: a few at a time, in their order. */
export class Lookups {
  readonly #clock: Clock;
  #waiting: Waiting[] = [];
  #next = 0;
  #lanes = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `look`, which MUST NOT reject, or `tooLate`. False where too many wait. */
  add(look: () => Promise<void>, tooLate: () => void): boolean {
    if (this.#waiting.length - this.#next >= MAX_WAITING) return false;
    this.#waiting.push({ until: this.#clock.monotonic() + PATIENCE, look, tooLate });
    if (this.#lanes < LANES) void this.#lane();
    return true;
  }

  async #lane(): Promise<void> {
    this.#lanes++;
    for (let one = this.#take(); one !== undefined; one = this.#take()) {
      if (one.until > this.#clock.monotonic()) await one.look();
      else one.tooLate();
    }
    this.#lanes--;
  }

  #take(): Waiting | undefined {
    const one = this.#waiting[this.#next++];
    if (one !== undefined && this.#next < 1_000) return one;
    this.#waiting = this.#waiting.slice(this.#next);
    this.#next = 0;
    return one;
  }
}
