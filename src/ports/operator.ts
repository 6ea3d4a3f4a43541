import type { Invalidation } from './auth.ts';
import type { DoctorFacts } from './doctor.ts';
import type { SessionCloseReason } from './metrics.ts';

/** The state of something Bridgehead depends on. `detail` never holds a secret. */
export interface DependencyHealth {
  readonly name: string;
  readonly state: 'up' | 'down' | 'starting';
  /** Whether the sidecar is unready without it. */
  readonly required: boolean;
  readonly detail: string;
}

export interface SessionSummary {
  readonly id: string;
  readonly transport: 'websocket' | 'polling';
  /** `model:primary key`, once an event has asked for it; null: not known, or nobody. */
  readonly user: string | null;
  /** The page, as the client's last event told it; empty before. */
  readonly path: string;
  /** The client is cut off and may come back. */
  readonly away: boolean;
  readonly address: string;
  /** Address of the backend, or the instance of the linked worker; empty before the first packet. */
  readonly upstream: string;
  /** Whether one of its events is at work. `away`: no worker has the session now; `unknown`: a direct backend does not tell. */
  readonly work: 'busy' | 'idle' | 'unknown' | 'away';
  /** Seconds since it was opened. */
  readonly age: number;
  readonly events: number;
  /** Bytes that wait, towards the worker and towards the client. */
  readonly queued: { readonly upstream: number; readonly client: number };
}

export interface LinkSummary {
  readonly instance: string;
  readonly host: string;
  readonly pid: number;
  readonly build: string;
  readonly versions: Readonly<Record<string, string | null>>;
  /** Sessions here that it has, and its events at work, by its own last word. */
  readonly sessions: number;
  readonly inFlight: number;
  /** It is about to stop. */
  readonly draining: boolean;
  /** Seconds since the link was proved. */
  readonly age: number;
}

export interface Stats {
  readonly name: string;
  readonly version: string;
  readonly uptime: number;
  readonly sessions: number;
  readonly queuedBytes: number;
  readonly draining: boolean;
  readonly backends: readonly { readonly url: string; readonly state: string; readonly sessions: number }[];
  readonly links: readonly LinkSummary[];
}

/** What the admin listener may ask of the running process and do to it. */
export interface Operator {
  /** True once traffic is accepted and every required dependency is up, and no drain has begun. */
  ready(): boolean;
  health(): readonly DependencyHealth[];
  stats(): Stats;
  /** What the rules do, or would do. */
  doctor(): DoctorFacts;
  /** At most `limit` sessions, newest first. */
  sessions(limit: number): readonly SessionSummary[];
  /** False where no session has this id. */
  closeSession(id: string, reason: SessionCloseReason): boolean;
  /** The label of the app's user model: whose primary key one alone is. */
  userModel(): string;
  /** Forgets a user or a session everywhere; false where users are not resolved at all. */
  invalidate(what: Invalidation): boolean;
  /** Begins the drain and the end of the process; resolves at once. */
  drain(): void;
}
