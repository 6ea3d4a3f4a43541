import type { PushDelivery } from '../../ports/live-metrics.ts';
import type { GapReason } from '../../protocol/change.ts';
import type { EventLossReason, RefusalReason, SessionCloseReason } from '../../ports/index.ts';

/**
 * Every reason there is, so that each has a series from the start: the first loss after a start is an increase, too.
 * As records, since the compiler then misses none.
 */
export const REFUSAL_REASONS: Readonly<Record<RefusalReason, 0>> = {
  origin: 0,
  engine_version: 0,
  transport: 0,
  unknown_sid: 0,
  session_limit: 0,
  rate_limit: 0,
  draining: 0,
  not_websocket: 0,
  bad_request: 0,
  upload_headers: 0,
  upload_size: 0,
  upload_upstream: 0,
};

export const LOSS_REASONS: Readonly<Record<EventLossReason, 0>> = {
  queue_full: 0,
  total_queue_full: 0,
  upstream_unavailable: 0,
  upstream_lost: 0,
  session_closed: 0,
};

export const CLOSE_REASONS: Readonly<Record<SessionCloseReason, 0>> = {
  client_disconnect: 0,
  client_close: 0,
  connection_lost: 0,
  ping_timeout: 0,
  bad_packet: 0,
  too_large: 0,
  slow_client: 0,
  queue_full: 0,
  user_sessions: 0,
  connect_timeout: 0,
  upstream_closed: 0,
  upstream_unavailable: 0,
  admin: 0,
  revoked: 0,
  replaced: 0,
  draining: 0,
};

export const GAP_REASONS: Readonly<Record<GapReason, 0>> = { reconnect: 0, trimmed: 0, server: 0, reported: 0 };

export const PUSH_DELIVERIES: Readonly<Record<PushDelivery, 0>> = {
  sent: 0,
  queued: 0,
  away: 0,
  slow: 0,
  full: 0,
  unable: 0,
  unknown: 0,
  refused: 0,
  unavailable: 0,
  expired: 0,
};
