import type { Invalidation } from '../../ports/auth.ts';
import type { Clock } from '../../ports/clock.ts';
import type { LinkedWorker, SessionChange } from '../../ports/links.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics, SessionCloseReason } from '../../ports/metrics.ts';
import type { SessionSummary } from '../../ports/operator.ts';
import type { HttpExchange, TransportHandler, UpgradeRequest } from '../../ports/transport.ts';
import { CloseCode } from '../../protocol/close-code.ts';
import type { Key } from '../../protocol/keys.ts';
import type { UserResolver } from '../auth/user-resolver.ts';
import type { BackendPool } from '../backends/backend-pool.ts';
import type { TrustsProxy } from '../http/forwarded.ts';
import { isUnder, plainPath } from '../http/plain-path.ts';
import { clientToken, parseTarget } from '../http/query.ts';
import { refuseUpgrade, respondError } from '../http/respond.ts';
import { ConnectWatch } from '../relay/connect-watch.ts';
import type { RelayContext, SessionLimits } from '../relay/relay-context.ts';
import { Relief } from '../relay/relief.ts';
import type { ChannelSource } from '../relay/session-channel.ts';
import { QueueBudget } from '../limits/queue-budget.ts';
import { UserSessions } from '../limits/user-sessions.ts';
import { Admission } from './admission.ts';
import { departure } from './departure.ts';
import { EventEndpoint } from './event-endpoint.ts';
import type { PushSessions } from '../live/pushes.ts';
import { fullNameOf } from '../live/handler-names.ts';
import { HttpProxy } from './http-proxy.ts';
import { ALONE, PeerRequests, type PeerParts, type Peers } from './peers.ts';
import { Revocation, type Revocable } from './revocation.ts';
import { SessionRegistry } from './session-registry.ts';
import { Uploads } from './uploads.ts';
import { WorkerKnowledge, type KnowledgeOptions } from './worker-knowledge.ts';
import { proxyWebSocket } from './websocket-proxy.ts';

/** Fixed while the process runs. */
export interface GatewayOptions {
  readonly eventPath: string;
  readonly uploadPath: string;
  readonly namespace: string;
  readonly proxyOther: boolean;
  /** How long a session waits for its client to come back. Milliseconds; 0: not at all. */
  readonly retention: number;
  /** Largest message of a client, in code points; a worker that announces less is heeded. */
  readonly payloadBytes: number;
}

export interface GatewayLimits extends SessionLimits {
  readonly sessions: number;
  readonly sessionsPerUser: number;
  readonly handshakesPerSecond: number;
  readonly totalQueueBytes: number;
  readonly uploadBytes: number;
}

/** What a reload may change. */
export interface GatewaySettings extends KnowledgeOptions {
  readonly limits: GatewayLimits;
  /** Unset: the app's own, by its manifest. */
  readonly cookie: string | undefined;
  readonly loginUrl: string | undefined;
}

export interface GatewayParts {
  /** Where requests go. */
  readonly pool: BackendPool;
  /** Where sessions go. */
  readonly channels: ChannelSource;
  /** The smallest message that a linked worker takes at most; Infinity where there is none. */
  readonly linkedPayload: () => number;
  readonly trusts: TrustsProxy;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly annotationKey: Key | undefined;
  /** undefined: users are not resolved here. */
  readonly users: UserResolver | undefined;
  readonly sharedLimits: RelayContext['shared'];
  /** undefined: no other sidecar can be found. */
  readonly peers: PeerParts | undefined;
  /** Whether a balancer should send traffic here. */
  readonly ready: () => boolean;
}

const DEFAULT_LOGIN_URL = '/login';
const DOT_SEGMENTS = 'The path must not have dot segments.';
const OWN_PATHS = 'Nothing is served below the paths of events and uploads, and none of their other spellings.';
/** How often a drain looks whether everything is done. Milliseconds. */
const DRAIN_STEP = 20;

/** Everything behind the main listener: routes requests, holds the sessions, and ends them in order. */
export class Gateway implements TransportHandler {
  readonly #options: GatewayOptions;
  readonly #parts: GatewayParts;
  /** Where the worker takes events and uploads, in plain spelling. */
  readonly #reserved: readonly string[];
  readonly #registry = new SessionRegistry();
  readonly #knowledge: WorkerKnowledge;
  readonly #budget: QueueBudget;
  readonly #events: EventEndpoint;
  readonly #uploads: Uploads;
  readonly #peers: Peers;
  readonly #proxy: HttpProxy;
  readonly #context: RelayContext;
  readonly #revocation: Revocation;
  #settings: GatewaySettings;
  #draining = false;

