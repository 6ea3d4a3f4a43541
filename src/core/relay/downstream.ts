import type { Timer } from '../../ports/clock.ts';
import type { EngineSession } from '../engine/engine-session.ts';
import type { LatencyWatch } from './latency-watch.ts';
import type { RelayContext } from './relay-context.ts';
import type { SessionChannel } from './session-channel.ts';

/** How long a client may take to read what is over its limit before it is closed. Milliseconds. */
export const SLOW_CLIENT_GRACE = 30_000;
/** Messages of the sidecar's own that a client may leave unread: nobody can be held back for them. Bytes. */
const MOST_SAID = 1024 * 1024;

/**
 * The messages on their way to the client: the worker's as the bytes they came in, and the sidecar's own. What waits is counted among
 * what waits in all sessions. A client that reads slowly holds the worker back, and is given up when it does not catch up.
 */
export class Downstream {
  readonly #context: RelayContext;
  readonly #engine: EngineSession;
  readonly #latency: LatencyWatch;
  readonly #onTooSlow: () => void;
  #held: { readonly channel: SessionChannel; readonly timer: Timer } | undefined;
  /** Bytes that the budget knows of. */
  #counted = 0;
  /** Bytes of the sidecar's own messages since the client had read everything. */
  #said = 0;

  constructor(context: RelayContext, engine: EngineSession, latency: LatencyWatch, onTooSlow: () => void) {
    this.#context = context;
    this.#engine = engine;
    this.#latency = latency;
    this.#onTooSlow = onTooSlow;
  }

  message(frame: Buffer, binary: boolean, channel: SessionChannel | undefined): void {
    const { metrics, clock, limits, budget } = this.#context;
    metrics.clientBytes('out', frame.length);
    if (!binary) this.#latency.frame(frame, () => clock.monotonic());
    if (this.#engine.send(frame, binary) !== 'queued') return;
    const waiting = this.count();
    // One message of any size may wait; what comes on top of it must keep to the limit.
    const isOver = limits.queueBytes > 0 && waiting > limits.queueBytes + frame.length;
    if (isOver || budget.crowded) this.#hold(channel);
  }

  /** A message that no worker made: text with its leading `4`. */
  say(frame: string | Buffer): void {
    if (this.#engine.send(frame, false) !== 'queued') return;
    this.count();
    this.#said += frame.length;
    if (this.#said > MOST_SAID) this.#onTooSlow();
  }

  /** Brings the budget up to date; returns the bytes that wait for the client. */
  count(): number {
    const { budget } = this.#context;
    const waiting = this.#engine.bufferedBytes;
    budget.add(waiting - this.#counted);
    this.#counted = waiting;
    if (budget.crowded) this.#context.relieve();
    return waiting;
  }

  #hold(channel: SessionChannel | undefined): void {
    if (this.#held !== undefined || channel === undefined) return;
    channel.pause();
    this.#held = { channel, timer: this.#context.clock.setTimeout(this.#onTooSlow, SLOW_CLIENT_GRACE) };
  }

  /** The client has read everything. */
  drained(): void {
    this.count();
    this.#said = 0;
    const held = this.#held;
    if (held === undefined) return;
    this.#release();
    held.channel.resume();
  }

  stop(): void {
    this.#release();
    this.#context.budget.add(-this.#counted);
    this.#counted = 0;
  }

  #release(): void {
    this.#held?.timer.cancel();
    this.#held = undefined;
  }
}
