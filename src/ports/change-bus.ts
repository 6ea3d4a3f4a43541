import type { Change, Gap } from '../protocol/change.ts';
import type { Push } from '../protocol/push.ts';

export type ChangeBusKind = 'memory' | 'redis' | 'redis-streams' | 'postgres';

/** `up`: what is published is taken, and comes back. `starting`: not up for the first time yet. */
export type ChangeBusState = 'starting' | 'up' | 'down';

/**
 * Carries model changes between processes: each change to every subscriber of every process of the deployment, its publisher's
 * own included.
 *
 * A bus MUST keep the order in which changes of one row were published, each after the last was taken, or committed to the outbox. It MUST give
 * a change whose id it has given before to nobody, as far as a bounded memory of ids reaches. It MUST tell a gap whenever changes
 * may have been missed since it was up, and MUST NOT tell one where it can prove that nothing was. It MUST reconnect for ever,
 * with backoff and jitter, and MUST NOT hold anything that can grow without bound.
 */
export interface ChangeBus {
  readonly kind: ChangeBusKind;
  readonly state: ChangeBusState;
  /** Why it is not up, with the remedy; never a secret. */
  readonly detail: string;
  /**
   * Resolves once the bus is up, or `timeout` milliseconds have passed: then it goes on trying, and tells a gap when it is up. Never
   * rejects. What was published before is not told.
   */
  start(timeout: number): Promise<void>;
  /**
   * Resolves once the bus has all of them. Rejects with BusUnavailableError, within some seconds: then it may have none, some or all, and
   * publishing again with the same ids is harmless. MUST NOT queue while the bus is down.
   */
  publish(changes: readonly Change[]): Promise<void>;
  /** Tells every subscriber of every process that changes may have been missed. Rejects as `publish` does. */
  publishGap(gap: Gap): Promise<void>;
  /** To every subscriber of every process that takes pushes. Rejects as `publish` does. */
  publishPush(push: Push): Promise<void>;
  /** From now on; returns what ends it. */
  subscribe(subscriber: ChangeSubscriber): () => void;
  /** Ends subscriptions and connections of its own; may be called twice. */
  close(): Promise<void>;
}

/** Called in order, never at the same time. MUST NOT block nor throw. */
export interface ChangeSubscriber {
  changes(batch: readonly Change[]): void;
  gap(gap: Gap): void;
  push?(push: Push): void;
  state?(state: ChangeBusState): void;
}

/** The bus did not take what was published. The message says what to do and holds no secret. */
export class BusUnavailableError extends Error {
  override readonly name = 'BusUnavailableError';
}
