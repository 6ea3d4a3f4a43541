import type { Clock, Timer } from '../../ports/clock.ts';
import { merged, rowKey, type Row } from './row.ts';

interface Window {
  readonly until: number;
  /** What came since it was opened, as one change. */
  row: Row | undefined;
}

/** Rows with an open window; further ones pass as they come. */
const MAX_WINDOWS = 50_000;

/**
 * Coalesces: the first change of a row passes at once and opens a window, later ones become one that passes when the window ends, and opens
 * the next. A row's changes pass in their order.
 */
export class RowWindows {
  readonly #clock: Clock;
  readonly #milliseconds: number;
  readonly #pass: (rows: readonly Row[]) => void;
  /** In the order in which they end: all are of one length. */
  readonly #windows = new Map<string, Window>();
  #timer: Timer | undefined;

  /** `milliseconds` 0: everything passes at once. */
  constructor(clock: Clock, milliseconds: number, pass: (rows: readonly Row[]) => void) {
    this.#clock = clock;
    this.#milliseconds = milliseconds;
    this.#pass = pass;
  }

  /** Returns how many were merged into others. */
  push(rows: readonly Row[]): number {
    const first: Row[] = [];
    let count = 0;
    for (const row of rows) {
      const window = this.#windows.get(rowKey(row));
      if (window === undefined) {
        first.push(row);
        this.#open(row);
      } else if (window.row === undefined) window.row = row;
      else {
        window.row = merged(window.row, row);
        count++;
      }
    }
    if (first.length > 0) this.#pass(first);
    this.#watch();
    return count;
  }

  close(): void {
    this.#timer?.cancel();
    this.#windows.clear();
  }

  #open(row: Row): void {
    if (this.#milliseconds === 0 || this.#windows.size >= MAX_WINDOWS) return;
    this.#windows.set(rowKey(row), { until: this.#clock.monotonic() + this.#milliseconds, row: undefined });
  }

  #watch(): void {
    if (this.#timer !== undefined) return;
    const next = this.#windows.values().next();
    if (next.done === true) return;
    const wait = Math.max(1, next.value.until - this.#clock.monotonic());
    this.#timer = this.#clock.setTimeout(() => this.#expire(), wait);
  }

  #expire(): void {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    const rows: Row[] = [];
    for (const [key, { until, row }] of this.#windows) {
      if (until > now) break;
      this.#windows.delete(key);
      if (row !== undefined) rows.push(row);
    }
    for (const row of rows) this.#open(row);
    if (rows.length > 0) this.#pass(rows);
    this.#watch();
  }
}
