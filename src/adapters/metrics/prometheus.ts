import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import type { Metrics } from '../../ports/index.ts';
import { TIERS } from '../../protocol/tier.ts';
import { BOUNDS, type Durations } from './durations.ts';
import { EVENT_TIERS, Figures, type MetricsSnapshot } from './figures.ts';
import type { LiveFigures } from './live-figures.ts';
import type { Tally } from './tally.ts';

export interface PrometheusOptions {
  /** Before every name; default `bridgehead_`. */
  readonly prefix?: string;
  /** Default: a registry of its own. */
  readonly register?: Registry;
}

export interface PrometheusMetrics extends Metrics {
  readonly register: Registry;
  /** The exposition format, `register.contentType`. */
  text(): Promise<string>;
  snapshot(): MetricsSnapshot;
}

interface Value {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  readonly metricName?: string;
}

type Expose = (
  type: 'counter' | 'gauge' | 'histogram',
  name: string,
  help: string,
  read: () => readonly Value[],
) => void;

/**
 * prom-client shows the figures, it does not count them: values are read when a scrape asks, so that an event costs
 * additions on plain fields.
 */
export function prometheusMetrics(options: PrometheusOptions = {}): PrometheusMetrics {
  const { prefix = 'bridgehead_', register = new Registry() } = options;
  const figures = new Figures();
  collectDefaultMetrics({ register, prefix });
  const expose: Expose = (type, name, help, read) => {
    // What a registry asks of a metric; prom-client's own classes could only be filled by counting.
    const facts = { name: prefix + name, help, type, aggregator: 'sum' };
    const get = () => Promise.resolve({ ...facts, values: read() });
    register.registerMetric({ ...facts, get, reset: () => undefined } as unknown as Metric);
  };
  exposeEvents(figures, expose, prefix);
  exposeShadow(figures, expose);
  exposeSessions(figures, expose);
  exposeTraffic(figures, expose, prefix);
  exposeChanges(figures, expose, prefix);
  exposeLive(figures, expose, prefix);
  exposePushes(figures, expose);
  return Object.assign(figures, { register, text: () => register.metrics() });
}

function exposeEvents(figures: Figures, expose: Expose, prefix: string): void {
  expose('counter', 'events_total', 'Events handed on, by tier.', () =>
    [...figures.handlers.values()].flatMap((meter) =>
      EVENT_TIERS.filter((tier) => meter[tier] > 0).map((tier) => ({
        labels: { state: meter.state, handler: meter.handler, tier },
        value: meter[tier],
      })),
    ),
  );
  expose(
    'histogram',
    'first_update_seconds',
    'From the arrival of an event to the first update of its session after it.',
    () =>
      [...figures.handlers.values()].flatMap(({ state, handler, firstUpdates }) =>
        histogram(`${prefix}first_update_seconds`, { state, handler }, firstUpdates),
      ),
  );
  expose('counter', 'events_lost_total', 'Events that were not handed on.', tally('reason', figures.losses));
  expose(
    'counter',
    'events_delayed_total',
    'Events that waited for their rate limit.',
    plain(() => figures.delayed),
  );
  expose(
    'counter',
    'annotations_total',
    'Annotations made.',
    plain(() => figures.annotations),
  );
  expose(
    'counter',
    'forged_annotations_total',
    'Client-made annotations removed.',
    plain(() => figures.forged),
  );
  expose(
    'counter',
    'resolver_errors_total',
    'Times the configured resolve function threw or gave no tier.',
    plain(() => figures.resolverErrors),
  );
}

function exposeShadow(figures: Figures, expose: Expose): void {
  expose(
    'counter',
    'shadow_events_total',
    'Events seen in shadow mode, by the tier that the rules would have given.',
    () =>
      [...figures.handlers.values()].flatMap(({ state, handler, shadowed }) =>
        TIERS.filter((tier) => shadowed[tier] > 0).map((tier) => ({
          labels: { state, handler, tier },
          value: shadowed[tier],
        })),
      ),
  );
  expose('counter', 'shadow_wrong_total', 'Events that the tier of the rules would have got wrong.', () =>
    [...figures.handlers.values()]
      .filter(({ wrong }) => wrong > 0)
      .map(({ state, handler, wrong }) => ({ labels: { state, handler }, value: wrong })),
  );
}

function exposeSessions(figures: Figures, expose: Expose): void {
  expose(
    'gauge',
    'sessions',
    'Sessions that are open.',
    plain(() => figures.opened.total() - figures.closed.total()),
  );
  expose('counter', 'sessions_opened_total', 'Sessions opened.', tally('transport', figures.opened));
  expose('counter', 'sessions_closed_total', 'Sessions closed.', tally('reason', figures.closed));
  expose('counter', 'refusals_total', 'Requests and upgrades turned away.', tally('reason', figures.refusals));
  expose(
    'counter',
    'messages_lost_total',
    'Messages of workers kept for clients that were away, and not delivered.',
    plain(() => figures.messagesMissed),
  );
  expose(
    'counter',
    'peer_requests_total',
    'Polling requests and upgrades of other sidecars’ sessions, passed on to them.',
    tally('what', figures.toPeers),
  );
}

