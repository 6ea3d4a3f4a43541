import type { Clock, Timer } from '../../src/ports/clock.ts';

interface Entry {
  due: number;
  readonly every: number | undefined;
  readonly callback: () => void;
}

/** Time that stands still until a test moves it. Timers fire in the order they fall due. */
export class ManualClock implements Clock {
  #time = 0;
  readonly #base: number;
  readonly #entries = new Set<Entry>();

  /** `base`: Unix milliseconds at the start. */
  constructor(base = Date.UTC(2030, 0, 1)) {
    this.#base = base;
  }

  /** Timers that still wait: none of them is a leak unless its owner is gone. */
  get timers(): number {
    return this.#entries.size;
  }

  now(): number {
    return this.#base + this.#time;
  }

  monotonic(): number {
    return this.#time;
  }

  setTimeout(callback: () => void, milliseconds: number): Timer {
    return this.#add(callback, milliseconds, undefined);
  }

  setInterval(callback: () => void, milliseconds: number): Timer {
    return this.#add(callback, milliseconds, milliseconds);
  }

  advance(milliseconds: number): void {
    const end = this.#time + milliseconds;
    for (let entry = this.#next(end); entry !== undefined; entry = this.#next(end)) {
      this.#time = Math.max(this.#time, entry.due);
      if (entry.every === undefined) this.#entries.delete(entry);
      else entry.due += entry.every;
      entry.callback();
    }
    this.#time = end;
  }

  #next(end: number): Entry | undefined {
    let next: Entry | undefined;
    for (const entry of this.#entries)
      if (entry.due <= end && (next === undefined || entry.due < next.due)) next = entry;
    return next;
  }

  #add(callback: () => void, milliseconds: number, every: number | undefined): Timer {
    const entry: Entry = { due: this.#time + Math.max(0, milliseconds), every, callback };
    this.#entries.add(entry);
    return { cancel: () => void this.#entries.delete(entry) };
  }
}
