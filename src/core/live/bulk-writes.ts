import type { Clock, Timer } from '../../ports/clock.ts';

/** So many rows of one model within the window are a bulk write. */
const MANY = 100;
/** Milliseconds. */
const WINDOW = 100;
/** It is over when no row has come for so long. Milliseconds. */
const QUIET = 100;
/** One that goes on for longer is over for as long, so that lists follow it. Milliseconds. */
const LONGEST = 1_000;

interface Model {
  /** Of the window, or of the last row while it is under way. */
  since: number;
  count: number;
  /** While it is under way. */
  begun: number | undefined;
  freeUntil: number;
  timer: Timer | undefined;
}

/** Tells bulk writes: their rows come for a while, and a list that is read anew amid them has to be read again behind them. */
export class BulkWrites {
  readonly #clock: Clock;
  readonly #onOver: () => void;
  readonly #models = new Map<string, Model>();

  /** `onOver`: one has ended. */
  constructor(clock: Clock, onOver: () => void) {
    this.#clock = clock;
    this.#onOver = onOver;
  }

  /** So many rows of this model have come. Whether they are part of a bulk write. */
  rows(model: string, count: number): boolean {
    const now = this.#clock.monotonic();
    const state = this.#models.get(model) ?? {
      since: now,
      count: 0,
      begun: undefined,
      freeUntil: now,
      timer: undefined,
    };
    this.#models.set(model, state);
    if (state.begun !== undefined) {
      state.since = now;
      return true;
    }
    if (now - state.since >= WINDOW) [state.since, state.count] = [now, 0];
    state.count += count;
    if (state.count < MANY || now < state.freeUntil) return false;
    state.begun = now;
    this.#watch(state);
    return true;
  }

  underWay(model: string): boolean {
    return this.#models.get(model)?.begun !== undefined;
  }

  close(): void {
    for (const { timer } of this.#models.values()) timer?.cancel();
    this.#models.clear();
  }

  #watch(state: Model): void {
    const now = this.#clock.monotonic();
    const wait = Math.min(state.since + QUIET, (state.begun ?? now) + LONGEST) - now;
    state.timer = this.#clock.setTimeout(() => this.#look(state), Math.max(1, wait));
  }

  #look(state: Model): void {
    const now = this.#clock.monotonic();
    const isLong = now - (state.begun ?? now) >= LONGEST;
    if (!isLong && now - state.since < QUIET) return this.#watch(state);
    if (isLong) state.freeUntil = now + LONGEST;
    [state.begun, state.since, state.count] = [undefined, now, 0];
    this.#onOver();
  }
}
