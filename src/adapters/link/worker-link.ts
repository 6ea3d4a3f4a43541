import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { AuthResult, Invalidation } from '../../ports/auth.ts';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { LinkedWorker, RulesMessage } from '../../ports/links.ts';
import type { Keyring } from '../../protocol/keys.ts';
import {
  encodeControl,
  FrameError,
  FrameReader,
  isLinkMac,
  LINK_VERSION,
  LinkFrame,
  linkMac,
  MAX_FRAME,
  type Frame,
} from '../../protocol/link.ts';
import { ManifestError, readManifest } from '../../protocol/manifest.ts';
import { AuthQueries } from './auth-queries.ts';
import { readInvalidation } from '../shared/invalidation.ts';

export interface LinkIdentity {
  readonly name: string;
  readonly instance: string;
  readonly keys: Keyring;
}

export interface LinkEvents {
  /** The worker proved the secret and sent its manifest. */
  ready(worker: LinkedWorker): void;
  /** It sent another one. */
  changed(): void;
  session(token: string, cookie: string | null): void;
  invalidated(what: Invalidation): void;
  /** `reason` holds nothing that the worker sent. */
  refused(code: LinkErrorCode, reason: string): void;
  /** Once, at the end; the worker is undefined where it never got ready. */
  closed(worker: LinkedWorker | undefined, reason: string): void;
}

export type LinkErrorCode = 'VERSION' | 'AUTH' | 'NAME' | 'FRAME' | 'TIMEOUT' | 'MANIFEST';

/** The whole handshake must be done within this. Milliseconds. */
const HANDSHAKE_TIMEOUT = 5_000;
const HEARTBEAT = 5_000;
/** A worker that reads so slowly has stopped: control messages are small. Bytes. */
const MAX_UNSENT = 8 * 1024 * 1024;

type State = 'auth' | 'manifest' | 'ready' | 'closed';

/** One worker's link, from the first byte: mutual proof, manifest, rules, heartbeat. */
export class WorkerLink {
  worker: LinkedWorker | undefined;
  readonly #socket: Socket;
  readonly #identity: LinkIdentity;
  readonly #clock: Clock;
  readonly #events: LinkEvents;
  readonly #queries = new AuthQueries();
  readonly #reader = new FrameReader();
  readonly #nonce = randomBytes(32).toString('base64url');
  #state: State = 'auth';
  #reason = 'closed by the worker';
  #timer: Timer;
  #heardAt: number;
  #sentAt: number;