  constructor(options: GatewayOptions, settings: GatewaySettings, parts: GatewayParts) {
    this.#options = options;
    this.#settings = settings;
    this.#parts = parts;
    this.#reserved = [plainPath(options.eventPath), plainPath(options.uploadPath)];
    this.#knowledge = new WorkerKnowledge(settings, parts);
    this.#budget = new QueueBudget(settings.limits.totalQueueBytes);
    this.#proxy = new HttpProxy(parts);
    this.#context = this.#relayContext();
    const sessions = (): Iterable<Revocable> => this.#registry.values();
    this.#revocation = new Revocation({ sessions, users: () => this.#knowledge.users, clock: parts.clock });
    const admission = new Admission(() => this.#admissionState(), parts);
    const context = this.#context;
    const forward = (exchange: HttpExchange): void => void this.#forward(exchange);
    const registry = this.#registry;
    const own = { ...parts, proxy: this.#proxy };
    this.#peers = parts.peers === undefined ? ALONE : new PeerRequests(registry.prefix, parts.peers, own);
    this.#events = new EventEndpoint({ ...parts, context, registry, admission, forward, peers: this.#peers });
    const maxBytes = (): number => this.#settings.limits.uploadBytes;
    this.#uploads = new Uploads({ ...parts, context, proxy: this.#proxy, admission, maxBytes });
  }

  get sessions(): number {
    return this.#registry.size;
  }

  /** How the sids of this process begin. */
  get sidPrefix(): string {
    return this.#registry.prefix;
  }

  get queuedBytes(): number {
    return this.#budget.used;
  }

  /** Whom a push may reach. */
  readonly pushable: PushSessions = {
    all: () => this.#registry.values(),
    named: (id) => this.#registry.named(id),
  };

  /** The handler's name in Reflex; undefined where no worker is known that has it. */
  fullName(handler: string): string | undefined {
    const { manifest } = this.#knowledge;
    return manifest === undefined ? undefined : fullNameOf(handler, manifest);
  }

  /** Whether a worker has said which handlers there are. */
  get knowsHandlers(): boolean {
    return this.#knowledge.manifest !== undefined;
  }

  configure(settings: GatewaySettings): void {
    this.#settings = settings;
    this.#budget.limit = settings.limits.totalQueueBytes;
    this.#knowledge.configure(settings);
  }

  workersChanged(workers: readonly LinkedWorker[]): void {
    this.#knowledge.workersChanged(workers);
  }

  /** A handler in a worker logged a tab in or out. Another one that claims its token is none of it. */
  sessionChanged({ token, session: id, cookie }: SessionChange): void {
    for (const session of this.#registry.ofToken(token)) if (session.isKnownAs(id)) session.setSession(cookie);
  }

  /** Lets those come back who lost access by what was invalidated. */
  revoke(what: Invalidation): void {
    this.#revocation.invalidated(what);
  }

  request(exchange: HttpExchange): void {
    const { path } = parseTarget(exchange.head.target);
    const { method } = exchange.head;
    const { uploadPath, proxyOther } = this.#options;
    if (path.startsWith('/_bridgehead/')) return this.#own(exchange, path);
    if (this.#isEventPath(path)) return this.#events.request(exchange);
    if (hasDotSegment(path)) return respondError(exchange, 400, 'bad_request', DOT_SEGMENTS);
    if (path === uploadPath || path === `${uploadPath}/`) {
      if (method === 'POST') return void this.#uploads.post(exchange);
      if (method === 'OPTIONS') return void this.#forward(exchange);
    }
    const isFile = path.startsWith(`${uploadPath}/`) && (method === 'GET' || method === 'HEAD');
    if (isFile) return void this.#forward(exchange);
    if (this.#isReserved(path)) return respondError(exchange, 404, 'not_found', OWN_PATHS);
    if (proxyOther) return void this.#forward(exchange);
    respondError(
      exchange,
      404,
      'not_found',
      'Nothing is served here; set proxyOther to pass other paths to the backend.',
    );
  }

  upgrade(request: UpgradeRequest): void {
    const { path, query } = parseTarget(request.head.target);
    const { proxyOther } = this.#options;
    if (this.#isEventPath(path)) return this.#events.upgrade(request);
    if (hasDotSegment(path)) return refuseUpgrade(request, 400, 'bad_request', DOT_SEGMENTS);
    if (this.#isReserved(path)) return refuseUpgrade(request, 404, 'not_found', OWN_PATHS);
    const backend = proxyOther ? this.#parts.pool.forToken(clientToken(query)) : undefined;
    if (backend === undefined) return refuseUpgrade(request, 404, 'not_found', 'No WebSocket is served here.');
    void proxyWebSocket(request, backend.upstream, this.#parts);
  }

  #isEventPath(path: string): boolean {
    const { eventPath } = this.#options;
    return path === eventPath || path === `${eventPath}/`;
  }

  /** A worker takes events and uploads at more than their own paths: all of it passes the pipeline, or not at all. */
  #isReserved(path: string): boolean {
    const plain = plainPath(path);
    return this.#reserved.some((own) => isUnder(plain, own));
  }

  summaries(limit: number): SessionSummary[] {
    const newest = [...this.#registry.values()].slice(-limit).toReversed();
    return newest.map((session) => session.summary());
  }

  closeSession(id: string, reason: SessionCloseReason): boolean {
    const session = this.#registry.find(id);
    session?.close(reason, CloseCode.policyViolation);
    return session !== undefined;
  }

  /** From now on new sessions get 503. */
  beginDrain(): void {
    this.#draining = true;
  }

  /**
   * Waits at most `bound` milliseconds for what is under way, then lets the sessions go one after the other, in what is left of that time
   * or in a quarter of it.
   */
  async drain(bound: number): Promise<void> {
    this.beginDrain();
    const { clock } = this.#parts;
    const deadline = clock.monotonic() + bound;
    while (this.#busy() && clock.monotonic() < deadline) await sleep(clock, DRAIN_STEP);
    const left = Math.max(deadline - clock.monotonic(), bound / 4);
    await departure([...this.#registry.values()], left, clock);
    this.#peers.close();
  }

  #busy(): boolean {
    if (this.#proxy.active > 0) return true;
    for (const session of this.#registry.values()) if (session.busy) return true;
    return false;
  }

  #own(exchange: HttpExchange, path: string): void {
    if (path !== '/_bridgehead/ready') return respondError(exchange, 404, 'not_found', 'Nothing is served here.');
    const ready = this.#parts.ready() && !this.#draining;
    const headers = { 'content-type': 'text/plain', 'cache-control': 'no-store' };
    exchange.respond(ready ? 200 : 503, headers, ready ? 'ready\n' : 'not ready\n');
  }

  async #forward(exchange: HttpExchange): Promise<void> {
    const { query } = parseTarget(exchange.head.target);
    const backend = this.#parts.pool.forToken(clientToken(query));
    if (backend === undefined) return respondError(exchange, 502, 'upstream_unavailable', 'There is no backend.');
    await this.#proxy.forward(exchange, { upstream: backend.upstream, maxBytes: this.#settings.limits.uploadBytes });
  }

  #admissionState(): ReturnType<ConstructorParameters<typeof Admission>[0]> {
    const { limits } = this.#settings;
    return {
      draining: this.#draining,
      sessions: this.#registry.size,
      maxSessions: limits.sessions,
      isExpected: (token) => this.#registry.isExpected(token),
      handshakesPerSecond: limits.handshakesPerSecond,
      origins: this.#knowledge.origins,
    };
  }

  #relayContext(): RelayContext {
    const { namespace, payloadBytes, retention } = this.#options;
    const { pool, channels, linkedPayload, clock, metrics } = this.#parts;
    const knowledge = this.#knowledge;
    const settings = (): GatewaySettings => this.#settings;
    const relief = new Relief(this.#budget, () => this.#registry.values(), clock);
    return {
      namespace,
      updatePrefix: Buffer.from(`42${namespace === '/' ? '' : `${namespace},`}["event"`),
      budget: this.#budget,
      relieve: () => relief.begin(),
      shared: this.#parts.sharedLimits,
      userSessions: new UserSessions(() => settings().limits.sessionsPerUser),
      channels,
      connectWatch: new ConnectWatch(namespace),
      retention,
      predecessors: (session) => this.#registry.predecessors(session),
      renamed: (session, token) => this.#registry.rename(session, token),
      clock,
      metrics,
      get maxPayload() {
        return Math.min(payloadBytes, pool.maxPayload, linkedPayload());
      },
      get limits() {
        return settings().limits;
      },
      get tiers() {
        return knowledge.tiers;
      },
      get annotator() {
        return knowledge.annotator;
      },
      get users() {
        return knowledge.users;
      },
      get workerEnforces() {
        return knowledge.workerEnforces;
      },
      get loginUrl() {
        return settings().loginUrl ?? knowledge.manifest?.loginUrl ?? DEFAULT_LOGIN_URL;
      },
    };
  }
}

/** A worker may resolve them, decoded or not, and then a path that begins well ends elsewhere. */
function hasDotSegment(path: string): boolean {
  return /(^|\/|\\|%2f|%5c)(\.|%2e){1,2}(\/|\\|%2f|%5c|$)/i.test(path);
}

function sleep(clock: Clock, milliseconds: number): Promise<void> {
  return new Promise((resolve) => void clock.setTimeout(resolve, milliseconds));
}
