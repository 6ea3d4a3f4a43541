import type { Timer } from '../../ports/clock.ts';
import type { EngineSession } from '../engine/engine-session.ts';
import type { LatencyWatch } from './latency-watch.ts';
import type { RelayContext } from './relay-context.ts';
import type { SessionChannel } from './session-channel.ts';

/** How long a client may take to read what is over its limit before it is closed. Milliseconds. */
export const SLOW_CLIENT_GRACE = 30_000;

/**
 * The worker's messages on their way to the client, as the bytes they came in. A client that reads slowly holds the
 * worker back, and is given up when it does not catch up.
 */
export class Downstream {
  readonly #context: RelayContext;
  readonly #engine: EngineSession;
  readonly #latency: LatencyWatch;
  readonly #onTooSlow: () => void;
  #held: { readonly channel: SessionChannel; readonly timer: Timer; readonly bytes: number } | undefined;

  constructor(context: RelayContext, engine: EngineSession, latency: LatencyWatch, onTooSlow: () => void) {
    this.#context = context;
    this.#engine = engine;
    this.#latency = latency;
    this.#onTooSlow = onTooSlow;
  }

  message(frame: Buffer, binary: boolean, channel: SessionChannel | undefined): void {
    const { metrics, clock, limits } = this.#context;
    metrics.clientBytes('out', frame.length);
    if (!binary) this.#latency.frame(frame, () => clock.monotonic());
    const result = this.#engine.send(frame, binary);
    if (result !== 'queued' || limits.queueBytes === 0) return;
    const waiting = this.#engine.bufferedBytes;
    // One message of any size may wait; what comes on top of it must keep to the limit.
    if (waiting > limits.queueBytes + frame.length) this.#hold(channel, waiting);
  }

  #hold(channel: SessionChannel | undefined, bytes: number): void {
    if (this.#held !== undefined || channel === undefined) return;
    const { budget, clock } = this.#context;
    if (!budget.fits(bytes)) {
      this.#onTooSlow();
      return;
    }
    channel.pause();
    budget.add(bytes);
    this.#held = { channel, bytes, timer: clock.setTimeout(this.#onTooSlow, SLOW_CLIENT_GRACE) };
  }

  /** The client has read everything. */
  drained(): void {
    const held = this.#held;
    if (held === undefined) return;
    this.stop();
    held.channel.resume();
  }

  stop(): void {
    this.#held?.timer.cancel();
    if (this.#held !== undefined) this.#context.budget.add(-this.#held.bytes);
    this.#held = undefined;
  }
}
