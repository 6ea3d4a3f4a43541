import type { Clock } from '../../ports/clock.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import type { UserResolver } from '../auth/user-resolver.ts';
import type { KeyedLimits } from '../limits/keyed-limits.ts';
import type { QueueBudget } from '../limits/queue-budget.ts';
import type { UserSessions } from '../limits/user-sessions.ts';
import type { TierResolver } from '../tiers/tier-resolver.ts';
import type { Annotator } from './annotator.ts';
import type { ConnectWatch } from './connect-watch.ts';
import type { RelaySession } from './relay-session.ts';
import type { ChannelSource } from './session-channel.ts';

/** Limits of one session. 0 means none. */
export interface SessionLimits {
  readonly eventsPerSecond: number;
  readonly eventBurst: number;
  /** Bytes that may wait in each direction. */
  readonly queueBytes: number;
}

/** How users are found. */
export interface UserSource {
  readonly resolver: UserResolver;
  /** Name of the session cookie. */
  readonly cookie: string;
}

/** What all sessions share. Getters tell what is in force now: reloads and manifests change it. */
export interface RelayContext {
  /** Reflex's Socket.IO namespace. */
  readonly namespace: string;
  /** How an update's frame begins: `42<namespace>,["event"`. */
  readonly updatePrefix: Buffer;
  /** Largest message in code points of a text, or bytes of a binary one. */
  readonly maxPayload: number;
  readonly limits: SessionLimits;
  readonly tiers: TierResolver;
  /** undefined: events are not annotated. */
  readonly annotator: Annotator | undefined;
  /** undefined: nobody here can say who a user is. */
  readonly users: UserSource | undefined;
  /** Whether a linked worker enforces an access rule that an annotation carries. */
  readonly workerEnforces: boolean;
  /** Where a refused user is sent. */
  readonly loginUrl: string;
  /** Rates that sessions share: by client address, and by user; undefined: none. */
  readonly shared: { readonly address: KeyedLimits | undefined; readonly user: KeyedLimits | undefined };
  /** Counts the sessions of each user. */
  readonly userSessions: UserSessions;
  readonly budget: QueueBudget;
  /** More waits than the budget allows: who reads slowest goes. */
  relieve(): void;
  readonly channels: ChannelSource;
  readonly connectWatch: ConnectWatch;
  /** How long a session waits for its client to come back. Milliseconds; 0: not at all. */
  readonly retention: number;
  /** The sessions that had this one's token before it and are still known, the youngest first. */
  predecessors(session: RelaySession): readonly RelaySession[];
  /** A worker gave a session's tab another token. */
  renamed(session: RelaySession, token: ClientToken): void;
  readonly clock: Clock;
  readonly metrics: Metrics;
}
