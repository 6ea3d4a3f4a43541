import type { Readable } from 'node:stream';
import type { Clock, Timer } from '../../ports/clock.ts';

/** Watches a transfer: how much came, and whether it still moves. */
export class ByteMeter {
  bytes = 0;
  readonly #clock: Clock;
  readonly #limit: number;
  readonly #onFault: (fault: 'too_large' | 'idle') => void;
  readonly #timer: Timer;
  #moved = true;

  /** `limit` in bytes, 0 for none; `idle` in milliseconds: the fault comes within twice that. */
  constructor(clock: Clock, options: { limit: number; idle: number }, onFault: (fault: 'too_large' | 'idle') => void) {
    this.#clock = clock;
    this.#limit = options.limit;
    this.#onFault = onFault;
    this.#timer = this.#clock.setInterval(() => this.#checkIdle(), options.idle);
  }

  watch(body: Readable): void {
    body.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length;
      this.#moved = true;
      if (this.#limit > 0 && this.bytes > this.#limit) this.#onFault('too_large');
    });
    // Listening must not start the flow: whoever takes the data does.
    body.pause();
  }

  progress(): void {
    this.#moved = true;
  }

  stop(): void {
    this.#timer.cancel();
  }

  #checkIdle(): void {
    if (!this.#moved) this.#onFault('idle');
    this.#moved = false;
  }
}