function exposeTraffic(figures: Figures, expose: Expose, prefix: string): void {
  expose('counter', 'client_bytes_total', "Bytes of messages on the clients' side.", () => [
    { labels: { direction: 'in' }, value: figures.clientBytesIn },
    { labels: { direction: 'out' }, value: figures.clientBytesOut },
  ]);
  expose('counter', 'uploads_total', 'Uploads.', tally('result', figures.uploads));
  expose(
    'counter',
    'upload_bytes_total',
    'Bytes of uploads.',
    plain(() => figures.uploadBytes),
  );
  expose('counter', 'upstream_connects_total', 'Connections opened to workers.', tally('result', figures.connects));
  expose('histogram', 'upstream_connect_seconds', 'Time to connect to a worker, also where it failed.', () =>
    histogram(`${prefix}upstream_connect_seconds`, {}, figures.connectDurations),
  );
  expose(
    'counter',
    'access_refusals_total',
    'Events refused by an access rule.',
    tally('verdict', figures.accessRefusals),
  );
  expose('counter', 'auth_lookups_total', 'Where the users of events were found.', tally('where', figures.authLookups));
  expose(
    'counter',
    'session_moves_total',
    'Linked sessions that changed their worker or link.',
    tally('how', figures.moves),
  );
  expose('counter', 'link_events_total', 'Links proved, lost and refused.', tally('event', figures.links));
  expose(
    'gauge',
    'links',
    'Workers that hold a link.',
    plain(() => figures.links.count('up') - figures.links.count('down')),
  );
}

function exposeChanges(figures: Figures, expose: Expose, prefix: string): void {
  expose('counter', 'changes_published_total', 'Changes given to the bus.', tally('result', figures.published));
  expose(
    'counter',
    'changes_received_total',
    'Changes that came over the bus, own ones included.',
    plain(() => figures.changesIn),
  );
  expose('counter', 'change_gaps_total', 'Times that changes may have been missed.', tally('reason', figures.gaps));
  expose(
    'gauge',
    'dead_letters',
    'Messages of the stream on which the work of a consumer group failed too often.',
    plain(() => figures.deadLettersWaiting),
  );
  expose('histogram', 'change_lag_seconds', 'From the publishing of a change to its arrival over the bus.', () =>
    histogram(`${prefix}change_lag_seconds`, {}, figures.changeLags),
  );
}

function exposeLive(figures: LiveFigures, expose: Expose, prefix: string): void {
  expose(
    'gauge',
    'live_subscriptions',
    'Subscriptions of sessions to changes.',
    plain(() => figures.subscriptions),
  );
  expose(
    'counter',
    'live_subscriptions_refused_total',
    'Subscriptions of sessions that had too many.',
    plain(() => figures.subscriptionsRefused),
  );
  expose(
    'gauge',
    'live_queue_bytes',
    'What waits for sessions that are slower than the changes, about.',
    plain(() => figures.liveQueueBytes),
  );
  expose(
    'counter',
    'live_coalesced_total',
    'Changes that became part of others of the same row.',
    plain(() => figures.coalesced),
  );
  expose('counter', 'live_events_total', 'Live events begun in sessions.', tally('kind', figures.liveEvents));
  expose(
    'counter',
    'live_rows_total',
    'Rows that live events carried.',
    plain(() => figures.liveRows),
  );
  expose(
    'counter',
    'live_failures_total',
    'Live events whose handler failed.',
    plain(() => figures.liveFailures),
  );
  expose('histogram', 'live_lag_seconds', 'From the publishing of a change to the start of its live event.', () =>
    histogram(`${prefix}live_lag_seconds`, {}, figures.liveLags),
  );
}

function exposePushes(figures: LiveFigures, expose: Expose): void {
  expose('counter', 'pushes_total', 'Pushes that came over the bus.', tally('kind', figures.pushes));
  expose(
    'counter',
    'push_deliveries_total',
    'What became of pushes at the sessions they were for.',
    tally('result', figures.pushDeliveries),
  );
  expose('counter', 'push_runs_total', 'Handlers that pushes started.', tally('result', figures.pushRuns));
}

function plain(read: () => number): () => readonly Value[] {
  return () => [{ labels: {}, value: read() }];
}

function tally(label: string, { counts }: Tally): () => readonly Value[] {
  return () => [...counts].map(([name, value]) => ({ labels: { [label]: name }, value }));
}

function histogram(name: string, labels: Readonly<Record<string, string>>, durations: Durations): Value[] {
  let cumulated = 0;
  const buckets = [...BOUNDS, '+Inf'].map((bound, index) => {
    cumulated += durations.counts[index] ?? 0;
    return { metricName: `${name}_bucket`, labels: { ...labels, le: String(bound) }, value: cumulated };
  });
  if (cumulated === 0) return [];
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: durations.sum },
    { metricName: `${name}_count`, labels, value: cumulated },
  ];
}
