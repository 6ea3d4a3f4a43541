import type { Clock } from '../../ports/clock.ts';
import type { Metrics, RefusalReason } from '../../ports/metrics.ts';
import type { Headers, HttpExchange, RequestHead, UpgradeRequest } from '../../ports/transport.ts';
import { EngineSession, type EngineOptions } from '../engine/engine-session.ts';
import { PollingLane } from '../engine/polling-lane.ts';
import { WebSocketLane } from '../engine/websocket-lane.ts';
import { channelHeaders, clientAddress, upstreamHeaders, type TrustsProxy } from '../http/forwarded.ts';
import { channelTarget, clientToken, parseTarget, type Target } from '../http/query.ts';
import { refuseUpgrade, respondError } from '../http/respond.ts';
import { clientInfo, type ClientInfo } from '../relay/client-info.ts';
import type { RelayContext } from '../relay/relay-context.ts';
import { RelaySession } from '../relay/relay-session.ts';
import type { Admission, Refusal } from './admission.ts';
import type { Peers } from './peers.ts';
import type { SessionRegistry } from './session-registry.ts';

export interface EventEndpointParts {
  readonly context: RelayContext;
  readonly registry: SessionRegistry;
  readonly admission: Admission;
  readonly peers: Peers;
  readonly trusts: TrustsProxy;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** Passes a request to the worker as it is: CORS preflights. */
  readonly forward: (exchange: HttpExchange) => void;
}

/** As Engine.IO's reference server; `maxPayload` is the worker's. Milliseconds. */
const TIMES = { pingInterval: 25_000, pingTimeout: 20_000, upgradeTimeout: 10_000 } as const;
/** A polling body holds several packets, in bytes of UTF-8. */
const BYTES_PER_CODE_POINT = 4;

/** The Engine.IO endpoint: handshakes, polls, and upgrades from one transport to the other. */
export class EventEndpoint {
  readonly #parts: EventEndpointParts;

  constructor(parts: EventEndpointParts) {
    this.#parts = parts;
  }

  request(exchange: HttpExchange): void {
    const { head } = exchange;
    const target = parseTarget(head.target);
    const sid = target.query.get('sid');
    if (head.method === 'OPTIONS') return this.#parts.forward(exchange);
    if (target.query.get('transport') !== 'polling') return this.#refuseTransport(exchange, target.query);
    if (sid !== null) return void this.#poll(exchange, sid);
    if (head.method !== 'GET') return this.#error(exchange, 405, 'bad_request', 'A session begins with a GET request.');
    const address = clientAddress(head, this.#parts.trusts);
    const refusal = this.#parts.admission.handshake(head, target.query, address);
    if (refusal !== undefined) return respondRefusal(exchange, refusal);
    this.#openPolling(exchange, this.#client(head, target, address, []));
  }

  upgrade(request: UpgradeRequest): void {
    const { head } = request;
    const target = parseTarget(head.target);
    const sid = target.query.get('sid');
    if (target.query.get('transport') !== 'websocket') {
      this.#parts.metrics.refused('transport');
      return refuseUpgrade(request, 400, 'transport', 'A WebSocket needs transport=websocket in its query.');
    }
    if (sid !== null) return void this.#upgradePolling(request, sid);
    const address = clientAddress(head, this.#parts.trusts);
    const refusal = this.#parts.admission.handshake(head, target.query, address);
    if (refusal !== undefined) {
      return refuseUpgrade(request, refusal.status, refusal.code, refusal.message, refusal.headers);
    }
    this.#openWebSocket(request, this.#client(head, target, address, request.protocols));
  }

  #client(head: RequestHead, target: Target, address: string, protocols: readonly string[]): ClientInfo {
    const headers = channelHeaders(upstreamHeaders(head, address, this.#parts.trusts));
    const request = { target: channelTarget(target), headers, protocols };
    return clientInfo({ token: clientToken(target.query), address, request });
  }

  #engineOptions(): EngineOptions {
    return { ...TIMES, maxPayload: this.#parts.context.maxPayload };
  }

  #openWebSocket(request: UpgradeRequest, client: ClientInfo): void {
    const { registry, clock, metrics } = this.#parts;
    let lane: WebSocketLane | undefined;
    const engine = new EngineSession(
      registry.newId(),
      (sink) => (lane = new WebSocketLane(sink)),
      this.#engineOptions(),
      clock,
    );
    if (lane === undefined) return;
    const connection = request.accept({ protocol: request.protocols[0], sink: lane });
    if (connection === undefined) return;
    lane.attach(connection);
    this.#begin(engine, client);
    metrics.sessionOpened('websocket');
  }

  #openPolling(exchange: HttpExchange, client: ClientInfo): void {
    const { registry, clock, metrics } = this.#parts;
    const options = this.#engineOptions();
    const maxBody = options.maxPayload * BYTES_PER_CODE_POINT;
    const limits = { maxBody, budget: this.#parts.context.budget, clock };
    const engine = new EngineSession(registry.newId(), (sink) => new PollingLane(sink, limits), options, clock);
    this.#begin(engine, client);
    metrics.sessionOpened('polling');
    engine.pollingLane?.poll(exchange, corsHeaders(exchange.head));
  }

  #begin(engine: EngineSession, client: ClientInfo): void {
    const { registry, context } = this.#parts;
    const session = new RelaySession(context, engine, client, (ended) => registry.remove(ended));
    registry.add(session);
    engine.open(session);
  }

  async #poll(exchange: HttpExchange, sid: string): Promise<void> {
    const { head } = exchange;
    const { method } = head;
    const { admission, peers, registry } = this.#parts;
    if (method !== 'GET' && method !== 'POST')
      return this.#error(exchange, 405, 'bad_request', 'Polling uses GET and POST.');
    const refusal = peers.vouched(head, sid, method) === undefined ? admission.origin(head) : undefined;
    if (refusal !== undefined) return respondRefusal(exchange, refusal);
    const lane = registry.find(sid)?.engine.pollingLane;
    if (lane === undefined) {
      if (await peers.poll(exchange, sid)) return;
      return this.#error(exchange, 400, 'unknown_sid', `No polling session has this sid.${peers.remedy}`);
    }
    const headers = corsHeaders(head);
    if (method === 'GET') lane.poll(exchange, headers);
    else await lane.post(exchange, headers);
  }

