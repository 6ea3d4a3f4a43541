import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics, RefusalReason } from '../../ports/metrics.ts';
import type { Headers, RequestHead } from '../../ports/transport.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import { ENGINE_IO_VERSION } from '../../protocol/engine-io.ts';
import { clientToken } from '../http/query.ts';
import { TokenBucket } from '../relay/token-bucket.ts';
import type { OriginPolicy } from './origin-policy.ts';

/** What a client that is turned away gets to read. */
export interface Refusal {
  readonly status: number;
  readonly code: RefusalReason;
  readonly message: string;
  readonly headers: Headers;
}

export interface AdmissionState {
  readonly draining: boolean;
  readonly sessions: number;
  readonly maxSessions: number;
  /** Whether the tab with this token comes back to a session that waits for it, and whose place it takes. */
  readonly isExpected: (token: ClientToken) => boolean;
  /** New sessions from one address in a second; 0 means no limit. */
  readonly handshakesPerSecond: number;
  readonly origins: OriginPolicy;
}

const BURST_SECONDS = 4;
const MAX_ADDRESSES = 50_000;
const LOG_INTERVAL = 60_000;
const MAX_LOGGED = 1_000;

/** Decides who may open a session, before anything is upgraded or kept. */
export class Admission {
  readonly #state: () => AdmissionState;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  readonly #buckets = new Map<string, TokenBucket>();
  readonly #logged = new Map<string, number>();

  constructor(state: () => AdmissionState, parts: { clock: Clock; logger: Logger; metrics: Metrics }) {
    this.#state = state;
    this.#clock = parts.clock;
    this.#logger = parts.logger;
    this.#metrics = parts.metrics;
  }

  /** For a new session; undefined lets it in. */
  handshake(head: RequestHead, query: URLSearchParams, address: string): Refusal | undefined {
    const version = query.get('EIO') ?? '';
    if (version !== ENGINE_IO_VERSION) {
      const message = `This server speaks Engine.IO 4 (socket.io-client 3 or later); the request asks for EIO=${printable(version)}.`;
      return this.#refuse(400, 'engine_version', message);
    }
    return this.origin(head) ?? this.#capacity(clientToken(query)) ?? this.#rate(address);
  }

  /** For every request that a page may send across origins. */
  origin(head: RequestHead): Refusal | undefined {
    const verdict = this.#state().origins.check(head);
    if (verdict.allowed) return undefined;
    const { origin, host, remedy } = verdict;
    this.#logSometimes(
      `origin ${origin}`,
      { origin, host, remedy },
      'origin refused; add it to the configuration if it is yours',
    );
    return this.#refuse(403, 'origin', `The origin ${origin} may not connect to ${host}.`);
  }

  #capacity(token: ClientToken): Refusal | undefined {
    const { draining, sessions, maxSessions, isExpected } = this.#state();
    const headers = { 'retry-after': '1' };
    if (draining) return this.#refuse(503, 'draining', 'This server is shutting down; please connect again.', headers);
    if (maxSessions === 0 || sessions < maxSessions || isExpected(token)) return undefined;
    this.#logSometimes(
      'sessions',
      { sessions, limit: maxSessions },
      'session limit reached; raise limits.sessions or add a sidecar',
    );
    return this.#refuse(503, 'session_limit', 'This server has as many sessions as it may hold.', headers);
  }

  #rate(address: string): Refusal | undefined {
    const { handshakesPerSecond: perSecond } = this.#state();
    if (perSecond === 0) return undefined;
    const now = this.#clock.monotonic();
    let bucket = this.#buckets.get(address);
    if (bucket === undefined) {
      if (this.#buckets.size >= MAX_ADDRESSES) this.#buckets.clear();
      bucket = new TokenBucket({ perSecond, burst: perSecond * BURST_SECONDS }, now);
      this.#buckets.set(address, bucket);
    }
    if (bucket.take(now)) return undefined;
    return this.#refuse(429, 'rate_limit', 'Too many new sessions from this address.', { 'retry-after': '1' });
  }

  #refuse(status: number, code: RefusalReason, message: string, headers: Headers = {}): Refusal {
    this.#metrics.refused(code);
    return { status, code, message, headers };
  }

  #logSometimes(key: string, fields: object, message: string): void {
    const now = this.#clock.monotonic();
    if (now - (this.#logged.get(key) ?? -Infinity) < LOG_INTERVAL) return;
    if (this.#logged.size >= MAX_LOGGED) this.#logged.clear();
    this.#logged.set(key, now);
    this.#logger.warn(fields, message);
  }
}

function printable(text: string): string {
  return text === '' ? 'nothing' : text.replaceAll(/[^\w.-]/g, '?').slice(0, 20);
}
