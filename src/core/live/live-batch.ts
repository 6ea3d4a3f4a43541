import { MAX_LIVE_ROWS } from '../../protocol/link-live.ts';
import { merged, rowBytes, type Row } from './row.ts';

/** Bytes that all batches together may hold; whoever comes on top reads its list anew instead. */
export class LiveBudget {
  readonly #limit: number;
  #used = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get used(): number {
    return this.#used;
  }

  fits(bytes: number): boolean {
    return this.#used + bytes <= this.#limit;
  }

  add(bytes: number): void {
    this.#used += bytes;
  }
}

/** What is taken from a batch. `at`: when the oldest of it was published, Unix milliseconds. */
export interface Taken {
  readonly rows: readonly Row[];
  readonly reload: boolean;
  readonly at: number;
}

/** What one subscription is to be told next: rows, or, where they are too many or some were missed, to read its list anew. */
export class LiveBatch {
  readonly #budget: LiveBudget;
  #rows: Map<string, Row> | undefined;
  #bytes = 0;
  /** When the oldest of the rows was published. */
  #rowsAt = Infinity;
  /** When the first cause to read anew came. */
  #reloadAt: number | undefined;

  constructor(budget: LiveBudget) {
    this.#budget = budget;
  }

  get empty(): boolean {
    return this.#rows === undefined && this.#reloadAt === undefined;
  }

  /** Whether it is to be read anew, so that no row matters. */
  get reloads(): boolean {
    return this.#reloadAt !== undefined;
  }

  /** `key`: the row's, made once for everybody. */
  add(row: Row, key: string): void {
    if (this.reloads) return;
    const before = this.#rows?.get(key);
    this.#rowsAt = Math.min(this.#rowsAt, row.at);
    if (before !== undefined) {
      this.#rows?.set(key, merged(before, row));
      return;
    }
    const bytes = rowBytes(key);
    if ((this.#rows?.size ?? 0) >= MAX_LIVE_ROWS || !this.#budget.fits(bytes)) return this.reload(row.at);
    this.#rows ??= new Map();
    this.#rows.set(key, row);
    this.#bytes += bytes;
    this.#budget.add(bytes);
  }

  /** `at`: since when, Unix milliseconds. */
  reload(at: number): void {
    const oldest = this.#oldest(at);
    this.clear();
    this.#reloadAt = oldest;
  }

  take(now: number): Taken {
    const taken = { rows: [...(this.#rows?.values() ?? [])], reload: this.reloads, at: this.#oldest(now) };
    this.clear();
    return taken;
  }

  clear(): void {
    this.#budget.add(-this.#bytes);
    this.#bytes = 0;
    this.#rows = undefined;
    this.#rowsAt = Infinity;
    this.#reloadAt = undefined;
  }

  #oldest(at: number): number {
    return Math.min(at, this.#reloadAt ?? at, this.#rowsAt);
  }
}
