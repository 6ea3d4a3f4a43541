import type { Invalidation } from './auth.ts';

/**
 * Carries invalidations between sidecars and from Django processes without a link.
 *
 * A bus that cannot tell whether it misses something MUST say so: a heartbeat comes every second, and three seconds without one
 * mean blind. It reconnects for ever, with backoff and jitter.
 */
export interface InvalidationBus {
  /** Resolves once the first connection stands, or `timeout` milliseconds have passed: then the bus begins blind. */
  start(handler: InvalidationHandler, timeout: number): Promise<void>;
  /** Tells everyone else, under the id it came with. Trouble is counted and logged, never thrown: TTLs are the last line. */
  publish(what: Invalidation, id?: string): Promise<void>;
  /** For a message that came on another way: whether it is new. From now on it is not. */
  admit(id: string): boolean;
  readonly blind: boolean;
  close(): Promise<void>;
}

export interface InvalidationHandler {
  /** Not called for this process's own messages. Each message comes once, though it may be sent on several ways. */
  invalidated(what: Invalidation): void;
  /** Called with true when invalidations may be missed, with false when the bus is sure again. */
  blind(blind: boolean): void;
}
