import type { Clock, Logger } from '../../ports/index.ts';
import { quantile } from './durations.ts';
import { EVENT_TIERS, type MetricsSnapshot } from './figures.ts';

export interface MetricsLogOptions {
  readonly metrics: { snapshot(): MetricsSnapshot };
  readonly logger: Logger;
  readonly clock: Clock;
  readonly intervalSeconds: number;
  readonly level: 'debug' | 'info' | 'warn' | 'error';
}

export interface MetricsLog {
  /** Writes the last line. */
  stop(): void;
}

/** One line for each interval: what happened in it, and how things stand. */
export function metricsLog({ metrics, logger, clock, intervalSeconds, level }: MetricsLogOptions): MetricsLog {
  let before = metrics.snapshot();
  let since = clock.monotonic();
  const write = (): void => {
    const now = metrics.snapshot();
    const at = clock.monotonic();
    logger[level](lineFields(before, now, (at - since) / 1000), 'metrics');
    before = now;
    since = at;
  };
  const timer = clock.setInterval(write, intervalSeconds * 1000);
  return {
    stop: () => {
      timer.cancel();
      write();
    },
  };
}

/** The fields of one line. Times are in milliseconds, and null where no event had an update. */
function lineFields(before: MetricsSnapshot, now: MetricsSnapshot, seconds: number): object {
  const events = Object.fromEntries(EVENT_TIERS.map((tier) => [tier, now.events[tier] - before.events[tier]]));
  const count = Object.values(events).reduce((sum, tier) => sum + tier, 0);
  const durations = now.firstUpdates.map((value, bucket) => value - (before.firstUpdates[bucket] ?? 0));
  return {
    seconds: round(seconds, 1),
    sessions: now.sessions,
    opened: now.sessionsOpened - before.sessionsOpened,
    closed: now.sessionsClosed - before.sessionsClosed,
    events,
    eventsPerSecond: seconds > 0 ? round(count / seconds, 1) : 0,
    p50Ms: milliseconds(quantile(durations, 0.5)),
    p99Ms: milliseconds(quantile(durations, 0.99)),
    refused: now.refusals - before.refusals,
    lost: now.eventsLost - before.eventsLost,
    delayed: now.eventsDelayed - before.eventsDelayed,
    uploads: now.uploads - before.uploads,
    bytesIn: now.clientBytesIn - before.clientBytesIn,
    bytesOut: now.clientBytesOut - before.clientBytesOut,
    rss: process.memoryUsage.rss(),
  };
}

function milliseconds(seconds: number | undefined): number | null {
  return seconds === undefined ? null : round(seconds * 1000, 2);
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
