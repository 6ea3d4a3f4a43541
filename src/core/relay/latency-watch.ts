import type { HandlerMeter } from '../../ports/metrics.ts';

/** Events beyond this many without an update are not measured. */
const MAX_WAITING = 64;
/** An event that had no update for so long had none: its handler changed nothing. Milliseconds. */
const MAX_AGE = 30_000;

const EVENT_TYPE = 0x32;

/**
 * Measures the time from an event to the first update of its session after it. On a direct channel this is an
 * estimate: a handler that changes nothing sends nothing, and an update names no event.
 */
export class LatencyWatch {
  readonly #updatePrefix: Buffer;
  #meters: HandlerMeter[] = [];
  #times: number[] = [];
  /** When the latest event came that has had no update. */
  #latest: number | undefined;

  /** `updatePrefix`: how an update's frame begins, for example `42/_event,["event"`. */
  constructor(updatePrefix: Buffer) {
    this.#updatePrefix = updatePrefix;
  }

  /** Whether an event of the last `milliseconds` has had no update yet: its handler may still run. */
  waiting(now: number, milliseconds: number): boolean {
    return this.#latest !== undefined && now - this.#latest < milliseconds;
  }

  begin(meter: HandlerMeter, now: number): void {
    this.#latest = now;
    this.#forget(now);
    if (this.#times.length >= MAX_WAITING) return;
    this.#meters.push(meter);
    this.#times.push(now);
  }

  /** `now` is called only where something was waiting. Milliseconds. */
  frame(frame: Buffer, now: () => number): void {
    if (this.#latest === undefined || frame[1] !== EVENT_TYPE) return;
    const prefix = this.#updatePrefix;
    if (frame.length < prefix.length || frame.compare(prefix, 0, prefix.length, 0, prefix.length) !== 0) return;
    const at = now();
    this.#latest = undefined;
    this.#forget(at);
    for (const [index, meter] of this.#meters.entries())
      meter.firstUpdate((at - (this.#times[index] as number)) / 1000);
    this.#meters = [];
    this.#times = [];
  }

  #forget(now: number): void {
    const fresh = this.#times.findIndex((time) => now - time < MAX_AGE);
    const stale = fresh === -1 ? this.#times.length : fresh;
    if (stale === 0) return;
    this.#times.splice(0, stale);
    this.#meters.splice(0, stale);
  }
}
