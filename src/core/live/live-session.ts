import type { Clock, Timer } from '../../ports/clock.ts';
import type { LiveMetrics } from '../../ports/live-metrics.ts';
import type { HandlerCall } from '../../ports/virtual-session.ts';
import { MAX_SUBSCRIPTIONS, type Subscription } from '../../protocol/link-live.ts';
import type { BulkWrites } from './bulk-writes.ts';
import { LiveBatch, type LiveBudget } from './live-batch.ts';
import type { Row } from './row.ts';
import type { Indexed, SubscriptionIndex } from './subscription-index.ts';

/** What the subscriptions of all sessions share. */
export interface LiveParts {
  readonly clock: Clock;
  readonly metrics: LiveMetrics;
  readonly index: SubscriptionIndex<LiveSubscription>;
  readonly budget: LiveBudget;
  readonly bulk: BulkWrites;
  /** Sessions that wait for the end of a bulk write. */
  readonly held: Set<LiveSession>;
}

/**
 * A live event that failed is repeated as a reload, after one to two seconds, then twice as long each time up to half a minute: as long as a list
 * is subscribed it must come right again, also after a long outage of its database. Milliseconds.
 */
const RETRY_AFTER = 1_000;
const RETRY_AT_MOST = 30_000;

/** One subscription of one session, and what it is to be told next. */
export class LiveSubscription implements Indexed {
  readonly wanted: Subscription;
  readonly session: LiveSession;
  readonly batch: LiveBatch;
  /** Live events that failed one after the other. */
  failures = 0;
  retry: Timer | undefined;

  constructor(wanted: Subscription, session: LiveSession, budget: LiveBudget) {
    this.wanted = wanted;
    this.session = session;
    this.batch = new LiveBatch(budget);
  }

  row(row: Row, key: string): void {
    this.batch.add(row, key);
    this.session.pending.add(this);
  }

  reload(at: number): void {
    this.batch.reload(at);
    this.session.pending.add(this);
  }
}

/**
 * The subscriptions of one session, wherever it lies. One live event is begun at a time (`take`), and ends (`done`, `lost`) before the next
 * one; what comes meanwhile is merged.
 */
export class LiveSession {
  /** Subscriptions that are to be told something, the longest waiting first. */
  readonly pending = new Set<LiveSubscription>();
  readonly #parts: LiveParts;
  readonly #subscriptions = new Map<string, LiveSubscription>();
  readonly #onPending: () => void;
  #begun: LiveSubscription | undefined;

  /** `onPending`: there is something to be taken. */
  constructor(parts: LiveParts, onPending: () => void) {
    this.#parts = parts;
    this.#onPending = onPending;
  }

  /** False where there are too many already. */
  subscribe(wanted: Subscription): boolean {
    const before = this.#subscriptions.get(wanted.id);
    if (before === undefined && this.#subscriptions.size >= MAX_SUBSCRIPTIONS) return false;
    const entry = new LiveSubscription(wanted, this, this.#parts.budget);
    // What the former one was not told the new one may not have read.
    const owes = before !== undefined && before.wanted.model === wanted.model && !before.batch.empty;
    this.unsubscribe(wanted.id);
    this.#subscriptions.set(wanted.id, entry);
    this.#parts.index.add(entry);
    this.#parts.metrics.liveSubscriptions(1);
    if (owes) entry.reload(this.#parts.clock.now());
    return true;
  }

  unsubscribe(id: string): void {
    const entry = this.#subscriptions.get(id);
    if (entry === undefined) return;
    this.#subscriptions.delete(id);
    this.#parts.index.delete(entry);
    this.#parts.metrics.liveSubscriptions(-1);
    this.pending.delete(entry);
    entry.batch.clear();
    entry.retry?.cancel();
  }

  /** Something was added to `pending`. */
  wake(): void {
    if (this.ready) this.#onPending();
  }

  /** There is something to be taken. */
  get ready(): boolean {
    return this.#next() !== undefined;
  }

  /** The next live event, which has begun with this; undefined where there is none, or one has not ended. */
  take(): HandlerCall | undefined {
    const { clock, metrics } = this.#parts;
    const entry = this.#next();
    if (this.#begun !== undefined || entry === undefined) return undefined;
    this.pending.delete(entry);
    this.#begun = entry;
    const { rows, reload, at } = entry.batch.take(clock.now());
    // Other machines' clocks may be ahead.
    metrics.liveEvent(reload ? 'reload' : 'rows', rows.length, Math.max(0, clock.now() - at) / 1000);
    const changes = rows.map(({ model, action, pk }) => ({ model, action, pk }));
    const { id, handler } = entry.wanted;
    return { name: handler, payload: { live: { subscription: id, changes, reload } } };
  }

  /** The live event has ended; where its handler failed, the list is read anew a little later. */
  done(how: 'ended' | 'failed'): void {
    const entry = this.#begun;
    this.#begun = undefined;
    if (entry === undefined || !this.#has(entry)) return;
    if (how === 'ended') {
      entry.failures = 0;
      return;
    }
    this.#parts.metrics.liveFailed();
    const { clock } = this.#parts;
    const wait = Math.min(RETRY_AT_MOST / 2, RETRY_AFTER * 2 ** Math.min(entry.failures++, 10));
    entry.retry?.cancel();
    entry.retry = clock.setTimeout(
      () => {
        entry.reload(clock.now());
        this.wake();
      },
      // Lists that failed together should not come back together.
      wait * (1 + Math.random()),
    );
  }

  /** Nobody knows what became of the live event: the list is read anew. */
  lost(): void {
    const entry = this.#begun;
    this.#begun = undefined;
    if (entry !== undefined && this.#has(entry)) entry.reload(this.#parts.clock.now());
  }

  close(): void {
    this.#parts.held.delete(this);
    for (const id of this.#subscriptions.keys()) this.unsubscribe(id);
    this.#begun = undefined;
  }

  /** A list that is read anew amid a bulk write would have to be read again behind it. */
  #next(): LiveSubscription | undefined {
    const { bulk, held } = this.#parts;
    for (const entry of this.pending) {
      if (!entry.batch.reloads || !bulk.underWay(entry.wanted.model)) return entry;
      held.add(this);
    }
    return undefined;
  }

  #has(entry: LiveSubscription): boolean {
    return this.#subscriptions.get(entry.wanted.id) === entry;
  }
}
