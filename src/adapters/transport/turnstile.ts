/** WebSockets that begin in one turn of the event loop, some 0.3 ms each. */
export const BEGINS_PER_TURN = 8;

/**
 * Lets so many through in one turn of the event loop, in the order in which they came: a crowd that comes at once must not make a turn
 * so long that everybody else waits for its end. Who comes while few do goes through at once.
 */
export class Turnstile {
  readonly #perTurn: number;
  #places: number;
  #waiting: (() => void)[] = [];
  #isTurning = false;

  constructor(perTurn: number) {
    this.#perTurn = perTurn;
    this.#places = perTurn;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** `enter` is called once: now, or in a later turn. It MUST NOT throw. */
  pass(enter: () => void): void {
    if (!this.#isTurning) {
      this.#isTurning = true;
      setImmediate(this.#turn);
    }
    if (this.#places === 0) {
      this.#waiting.push(enter);
      return;
    }
    this.#places--;
    enter();
  }

  readonly #turn = (): void => {
    const next = this.#waiting.splice(0, this.#perTurn);
    this.#places = this.#perTurn - next.length;
    // Until a turn in which nobody came.
    this.#isTurning = next.length > 0;
    if (this.#isTurning) setImmediate(this.#turn);
    for (const enter of next) enter();
  };
}
