import type { ChangeSubscriber } from '../../ports/change-bus.ts';
import type { Clock } from '../../ports/clock.ts';
import type { LiveMetrics } from '../../ports/live-metrics.ts';
import type { Change, Gap } from '../../protocol/change.ts';
import { BulkWrites } from './bulk-writes.ts';
import { LiveBudget } from './live-batch.ts';
import { LiveSession, type LiveParts, type LiveSubscription } from './live-session.ts';
import { rowKey, type Row } from './row.ts';
import { RowWindows } from './row-windows.ts';
import { SubscriptionIndex } from './subscription-index.ts';

/** Workers that want to hear of every change. */
export interface Watchers {
  tell(changes: readonly Change[]): void;
  tellGap(gap: Gap): void;
}

export interface LiveHubOptions {
  /** Changes of one row within this become one. Milliseconds; 0: each passes as it comes. */
  readonly coalesceMs: number;
  /** What may wait for all sessions together. Bytes, about. */
  readonly budget?: number;
}

/** Sessions that waited for the end of a bulk write go on in so many parts, one each so many milliseconds. */
const WAKE_STEPS = 10;
const WAKE_INTERVAL = 25;
const BUDGET = 64 * 1024 * 1024;

/** Brings what comes over the bus to the workers that watch, and to the sessions that subscribed. */
export class LiveHub implements ChangeSubscriber {
  readonly #parts: LiveParts;
  readonly #windows: RowWindows;
  readonly #watchers: Watchers | undefined;
  #isClosed = false;

  constructor(
    { coalesceMs, budget = BUDGET }: LiveHubOptions,
    parts: { clock: Clock; metrics: LiveMetrics; watchers: Watchers | undefined },
  ) {
    const { clock, metrics, watchers } = parts;
    this.#parts = {
      clock,
      metrics,
      index: new SubscriptionIndex<LiveSubscription>(),
      budget: new LiveBudget(budget),
      bulk: new BulkWrites(clock, () => this.#wakeHeld()),
      held: new Set(),
    };
    this.#watchers = watchers;
    this.#windows = new RowWindows(clock, coalesceMs, (rows) => this.#fanOut(rows));
    metrics.liveQueue(() => this.#parts.budget.used);
  }

  /** The subscriptions of a session that begins with none. */
  open(onPending: () => void): LiveSession {
    return new LiveSession(this.#parts, onPending);
  }

  changes(batch: readonly Change[]): void {
    this.#watchers?.tell(batch);
    const { index, metrics } = this.#parts;
    const wanted = batch.filter(({ model }) => index.hasModel(model));
    if (wanted.length > 0) metrics.liveCoalesced(this.#windows.push(wanted));
  }

  gap(gap: Gap): void {
    this.#watchers?.tellGap(gap);
    const now = this.#parts.clock.now();
    const touched = new Set<LiveSession>();
    for (const entry of this.#parts.index.of(gap.model)) {
      entry.reload(now);
      touched.add(entry.session);
    }
    for (const session of touched) session.wake();
  }

  close(): void {
    this.#isClosed = true;
    this.#windows.close();
    this.#parts.bulk.close();
  }

  #fanOut(rows: readonly Row[]): void {
    const { index, bulk } = this.#parts;
    const touched = new Set<LiveSession>();
    for (const [model, ofModel] of Map.groupBy(rows, ({ model }) => model)) {
      const isBulk = bulk.rows(model, ofModel.length);
      for (const row of ofModel) {
        const key = rowKey(row);
        const add = (entry: LiveSubscription): void => {
          // It waits already, and a row more or less is nothing to it.
          if (entry.batch.reloads) return;
          entry.row(row, key);
          touched.add(entry.session);
        };
        index.narrow(row, add);
        if (!isBulk) for (const entry of index.wide(model)) add(entry);
      }
      if (isBulk) this.#reload(model, ofModel, touched);
    }
    for (const session of touched) session.wake();
  }

  /** Whoever hears of every row of a model will have too many of them. */
  #reload(model: string, rows: readonly Row[], touched: Set<LiveSession>): void {
    const oldest = rows.reduce((time, { at }) => Math.min(time, at), Infinity);
    for (const entry of this.#parts.index.wide(model)) {
      if (entry.batch.reloads) continue;
      entry.reload(oldest);
      touched.add(entry.session);
    }
  }

  /** A few at a time: a worker that begins with many lists at once keeps its users waiting. */
  #wakeHeld(): void {
    const { clock, held } = this.#parts;
    const waiting = [...held];
    held.clear();
    const share = Math.ceil(waiting.length / WAKE_STEPS);
    const next = (): void => {
      if (this.#isClosed) return;
      for (const session of waiting.splice(0, share)) session.wake();
      if (waiting.length > 0) clock.setTimeout(next, WAKE_INTERVAL);
    };
    next();
  }
}
