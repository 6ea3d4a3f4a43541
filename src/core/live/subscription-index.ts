import type { Subscription } from '../../protocol/link-live.ts';
import type { Row } from './row.ts';

/** A subscription as the index keeps it. */
export interface Indexed {
  readonly wanted: Subscription;
}

/** Primary keys in all subscriptions together; one that comes on top hears of every row. */
const MAX_KEYS = 1_000_000;

/** The subscriptions of one model, by what narrows them. */
class ModelIndex<T extends Indexed> {
  readonly all = new Set<T>();
  /** Of every row, whatever its tags. */
  readonly wide = new Set<T>();
  /** By primary key; some of them also want a tag. */
  readonly byKey = new Map<string, Set<T>>();
  /** Of every row that has one of their tags, or none at all. */
  readonly tagged = new Set<T>();
  readonly byTag = new Map<string, Set<T>>();
}

/** Finds whom a change concerns without looking at all sessions. */
export class SubscriptionIndex<T extends Indexed> {
  readonly #models = new Map<string, ModelIndex<T>>();
  /** Keys of those that are kept by key. */
  readonly #keyed = new Map<T, readonly string[]>();
  #keys = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  hasModel(model: string): boolean {
    return this.#models.has(model);
  }

  add(entry: T): void {
    const { model, pks, tags } = entry.wanted;
    const index = this.#models.get(model) ?? new ModelIndex<T>();
    this.#models.set(model, index);
    index.all.add(entry);
    this.#size++;
    if (pks !== null && this.#keys + pks.length <= MAX_KEYS) {
      const keys = [...new Set(pks.map(String))];
      this.#keyed.set(entry, keys);
      this.#keys += keys.length;
      for (const key of keys) put(index.byKey, key, entry);
    } else if (tags === null) index.wide.add(entry);
    else {
      index.tagged.add(entry);
      for (const tag of tags) put(index.byTag, tag, entry);
    }
  }

  delete(entry: T): void {
    const { model, tags } = entry.wanted;
    const index = this.#models.get(model);
    if (index?.all.delete(entry) !== true) return;
    this.#size--;
    const keys = this.#keyed.get(entry) ?? [];
    this.#keyed.delete(entry);
    this.#keys -= keys.length;
    for (const key of keys) drop(index.byKey, key, entry);
    index.wide.delete(entry);
    if (index.tagged.delete(entry)) for (const tag of tags ?? []) drop(index.byTag, tag, entry);
    if (index.all.size === 0) this.#models.delete(model);
  }

  /** The subscriptions that every row of a model concerns. */
  wide(model: string): Iterable<T> {
    return this.#models.get(model)?.wide ?? [];
  }

  /** Calls for each other subscription that a row concerns, once or more. */
  narrow(row: Row, found: (entry: T) => void): void {
    const index = this.#models.get(row.model);
    if (index === undefined) return;
    for (const entry of index.byKey.get(String(row.pk)) ?? []) if (fits(entry.wanted, row)) found(entry);
    if (row.tags === undefined) for (const entry of index.tagged) found(entry);
    else {
      for (const tag of row.tags) for (const entry of index.byTag.get(tag) ?? []) found(entry);
    }
  }

  /** Every subscription of a model, or (without) all. */
  *of(model: string | undefined): Generator<T> {
    const indexes = model === undefined ? [...this.#models.values()] : [this.#models.get(model)];
    for (const index of indexes) {
      if (index !== undefined) yield* index.all;
    }
  }
}

function fits({ tags }: Subscription, row: Row): boolean {
  return tags === null || row.tags === undefined || row.tags.some((tag) => tags.includes(tag));
}

function put<T>(map: Map<string, Set<T>>, key: string, entry: T): void {
  const entries = map.get(key);
  if (entries === undefined) map.set(key, new Set([entry]));
  else entries.add(entry);
}

function drop<T>(map: Map<string, Set<T>>, key: string, entry: T): void {
  const entries = map.get(key);
  if (entries?.delete(entry) === true && entries.size === 0) map.delete(key);
}