  constructor(socket: Socket, identity: LinkIdentity, parts: { clock: Clock }, events: LinkEvents) {
    this.#socket = socket;
    this.#identity = identity;
    this.#clock = parts.clock;
    this.#events = events;
    this.#heardAt = this.#sentAt = parts.clock.monotonic();
    this.#timer = parts.clock.setTimeout(() => this.#fail('TIMEOUT', 'the handshake took too long'), HANDSHAKE_TIMEOUT);
    socket.on('data', (chunk: Buffer) => this.#data(chunk));
    socket.on('error', (cause) => {
      this.#reason = 'code' in cause && typeof cause.code === 'string' ? cause.code : cause.message;
    });
    socket.on('close', () => this.#closed());
    const { name, instance } = identity;
    this.#send(LinkFrame.hello, { v: [LINK_VERSION], name, instance, nonce: this.#nonce });
  }

  /** Who a session cookie belongs to; `unavailable` where the worker is busy, goes or does not answer in time. */
  ask(cookie: string, primary: boolean, signal: AbortSignal): Promise<AuthResult> {
    const query = primary ? { cookie, primary } : { cookie };
    return this.#queries.ask(signal, (id) => this.#send(LinkFrame.authQuery, { id, ...query }));
  }

  sendRules(version: number, message: RulesMessage): void {
    const rules = message.rules.map(({ state, handler, path, tier, login }) => ({
      state: state ?? null,
      handler: handler ?? null,
      path: path ?? null,
      tier: tier ?? null,
      login: login ?? null,
    }));
    this.#send(LinkFrame.rules, { ...message, version, rules });
  }

  /** Says why and goes. */
  leave(reason: string): void {
    if (this.#state === 'closed') return;
    this.#reason = reason;
    this.#send(LinkFrame.goaway, { reason });
    this.#socket.end();
    this.#clock.setTimeout(() => this.#socket.destroy(), 1_000);
  }

  #data(chunk: Buffer): void {
    if (this.#state === 'closed') return;
    this.#heardAt = this.#clock.monotonic();
    try {
      for (const frame of this.#reader.push(chunk)) {
        this.#frame(frame);
        if (this.#isClosed()) return;
      }
    } catch (cause) {
      if (!(cause instanceof FrameError)) throw cause;
      this.#fail('FRAME', cause.message);
    }
  }

  #isClosed(): boolean {
    return this.#state === 'closed';
  }

  #frame({ type, channel, body }: Frame): void {
    if (channel !== 0) return this.#fail('FRAME', 'this version carries no sessions');
    const message = parseObject(body);
    if (message === undefined) return this.#fail('FRAME', 'a control frame must hold a JSON object');
    switch (this.#state) {
      case 'auth':
        if (type === LinkFrame.error) return this.#refusedByWorker(message);
        if (type !== LinkFrame.auth) return this.#fail('FRAME', 'expected AUTH');
        return this.#auth(message);
      case 'manifest':
      case 'ready':
        return this.#proved(type, message);
      case 'closed':
    }
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
    this.#reader.limit = MAX_FRAME;
    this.#state = 'manifest';
    this.#send(LinkFrame.welcome, { mac: linkMac(key, 'sidecar', proof), heartbeat: HEARTBEAT });
  }

  #proved(type: number, message: Record<string, unknown>): void {
    switch (type) {
      case LinkFrame.manifest:
        return this.#manifest(message);
      case LinkFrame.authReply:
        return this.#queries.answer(message, this.#clock.now());
      case LinkFrame.session:
        return this.#session(message);
      case LinkFrame.invalidate: {
        const what = readInvalidation(message);
        if (what !== undefined) this.#events.invalidated(what);
        return;
      }
      case LinkFrame.ping:
        return this.#send(LinkFrame.pong, { t: message['t'] });
      case LinkFrame.pong:
        return;
      case LinkFrame.goaway:
        this.#reason = 'the worker leaves';
        this.#socket.end();
        return;
      case LinkFrame.error:
        this.#reason = `the worker reports ${typeof message['code'] === 'string' ? message['code'].slice(0, 40) : 'an error'}`;
        this.#socket.end();
        return;
      default:
        // A newer worker may say more than this version knows.
        return;
    }
  }

  #session({ t: token, cookie }: Record<string, unknown>): void {
    if (typeof token !== 'string' || (typeof cookie !== 'string' && cookie !== null)) return;
    this.#events.session(token, cookie);
  }

  #manifest(message: Record<string, unknown>): void {
    try {
      const manifest = readManifest(message);
      if (manifest.name !== undefined && manifest.name !== this.#identity.name) {
        return this.#fail('NAME', 'the worker belongs to another deployment: compare BRIDGEHEAD_NAME and name');
      }
      this.worker = {
        manifest,
        since: this.worker?.since ?? this.#clock.monotonic(),
        drainBy: undefined,
        load: { sessions: 0, inFlight: 0, lag: 0, rss: 0 },
        attach: () => {
          throw new Error('this sidecar opens no sessions on links yet');
        },
      };
    } catch (cause) {
      if (!(cause instanceof ManifestError)) throw cause;
      return this.#fail('MANIFEST', cause.message);
    }
    if (this.#state === 'ready') return this.#events.changed();
    this.#state = 'ready';
    this.#timer.cancel();
    this.#beat();
    this.#events.ready(this.worker);
  }

  #beat(): void {
    this.#timer = this.#clock.setTimeout(() => {
      const now = this.#clock.monotonic();
      if (now - this.#heardAt >= 3 * HEARTBEAT) {
        this.#reason = 'no word from the worker';
        this.#socket.destroy();
        return;
      }
      if (now - this.#sentAt >= HEARTBEAT) this.#send(LinkFrame.ping, { t: this.#clock.now() });
      this.#beat();
    }, HEARTBEAT / 2);
  }

  #fail(code: LinkErrorCode, message: string): void {
    if (this.#state === 'closed') return;
    this.#reason = message;
    this.#send(LinkFrame.error, { code, message });
    this.#events.refused(code, message);
    this.#socket.end();
    this.#socket.destroySoon();
    this.#closed();
  }

  #send(type: number, message: object): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    this.#sentAt = this.#clock.monotonic();
    this.#socket.write(encodeControl(type, message));
    if (this.#socket.writableLength > MAX_UNSENT) this.#socket.destroy();
  }

  #closed(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#timer.cancel();
    this.#queries.close();
    const { worker } = this;
    this.worker = undefined;
    this.#events.closed(worker, this.#reason);
  }
}

/** Bytes that are no UTF-8 are no message: both sides must read the same text. */
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function parseObject(body: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(UTF8.decode(body));
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
