import type { ChangeSubscriber } from '../../ports/change-bus.ts';
import type { Clock } from '../../ports/clock.ts';
import type { LiveMetrics } from '../../ports/live-metrics.ts';
import type { Change, Gap } from '../../protocol/change.ts';
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

const BUDGET = 64 * 1024 * 1024;

/** Brings what comes over the bus to the workers that watch, and to the sessions that subscribed. */
export class LiveHub implements ChangeSubscriber {
  readonly #parts: LiveParts;
  readonly #windows: RowWindows;
  readonly #watchers: Watchers | undefined;

  constructor(
    { coalesceMs, budget = BUDGET }: LiveHubOptions,
    parts: { clock: Clock; metrics: LiveMetrics; watchers: Watchers | undefined },
  ) {
    const { clock, metrics, watchers } = parts;
    this.#parts = { clock, metrics, index: new SubscriptionIndex<LiveSubscription>(), budget: new LiveBudget(budget) };
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
    this.#windows.close();
  }

  #fanOut(rows: readonly Row[]): void {
    const touched = new Set<LiveSession>();
    for (const row of rows) {
      const key = rowKey(row);
      this.#parts.index.match(row, (entry) => {
        // It waits already, and a row more or less is nothing to it.
        if (entry.batch.reloads) return;
        entry.row(row, key);
        touched.add(entry.session);
      });
    }
    for (const session of touched) session.wake();
  }
}
