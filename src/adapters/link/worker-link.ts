import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { AuthResult, Invalidation } from '../../ports/auth.ts';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { LinkedWorker, LinkEnd, RulesMessage, SessionChange, WorkerLoad } from '../../ports/links.ts';
import type { AttachRequest, VirtualSession, VirtualSink } from '../../ports/virtual-session.ts';
import type { Key, Keyring } from '../../protocol/keys.ts';
import {
  decodeObject,
  FrameError,
  isLinkMac,
  LINK_VERSION,
  LinkFrame,
  linkMac,
  MAX_FRAME,
  type Frame,
  type Proof,
} from '../../protocol/link.ts';
import { SessionFrame } from '../../protocol/link-session.ts';
import { ManifestError, readManifest, type Manifest } from '../../protocol/manifest.ts';
import { readShadowReport, type ShadowReport } from '../../protocol/shadow-report.ts';
import { readInvalidation } from '../shared/invalidation.ts';
import { AuthQueries } from './auth-queries.ts';
import { HEARTBEAT, LinkConnection, type StreamEnd } from './link-connection.ts';
import { LiveFrames, type WorkerPublishing } from './live-frames.ts';
import { SessionTable } from './session-table.ts';

export interface LinkIdentity {
  readonly name: string;
  readonly instance: string;
  readonly keys: Keyring;
}

export interface LinkEvents extends WorkerPublishing {
  /** The worker proved the secret and sent its manifest. */
  ready(worker: LinkedWorker): void;
  /** It sent another one, or is about to stop. */
  changed(): void;
  session(change: SessionChange): void;
  invalidated(what: Invalidation, id: string | undefined): void;
  reported(worker: string, report: ShadowReport): void;
  /** `reason` holds nothing that the worker sent. */
  refused(code: LinkErrorCode, reason: string): void;
  /**
   * Once, at the end and before its sessions hear of it; the worker is undefined where it never got ready. `end`: how, where
   * neither side had said goodbye.
   */
  closed(worker: LinkedWorker | undefined, reason: string, end: LinkEnd | undefined): void;
}

export type LinkErrorCode = 'VERSION' | 'AUTH' | 'NAME' | 'FRAME' | 'TIMEOUT' | 'MANIFEST';

/** The whole handshake must be done within this. Milliseconds. */
const HANDSHAKE_TIMEOUT = 5_000;
/** A worker that said GOAWAY has this long to end its connection. Milliseconds. */
const GOODBYE_TIMEOUT = 5_000;
const SESSION_FAULT = 'a SESSION that the worker did not sign for this link';
const NO_LOAD: WorkerLoad = { sessions: 0, inFlight: 0, lag: 0, rss: 0, links: 1 };

/** The worker as core sees it: one object for the life of the link. */
class ReadyWorker implements LinkedWorker {
  manifest: Manifest;
  readonly since: number;
  drainBy: number | undefined;
  load = NO_LOAD;
  readonly #sessions: SessionTable;

  constructor(manifest: Manifest, since: number, sessions: SessionTable) {
    this.manifest = manifest;
    this.since = since;
    this.#sessions = sessions;
  }

  attach(request: AttachRequest, sink: VirtualSink): VirtualSession {
    if (!this.manifest.sessions) throw new Error('this worker takes no sessions: its manifest says so');
    return this.#sessions.attach(request, sink);
  }
}

/** One worker's link, from the first byte: mutual proof, manifest, rules, sessions. */
export class WorkerLink {
  readonly #identity: LinkIdentity;
  readonly #clock: Clock;
  readonly #events: LinkEvents;
  readonly #connection: LinkConnection;
  readonly #sessions: SessionTable;
  readonly live: LiveFrames;
  readonly #queries = new AuthQueries();
  readonly #nonce = randomBytes(32).toString('base64url');
  readonly #handshake: Timer;
  #state: 'auth' | 'manifest' | 'ready' = 'auth';
  #worker: ReadyWorker | undefined;
  /** Either side has said goodbye. */
  #inOrder = false;
  /** What the worker proved, and the key it proved it with: what it signs later is bound to both, and counted. */
  #proved: { readonly key: Key; readonly proof: Proof; count: number } | undefined;

