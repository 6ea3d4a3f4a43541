import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { PeerDirectory } from '../../ports/peer-directory.ts';
import type { HttpExchange, RequestHead, UpgradeRequest } from '../../ports/transport.ts';
import type { Upstream } from '../../ports/upstream.ts';
import type { Keyring } from '../../protocol/keys.ts';
import { PEER_HEADER, readPeerNote, signPeerNote, type PeerRequest } from '../../protocol/peer-note.ts';
import { clientAddress, type TrustsProxy } from '../http/forwarded.ts';
import { HttpProxy, type Failure } from './http-proxy.ts';
import { sidPrefix } from './session-registry.ts';
import { proxyWebSocket } from './websocket-proxy.ts';

/** How the other sidecars of the deployment are found and spoken to. */
export interface PeerParts {
  /** The deployment's. */
  readonly name: string;
  readonly directory: PeerDirectory;
  /** For the purpose `peer`. */
  readonly keys: Keyring;
  /** A sidecar at this address. */
  readonly connect: (url: string) => Upstream;
}

/** How a request gets to the sidecar that has its session. */
export interface Peers {
  /** What an operator may do about a session that nobody has. */
  readonly remedy: string;
  /** Another sidecar passed this request on: it has looked at the origin. The client's address; undefined for a client's own request. */
  vouched(head: RequestHead, sid: string, method: PeerRequest['method']): string | undefined;
  /** Passes it on; false where nobody is known to have the session: it is not answered then. */
  poll(exchange: HttpExchange, sid: string): Promise<boolean>;
  upgrade(request: UpgradeRequest, sid: string): Promise<boolean>;
  close(): void;
}

/** Where no other sidecar can be found. */
export const ALONE: Peers = {
  remedy:
    ' With several sidecars, let the balancer keep a polling client at one of them (sticky), or give all of them the same redis.url and secret.',
  vouched: () => undefined,
  poll: () => Promise.resolve(false),
  upgrade: () => Promise.resolve(false),
  close: () => undefined,
};

/** As the reference server answers where a session is over: its client opens another one. */
const GONE: Failure = {
  status: 400,
  code: 'unknown_sid',
  message: 'The sidecar that had this session does not answer.',
};
export interface PeerRequestParts {
  readonly trusts: TrustsProxy;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Whose requests a drain waits for. */
  readonly proxy: HttpProxy;
}

/** Connections of so many peers are kept. */
const MAX_PEERS = 100;

/** Passes requests of a session to the sidecar whose prefix its sid has, by a note that no client can make, and at most once. */
export class PeerRequests implements Peers {
  readonly remedy = '';
  readonly #ownPrefix: string;
  readonly #peers: PeerParts;
  readonly #parts: Omit<PeerRequestParts, 'proxy'>;
  /** A client waits for the answer to a POST; a GET waits for the worker, and must not hold up a drain. */
  readonly #posts: HttpProxy;
  readonly #polls: HttpProxy;
  readonly #upstreams = new Map<string, Upstream>();

  constructor(ownPrefix: string, peers: PeerParts, parts: PeerRequestParts) {
    this.#ownPrefix = ownPrefix;
    this.#peers = peers;
    this.#parts = parts;
    this.#posts = parts.proxy;
    this.#polls = new HttpProxy(parts);
  }

  vouched(head: RequestHead, sid: string, method: PeerRequest['method']): string | undefined {
    const { keys, name } = this.#peers;
    const note = head.headers[PEER_HEADER];
    return note === undefined ? undefined : readPeerNote(note, { name, sid, method }, this.#parts.clock.now(), keys);
  }

  async poll(exchange: HttpExchange, sid: string): Promise<boolean> {
    const { head } = exchange;
    const upstream = await this.#owner(head, sid);
    if (upstream === undefined) return false;
    this.#parts.metrics.passedToPeer('request');
    const isPost = head.method === 'POST';
    await (isPost ? this.#posts : this.#polls).forward(exchange, {
      upstream,
      headers: this.#note(head, sid, isPost ? 'POST' : 'GET'),
      // The owner knows how much its worker takes.
      maxBytes: 0,
      failure: GONE,
    });
    return true;
  }

  async upgrade(request: UpgradeRequest, sid: string): Promise<boolean> {
    const upstream = await this.#owner(request.head, sid);
    if (upstream === undefined) return false;
    this.#parts.metrics.passedToPeer('websocket');
    const headers = this.#note(request.head, sid, 'WEBSOCKET');
    await proxyWebSocket(request, upstream, { ...this.#parts, headers, failure: GONE });
    return true;
  }

  close(): void {
    for (const upstream of this.#upstreams.values()) upstream.close();
    this.#upstreams.clear();
  }

  #note(head: RequestHead, sid: string, method: PeerRequest['method']): { readonly [PEER_HEADER]: string } {
    const { name, keys } = this.#peers;
    const { trusts, clock } = this.#parts;
    const address = clientAddress(head, trusts);
    return { [PEER_HEADER]: signPeerNote({ name, sid, method }, address, clock.now(), keys.current) };
  }

  /** Whoever has it said of itself where it is: nothing of the request decides where that goes. */
  async #owner(head: RequestHead, sid: string): Promise<Upstream | undefined> {
    const prefix = sidPrefix(sid);
    // With a note, valid or not, it has been passed on once.
    if (prefix === undefined || prefix === this.#ownPrefix || head.headers[PEER_HEADER] !== undefined) return undefined;
    const url = await this.#peers.directory.find(prefix);
    return url === undefined ? undefined : this.#upstream(url);
  }

  #upstream(url: string): Upstream {
    const known = this.#upstreams.get(url);
    if (known !== undefined) return known;
    for (const [oldest, upstream] of this.#upstreams) {
      if (this.#upstreams.size < MAX_PEERS) break;
      this.#upstreams.delete(oldest);
      upstream.close();
    }
    const upstream = this.#peers.connect(url);
    this.#upstreams.set(url, upstream);
    return upstream;
  }
}
