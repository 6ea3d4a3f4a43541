/**
 * What becomes of a push at one session: `sent` to its browser, or `queued` for its worker; `refused`: not allowed here; `unavailable`: nobody could
 * tell whose session it is; `expired`: that could not be asked in time.
 */
export type PushDelivery =
  'sent' | 'queued' | 'away' | 'slow' | 'full' | 'unable' | 'unknown' | 'refused' | 'unavailable' | 'expired';

/** Counts live changes and pushes. Implementations MUST be cheap and MUST NOT throw. */
export interface LiveMetrics {
  /** So many subscriptions more, or fewer. */
  liveSubscriptions(delta: number): void;
  /** A session wanted more subscriptions than it may have. */
  liveRefused(): void;
  /** A live event began, with so many rows; seconds since the oldest of its changes was published. */
  liveEvent(kind: 'rows' | 'reload', rows: number, lag: number): void;
  /** The handler of a live event failed. */
  liveFailed(): void;
  /** So many changes became part of others. */
  liveCoalesced(changes: number): void;
  /** Where to read how much waits for subscribers, in bytes. */
  liveQueue(read: () => number): void;
  /** A push came over the bus. */
  pushReceived(kind: 'event' | 'toast' | 'redirect' | 'script'): void;
  /** What became of it at so many sessions of this process. */
  pushDelivered(result: PushDelivery, sessions: number): void;
  /** What became of a handler that a push started. */
  pushRun(result: 'ended' | 'failed' | 'lost'): void;
}
