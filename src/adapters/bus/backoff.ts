import type { Clock, Timer } from '../../ports/clock.ts';

const FIRST = 100;

/** Waits between tries: twice as long each time up to `longest`, with jitter, so that processes do not come back together. */
export class Backoff {
  readonly #clock: Clock;
  readonly #longest: number;
  #tries = 0;
  #wake = (): void => undefined;
  #closed = false;

  /** Milliseconds; default 5,000. */
  constructor(clock: Clock, longest = 5_000) {
    this.#clock = clock;
    this.#longest = longest;
  }

  /** It worked: the next wait is short again. */
  reset(): void {
    this.#tries = 0;
  }

  /** Resolves after the next wait, or at once when closed. */
  async wait(): Promise<void> {
    if (this.#closed) return;
    const most = Math.min(this.#longest, FIRST * 2 ** Math.min(this.#tries++, 10));
    let timer: Timer | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = this.#clock.setTimeout(resolve, most / 2 + (Math.random() * most) / 2);
    });
    timer?.cancel();
  }

  close(): void {
    this.#closed = true;
    this.#wake();
  }
}