  async #upgradePolling(request: UpgradeRequest, sid: string): Promise<void> {
    const { head } = request;
    const { admission, peers, registry, metrics } = this.#parts;
    const refusal = peers.vouched(head, sid, 'WEBSOCKET') === undefined ? admission.origin(head) : undefined;
    if (refusal !== undefined) return refuseUpgrade(request, refusal.status, refusal.code, refusal.message);
    const lane = registry.find(sid)?.engine.beginUpgrade();
    if (lane === undefined) {
      if (await peers.upgrade(request, sid)) return;
      metrics.refused('unknown_sid');
      const message = `No polling session with this sid can be upgraded.${peers.remedy}`;
      return refuseUpgrade(request, 400, 'unknown_sid', message);
    }
    const connection = request.accept({ protocol: request.protocols[0], sink: lane });
    if (connection !== undefined) lane.attach(connection);
  }

  #refuseTransport(exchange: HttpExchange, query: URLSearchParams): void {
    if (query.get('transport') !== 'websocket') {
      return this.#error(exchange, 400, 'transport', 'The query must say transport=websocket or transport=polling.');
    }
    const message =
      'This request is not a WebSocket handshake; a proxy in between may have dropped its Upgrade header.';
    this.#error(exchange, 426, 'not_websocket', message, { upgrade: 'websocket', connection: 'upgrade' });
  }

  #error(exchange: HttpExchange, status: number, code: RefusalReason, message: string, headers: Headers = {}): void {
    this.#parts.metrics.refused(code);
    respondError(exchange, status, code, message, { ...corsHeaders(exchange.head), ...headers });
  }
}

function respondRefusal(exchange: HttpExchange, refusal: Refusal): void {
  respondError(exchange, refusal.status, refusal.code, refusal.message, refusal.headers);
}

/** Admission has allowed the origin by now; the worker answers preflights, this is for the requests after them. */
function corsHeaders({ headers }: RequestHead): Headers {
  const { origin } = headers;
  if (typeof origin !== 'string') return {};
  return {
    'access-control-allow-origin': origin,
    'access-control-allow-credentials': 'true',
    vary: 'Origin',
  };
}
