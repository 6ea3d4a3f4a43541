import type { GapReason } from '../protocol/change.ts';
import type { Tier } from '../protocol/tier.ts';
import type { LiveMetrics } from './live-metrics.ts';

/** Why an arriving request or upgrade was turned away; the label `reason` of `bridgehead_refusals_total`. */
export type RefusalReason =
  | 'origin'
  | 'engine_version'
  | 'transport'
  | 'unknown_sid'
  | 'session_limit'
  | 'rate_limit'
  | 'draining'
  | 'not_websocket'
  | 'bad_request'
  | 'upload_headers'
  | 'upload_size'
  | 'upload_upstream';

/** Why an event that came in was not handed on; each one was told to the client or ended its session. */
export type EventLossReason =
  'queue_full' | 'total_queue_full' | 'upstream_unavailable' | 'upstream_lost' | 'session_closed';

/** Why a session ended; the label `reason` of `bridgehead_sessions_closed_total`. */
export type SessionCloseReason =
  | 'client_disconnect'
  | 'client_close'
  | 'connection_lost'
  | 'ping_timeout'
  | 'bad_packet'
  | 'too_large'
  | 'slow_client'
  | 'queue_full'
  | 'user_sessions'
  | 'connect_timeout'
  | 'upstream_closed'
  | 'upstream_unavailable'
  | 'admin'
  | 'revoked'
  | 'replaced'
  | 'draining';

/** One handler's counters, resolved once so that counting an event is two additions. */
export interface HandlerMeter {
  /** An event of this handler was handed on. `worker`: the app's own resolver decides in the worker. */
  event(tier: Tier | 'worker'): void;
  /** Seconds from the event's arrival to the first update of its session after it. */
  firstUpdate(seconds: number): void;
  /** In shadow mode: so many events would have got this tier. */
  shadow(tier: Tier, events: number): void;
  /** In shadow mode: so many events would have been wrong in the tier of the rules. */
  shadowWrong(events: number): void;
}

/** Where the core counts. Implementations MUST be cheap (no I/O) and MUST NOT throw. */
export interface Metrics extends LiveMetrics {
  /** Labels must come from the manifest; everything else is `other` (the caller sees to it). */
  handler(state: string, handler: string): HandlerMeter;
  sessionOpened(transport: string): void;
  sessionClosed(reason: SessionCloseReason): void;
  refused(reason: RefusalReason): void;
  /** A request or a WebSocket of another sidecar's session was passed on to it. */
  passedToPeer(what: 'request' | 'websocket'): void;
  eventLost(reason: EventLossReason, count: number): void;
  /** Messages of a worker that were kept for a client that was away, and that it did not get. */
  messagesLost(count: number): void;
  /** Bytes of messages on the client's side. */
  clientBytes(direction: 'in' | 'out', bytes: number): void;
  /** An event waited for its rate limit. */
  eventDelayed(): void;
  /** A client-made annotation was removed. */
  forgedAnnotation(): void;
  annotated(): void;
  /** The configured resolve function threw or gave no tier. */
  resolverError(): void;
  upload(result: 'ok' | 'refused' | 'aborted' | 'upstream_error', bytes: number): void;
  upstreamConnect(result: 'ok' | 'failed', seconds: number): void;
  /** The edge refused an event by its access rule. */
  accessRefused(verdict: 'login' | 'forbidden' | 'unknown'): void;
  /** Where the user of an event was found. */
  authLookup(where: 'memory' | 'redis' | 'source' | 'unavailable'): void;
  linkState(event: 'up' | 'down' | 'refused'): void;
  /** A linked session changed its worker, or its link: `drained` in order, `crashed` without, `resumed` the same worker. */
  sessionMoved(how: 'drained' | 'crashed' | 'resumed'): void;
  /** Changes that this process gave to the bus. */
  changesPublished(result: 'ok' | 'failed', count: number): void;
  /** Changes that came over the bus; seconds from when the oldest of them was published, by the clocks of both sides. */
  changesReceived(count: number, lag: number): void;
  /** Changes may have been missed. */
  changeGap(reason: GapReason): void;
  /** Where to read how many dead letters the stream has. */
  deadLetters(read: () => number): void;
}
