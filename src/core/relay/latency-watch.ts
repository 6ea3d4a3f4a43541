import type { HandlerMeter } from '../../ports/metrics.ts';

/** Events beyond this many without an update are not measured. */
const MAX_WAITING = 64;
/** An event that had no update for so long had none: its handler changed nothing. Milliseconds. */
const MAX_AGE = 30_000;

/**
 * Measures the time from an event to the first update of its session after it. On a direct channel this is an
 * estimate: a handler that changes nothing sends nothing, and an update names no event.
 */
export class LatencyWatch {
  readonly #updatePrefix: Buffer;
  readonly #meters: HandlerMeter[] = [];
  readonly #times: number[] = [];
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
    if (this.#latest === undefined || !startsWith(frame, this.#updatePrefix)) return;
    const at = now();
    this.#latest = undefined;
    this.#forget(at);
    const [meters, times] = [this.#meters, this.#times];
    for (let index = 0; index < meters.length; index++) {
      (meters[index] as HandlerMeter).firstUpdate((at - (times[index] as number)) / 1000);
    }
    meters.length = times.length = 0;
  }

  #forget(now: number): void {
    let stale = 0;
    while (stale < this.#times.length && now - (this.#times[stale] as number) >= MAX_AGE) stale++;
    if (stale === 0) return;
    this.#times.splice(0, stale);
    this.#meters.splice(0, stale);
  }
}

/** Of a few bytes, for which `compare` costs more than it saves. */
function startsWith(data: Buffer, prefix: Buffer): boolean {
  if (data.length < prefix.length) return false;
  for (let index = 0; index < prefix.length; index++) if (data[index] !== prefix[index]) return false;
  return true;
}
