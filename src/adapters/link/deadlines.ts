import type { Clock, Timer } from '../../ports/clock.ts';

/** Things that are due the same time after they were added: one timer for all of them. */
export class Deadlines<T> {
  readonly #clock: Clock;
  readonly #milliseconds: number;
  readonly #onDue: (item: T) => void;
  /** In the order in which they fall due. */
  readonly #due = new Map<T, number>();
  #timer: Timer | undefined;

  constructor(clock: Clock, milliseconds: number, onDue: (item: T) => void) {
    this.#clock = clock;
    this.#milliseconds = milliseconds;
    this.#onDue = onDue;
  }

  add(item: T): void {
    this.#due.set(item, this.#clock.monotonic() + this.#milliseconds);
    this.#timer ??= this.#clock.setTimeout(() => this.#expire(), this.#milliseconds);
  }

  delete(item: T): void {
    this.#due.delete(item);
    if (this.#due.size === 0) this.clear();
  }

  clear(): void {
    this.#due.clear();
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #expire(): void {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    for (const [item, due] of this.#due) {
      if (due > now) {
        this.#timer = this.#clock.setTimeout(() => this.#expire(), due - now);
        return;
      }
      this.#due.delete(item);
      this.#onDue(item);
    }
  }
}
