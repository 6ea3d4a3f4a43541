import type { Clock } from '../../ports/clock.ts';

/** An event that nothing came of within this changed nothing. Milliseconds. */
const UNANSWERED = 30_000;
/** A handler may say more after its first word: after so long a silence it has said all. Milliseconds. */
const SETTLED = 2_000;
/** What a worker says so long after the last event, it says of itself: a background handler runs there. Milliseconds. */
const UNASKED = 10_000;

/** Whether nothing of a session can be at work at an unmodified worker, as far as can be seen from outside. */
export class Stillness {
  readonly #clock: Clock;
  #asked = -Infinity;
  #said = -Infinity;
  #hasOwnLife = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The client sent something that has a handler. */
  asked(): void {
    this.#asked = this.#clock.monotonic();
  }

  /** The worker said something. */
  said(): void {
    this.#said = this.#clock.monotonic();
    if (this.#said - this.#asked > UNASKED) this.#hasOwnLife = true;
  }

  get holds(): boolean {
    const now = this.#clock.monotonic();
    const isAnswered = this.#said >= this.#asked && now - this.#said >= SETTLED;
    return !this.#hasOwnLife && (isAnswered || now - this.#asked >= UNANSWERED);
  }
}
