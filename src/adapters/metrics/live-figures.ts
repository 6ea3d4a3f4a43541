import type { LiveMetrics, PushDelivery } from '../../ports/live-metrics.ts';
import { Durations } from './durations.ts';
import { PUSH_DELIVERIES } from './reasons.ts';
import { Tally } from './tally.ts';

/** Live changes and pushes as plain numbers. */
export class LiveFigures implements LiveMetrics {
  readonly liveEvents = new Tally({ rows: 0, reload: 0 });
  readonly liveLags = new Durations();
  readonly pushes = new Tally({ event: 0, toast: 0, redirect: 0, script: 0 });
  readonly pushDeliveries = new Tally(PUSH_DELIVERIES);
  readonly pushRuns = new Tally({ ended: 0, failed: 0, lost: 0 });
  subscriptions = 0;
  subscriptionsRefused = 0;
  liveRows = 0;
  liveFailures = 0;
  coalesced = 0;
  #readQueue = (): number => 0;

  get liveQueueBytes(): number {
    return this.#readQueue();
  }

  liveSubscriptions(delta: number): void {
    this.subscriptions += delta;
  }

  liveRefused(): void {
    this.subscriptionsRefused++;
  }

  liveEvent(kind: 'rows' | 'reload', rows: number, lag: number): void {
    this.liveEvents.add(kind);
    this.liveRows += rows;
    this.liveLags.observe(lag);
  }

  liveFailed(): void {
    this.liveFailures++;
  }

  liveCoalesced(changes: number): void {
    this.coalesced += changes;
  }

  liveQueue(read: () => number): void {
    this.#readQueue = read;
  }

  pushReceived(kind: 'event' | 'toast' | 'redirect' | 'script'): void {
    this.pushes.add(kind);
  }

  pushDelivered(result: PushDelivery, sessions: number): void {
    this.pushDeliveries.add(result, sessions);
  }

  pushRun(result: 'ended' | 'failed' | 'lost'): void {
    this.pushRuns.add(result);
  }
}
