import type { Readable } from 'node:stream';
import type { Clock, Timer } from '../../ports/clock.ts';

/** `idle`: the sender stopped in the middle; `silent`: what was sent, or is not taken, gets no answer. */
export type TransferFault = 'too_large' | 'idle' | 'silent';

export interface TransferLimits {
  /** Bytes; 0 for none. */
  readonly limit: number;
  /** How long a body that is wanted may stand still, and how long the other side may take over its answer. Milliseconds. */
  readonly idle: number;
  readonly answer: number;
}

/** Watches a transfer: how much came, and whether it still moves. A fault comes within `idle` after its time. */
export class ByteMeter {
  bytes = 0;
  readonly #clock: Clock;
  readonly #limits: TransferLimits;
  readonly #onFault: (fault: TransferFault) => void;
  readonly #timer: Timer;
  /** What still comes in. */
  #body: Readable | undefined;
  #moved = true;
  /** When it was last seen to have moved. */
  #movedAt = 0;

  constructor(clock: Clock, limits: TransferLimits, onFault: (fault: TransferFault) => void) {
    this.#clock = clock;
    this.#limits = limits;
    this.#onFault = onFault;
    this.#timer = this.#clock.setInterval(() => this.#check(), limits.idle);
  }

  watch(body: Readable): void {
    this.#body = body;
    body.once('end', () => {
      this.#body = undefined;
      this.#moved = true;
    });
    body.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length;
      this.#moved = true;
      if (this.#limits.limit > 0 && this.bytes > this.#limits.limit) this.#onFault('too_large');
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

  #check(): void {
    const now = this.#clock.monotonic();
    if (this.#moved) {
      this.#moved = false;
      this.#movedAt = now;
      return;
    }
    // A body that is not read is no fault of its sender.
    if (this.#body !== undefined && !this.#body.isPaused()) this.#onFault('idle');
    else if (now - this.#movedAt >= this.#limits.answer) this.#onFault('silent');
  }
}
