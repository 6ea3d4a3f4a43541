import type { Change, Gap } from '../protocol/change.ts';
import type { Manifest } from '../protocol/manifest.ts';
import type { ShadowReport } from '../protocol/shadow-report.ts';
import type { AuthSource, Invalidation } from './auth.ts';
import type { TierMode, TierRule } from './tiers.ts';
import type { AttachRequest, VirtualSession, VirtualSink } from './virtual-session.ts';

/** A worker that proved the secret and said what it is. */
export interface LinkedWorker {
  readonly manifest: Manifest;
  /** Milliseconds of the monotonic clock when it was proved. */
  readonly since: number;
  /** It is about to stop: its sessions should move. Milliseconds of the monotonic clock by when. */
  readonly drainBy: number | undefined;
  /** What it said of itself last. */
  readonly load: WorkerLoad;
  /** Begins a virtual session; the sink hears how the worker answers. Throws where the manifest takes none. */
  attach(request: AttachRequest, sink: VirtualSink): VirtualSession;
}

/** A worker's figures (docs/PROTOCOL.md, STATS); zeros before the first came. */
export interface WorkerLoad {
  readonly sessions: number;
  readonly inFlight: number;
  /** Delay of its event loop, milliseconds. */
  readonly lag: number;
  /** Memory, bytes. */
  readonly rss: number;
  /** Sidecars that it is linked with. */
  readonly links: number;
}

/** What every linked worker gets to decide events born in Python (docs/PROTOCOL.md, "Rules"). */
export interface RulesMessage {
  readonly mode: TierMode;
  /** A JavaScript function decides in the sidecar, which a worker cannot run. */
  readonly resolve: boolean;
  readonly shadow: boolean;
  readonly rules: readonly TierRule[];
  /** The permissions that the access rules name: a user's answer tells which of them it has. */
  readonly permissions: readonly string[];
}

/** `closed`: the worker's side closed the connection. `silent`: nothing came for too long, or it broke. */
export type LinkEnd = 'closed' | 'silent';

/** A handler logged a tab in (`cookie`: its new session cookie) or out (null). */
export interface SessionChange {
  /** Hash of its token. Others may claim the same token. */
  readonly token: string;
  /** The virtual session's id; null: it came over a connection of its own. */
  readonly session: string | null;
  readonly cookie: string | null;
}

/** What workers tell while they work. */
export interface LinkEvents {
  /** `workers` has changed. */
  workers(): void;
  session(change: SessionChange): void;
  /** `id` tells the same message on other ways: undefined where the worker gave none. */
  invalidated(what: Invalidation, id: string | undefined): void;
  /** A worker's link ended without a goodbye, and it has no other: what it tells from now on does not come here. */
  lost(worker: Manifest, end: LinkEnd): void;
  /** A worker, by its instance, tells what it saw in shadow mode. */
  reported(worker: string, report: ShadowReport): void;
  /** A worker publishes changes; resolves with whether the bus has them. MUST NOT reject. */
  published(changes: readonly Change[]): Promise<boolean>;
  /** A worker had to drop changes before a bus had them; resolves with whether the bus has told so. MUST NOT reject. */
  missed(gap: Gap): Promise<boolean>;
}

/** The listener that workers dial; as a source of users it asks one of them. */
export interface LinkServer extends AuthSource {
  /** Resolves with the address in use, for example `tcp://127.0.0.1:8082`. */
  listen(): Promise<string>;
  readonly workers: readonly LinkedWorker[];
  /** Somebody was invalidated: for 30 s workers are asked to read the primary database. */
  invalidated(): void;
  /** Tells every worker that watches their models. */
  tell(changes: readonly Change[]): void;
  tellGap(gap: Gap): void;
  /** Sends the rules to every worker, and to those that come later. */
  setRules(rules: RulesMessage): void;
  /** Called from now on; one listener. */
  listener: LinkEvents;
  /** Tells every worker that the sidecar leaves, and closes. */
  close(): Promise<void>;
}