  constructor(socket: Socket, identity: LinkIdentity, parts: { clock: Clock }, events: LinkEvents) {
    this.#identity = identity;
    this.#clock = parts.clock;
    this.#events = events;
    this.#connection = new LinkConnection(socket, parts.clock, {
      frame: (frame) => this.#frame(frame),
      read: () => this.#sessions.settle(),
      broken: (cause) => this.#fail('FRAME', cause.message),
      drained: () => {
        this.#sessions.drained();
        this.live.drained();
      },
      ended: (end, reason) => this.#ended(end, reason),
    });
    this.#sessions = new SessionTable(this.#connection, parts.clock);
    this.live = new LiveFrames(this.#connection, events, parts.clock);
    this.#handshake = parts.clock.setTimeout(
      () => this.#fail('TIMEOUT', 'the handshake took too long'),
      HANDSHAKE_TIMEOUT,
    );
    const { name, instance } = identity;
    this.#connection.send(LinkFrame.hello, { v: [LINK_VERSION], name, instance, nonce: this.#nonce });
  }

  /** Undefined until it is proved and has sent its manifest, and once the link is over. */
  get worker(): LinkedWorker | undefined {
    return this.#worker;
  }

  /** Who a session cookie belongs to; `unavailable` where the worker is busy, goes or does not answer in time. */
  ask(cookie: string, primary: boolean, signal: AbortSignal): Promise<AuthResult> {
    const query = primary ? { cookie, primary } : { cookie };
    return this.#queries.ask(signal, (id) => this.#connection.send(LinkFrame.authQuery, { id, ...query }));
  }

  sendRules(version: number, message: RulesMessage): void {
    const rules = message.rules.map(({ state, handler, path, tier, login }) => ({
      state: state ?? null,
      handler: handler ?? null,
      path: path ?? null,
      tier: tier ?? null,
      login: login ?? null,
    }));
    this.#connection.send(LinkFrame.rules, { ...message, version, rules });
  }

  /** Says why and goes. */
  leave(reason: string): void {
    this.#inOrder = true;
    this.#connection.send(LinkFrame.goaway, { reason });
    this.#connection.leave(reason);
  }

  /** The same worker has linked anew: this connection leads nowhere. */
  replaced(): void {
    this.#connection.abort('the worker linked anew');
  }

  #frame(frame: Frame): void {
    const { type } = frame;
    if (type >= SessionFrame.attach && this.#state === 'ready') return this.#sessions.frame(frame);
    this.#sessions.settle();
    if (frame.channel !== 0) throw new FrameError('a control frame has no channel');
    const message = decodeObject(frame.body);
    if (this.#state !== 'auth') return this.#control(type, message);
    if (type === LinkFrame.error) return this.#refusedByWorker(message);
    if (type !== LinkFrame.auth) throw new FrameError('expected AUTH');
    this.#auth(message);
  }

  /** It found fault with our HELLO: another name, or a version it does not speak. */
  #refusedByWorker({ code }: Record<string, unknown>): void {
    if (code === 'NAME')
      return this.#fail('NAME', 'the worker belongs to another deployment: compare BRIDGEHEAD_NAME and name');
    this.#fail('VERSION', 'the worker does not take this sidecar: compare the versions of bridgehead on both sides');
  }

  #auth({ v: version, kid, nonce, mac }: Record<string, unknown>): void {
    if (version !== LINK_VERSION) return this.#fail('VERSION', `this sidecar speaks version ${LINK_VERSION}`);
    const key = typeof kid === 'string' ? this.#identity.keys.find(kid) : undefined;
    const proof = {
      name: this.#identity.name,
      sidecarNonce: this.#nonce,
      workerNonce: typeof nonce === 'string' ? nonce : '',
    };
    const isProved = key !== undefined && typeof mac === 'string' && isLinkMac(key, 'worker', proof, mac);
    // A nonce of our own sent back is no proof of freshness for the worker, nor is a short one.
    if (!isProved || proof.workerNonce.length < 22 || proof.workerNonce === this.#nonce) {
      return this.#fail('AUTH', 'the proof is wrong: compare BRIDGEHEAD_SECRET and the deployment name on both sides');
    }
    this.#connection.limit = MAX_FRAME;
    this.#state = 'manifest';
    this.#proved = { key, proof, count: 0 };
    this.#connection.send(LinkFrame.welcome, { mac: linkMac(key, 'sidecar', proof), heartbeat: HEARTBEAT });
  }

  #control(type: number, message: Record<string, unknown>): void {
    switch (type) {
      case LinkFrame.manifest:
        return this.#manifest(message);
      case LinkFrame.authReply:
        return this.#queries.answer(message, this.#clock.now());
      case LinkFrame.session:
        return this.#session(message);
      case LinkFrame.invalidate: {
        const what = readInvalidation(message);
        if (what !== undefined) this.#events.invalidated(what, asMessageId(message['id']));
        return;
      }
      case LinkFrame.report:
        return this.#report(message);
      case LinkFrame.changes:
        return this.live.changes(message);
      case LinkFrame.gap:
        return this.live.gap(message);
      case LinkFrame.watch:
        return this.live.watch(message);
      case LinkFrame.ping:
        return this.#connection.send(LinkFrame.pong, { t: message['t'] });
      case LinkFrame.pong:
        return;
      case LinkFrame.drain:
        return this.#drain(message);
      case LinkFrame.stats:
        return this.#stats(message);
      case LinkFrame.goaway:
        this.#inOrder = true;
        this.#connection.leave('the worker leaves', GOODBYE_TIMEOUT);
        // Nothing new may come to it.
        return this.#stopping(0);
      case LinkFrame.error: {
        const code = typeof message['code'] === 'string' ? message['code'].slice(0, 40) : 'an error';
        return this.#connection.leave(`the worker reports ${code}`);
      }
      default:
        // A newer worker may say more than this version knows.
        return;
    }
  }

  /** Signed, since whose a tab is must not be anybody's word who can write into the connection. */
  #session({ said, mac }: Record<string, unknown>): void {
    const proved = this.#proved;
    if (proved === undefined || typeof said !== 'string' || typeof mac !== 'string')
      throw new FrameError(SESSION_FAULT);
    if (!isLinkMac(proved.key, 'session', proved.proof, mac, said)) throw new FrameError(SESSION_FAULT);
    const { n, t: token, session, cookie } = decodeObject(Buffer.from(said));
    // One that was heard before has been played back.
    if (typeof n !== 'number' || n <= proved.count) throw new FrameError(SESSION_FAULT);
    proved.count = n;
    if (typeof token !== 'string' || !isTextOrNull(session) || !isTextOrNull(cookie))
      throw new FrameError(SESSION_FAULT);
    this.#events.session({ token, session, cookie });
  }

  #report(message: Record<string, unknown>): void {
    const report = readShadowReport(message);
    if (report !== undefined && this.#worker !== undefined)
      this.#events.reported(this.#worker.manifest.instance, report);
  }

  #manifest(message: Record<string, unknown>): void {
    let manifest: Manifest;
    try {
      manifest = readManifest(message);
    } catch (cause) {
      if (!(cause instanceof ManifestError)) throw cause;
      return this.#fail('MANIFEST', cause.message);
    }
    if (manifest.name !== undefined && manifest.name !== this.#identity.name) {
      return this.#fail('NAME', 'the worker belongs to another deployment: compare BRIDGEHEAD_NAME and name');
    }
    if (this.#worker !== undefined) {
      this.#worker.manifest = manifest;
      return this.#events.changed();
    }
    this.#worker = new ReadyWorker(manifest, this.#clock.monotonic(), this.#sessions);
    this.#state = 'ready';
    this.#handshake.cancel();
    this.#connection.beat();
    this.#events.ready(this.#worker);
  }

  #drain({ seconds }: Record<string, unknown>): void {
    this.#stopping(asFigure(seconds, 'seconds') * 1_000);
  }

  #stopping(milliseconds: number): void {
    if (this.#worker === undefined) return;
    this.#worker.drainBy = this.#clock.monotonic() + milliseconds;
    this.#events.changed();
  }

  #stats({ sessions, inFlight, lagMs, rss, links = 1 }: Record<string, unknown>): void {
    if (this.#worker === undefined) return;
    this.#worker.load = {
      sessions: asFigure(sessions, 'sessions'),
      inFlight: asFigure(inFlight, 'inFlight'),
      lag: asFigure(lagMs, 'lagMs'),
      rss: asFigure(rss, 'rss'),
      links: asFigure(links, 'links'),
    };
  }

  #fail(code: LinkErrorCode, message: string): void {
    this.#events.refused(code, message);
    this.#connection.fail(LinkFrame.error, { code, message }, message);
  }

  #ended(end: StreamEnd, reason: string): void {
    const worker = this.#worker;
    this.#worker = undefined;
    this.#handshake.cancel();
    this.#queries.close();
    const how = end === 'lost' ? 'closed' : 'silent';
    this.#events.closed(worker, reason, this.#inOrder ? undefined : how);
    this.#sessions.ended(end);
  }
}

const MAX_ID = 100;

function asMessageId(id: unknown): string | undefined {
  return typeof id === 'string' && id !== '' && id.length <= MAX_ID ? id : undefined;
}

function isTextOrNull(value: unknown): value is string | null {
  return typeof value === 'string' || value === null;
}

function asFigure(value: unknown, field: string): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0)
    throw new FrameError(`${field}: expected a number of at least 0`);
  return value;
}
