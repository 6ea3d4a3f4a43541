import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type NetConnectOpts, type Socket } from 'node:net';
import { keyring } from '../../src/protocol/keys.ts';
import {
  encodeControl,
  FrameReader,
  isLinkMac,
  LinkFrame,
  linkMac,
  MAX_FRAME,
  type Frame,
} from '../../src/protocol/link.ts';
import { SessionFrame } from '../../src/protocol/link-session.ts';
import { waitUntil } from '../../tools/process.ts';

export interface LinkMessage {
  readonly type: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** A manifest of one small app, to be changed where a test needs it. */
export const MANIFEST = {
  instance: 'worker-1',
  pid: 4711,
  host: 'web-1',
  versions: { bridgehead: '0.1.0', python: '3.13.0', reflex: '0.10.1', reflex_django: '4.0.3', django: '6.1.3' },
  build: '0123456789abcdef',
  mode: 'full',
  resolver: false,
  states: {
    root: { class: 'reflex.state.State', tier: null, smart: 'none', handlers: ['hydrate', 'hydrate_and_load'] },
    'root.cart': { class: 'shop.cart.Cart', tier: 'none', smart: 'none', handlers: ['add', 'toggle'] },
    'root.order': { class: 'shop.order.Order', tier: 'auth_only', smart: 'full', handlers: ['place'] },
    'root.note': { class: 'shop.note.Note', tier: null, smart: 'none', handlers: ['save'] },
  },
  cookie: 'sessionid',
  loginUrl: '/login',
  corsOrigins: ['*'],
  capacity: 0,
} as const;

/** Plays the worker's side of a link as docs/PROTOCOL.md says, or as a test would have it. */
export class LinkClient {
  readonly socket: Socket;
  readonly received: LinkMessage[] = [];
  closed = false;
  /** Whether PING is answered, as an honest worker does. */
  answersPings = true;
  /** Called for each frame of a session; its body is a view. */
  onSessionFrame: (frame: Frame) => void = () => undefined;
  readonly nonce = randomBytes(32).toString('base64url');
  readonly #reader = new FrameReader();
  #secret = '';
  #sessions = 0;

  private constructor(socket: Socket) {
    this.socket = socket;
    this.#reader.limit = MAX_FRAME;
    socket.on('data', (chunk: Buffer) => {
      this.#reader.push(chunk, (frame) => {
        this.#frame(frame);
        return true;
      });
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.closed = true;
    });
  }

  #frame(frame: Frame): void {
    if (frame.type >= SessionFrame.attach) return this.onSessionFrame(frame);
    const message = { type: frame.type, body: JSON.parse(frame.body.toString()) as LinkMessage['body'] };
    this.received.push(message);
    if (frame.type === LinkFrame.ping && this.answersPings) this.send(LinkFrame.pong, message.body);
  }

  /**
   * `address` as a link server gives it: `tcp://host:port` or `unix:path`. Resolves with HELLO there. `inPlace`: what comes is read into one
   * buffer, so that frames are valid during their call alone.
   */
  static async dial(address: string, inPlace = false): Promise<LinkClient> {
    const unix = /^unix:(.+)$/.exec(address)?.[1];
    const url = unix === undefined ? new URL(address) : undefined;
    const to = unix === undefined ? { host: url?.hostname, port: Number(url?.port), noDelay: true } : { path: unix };
    const buffer = Buffer.allocUnsafe(64 * 1024);
    const callback = (size: number): boolean => socket.emit('data', buffer.subarray(0, size));
    const socket = connect({ ...to, ...(inPlace && { onread: { buffer, callback } }) } as NetConnectOpts);
    const client = new LinkClient(socket);
    await once(socket, 'connect');
    await client.until(LinkFrame.hello);
    return client;
  }

  /** The whole handshake of an honest worker. */
  static async link(
    address: string,
    secret: string,
    manifest: object = MANIFEST,
    inPlace = false,
  ): Promise<LinkClient> {
    const client = await LinkClient.dial(address, inPlace);
    client.prove(secret);
    const { body } = await client.until(LinkFrame.welcome);
    const key = keyring(secret, [], 'link').current;
    if (!isLinkMac(key, 'sidecar', client.proof(), String(body['mac'])))
      throw new Error('the sidecar did not prove itself');
    client.send(LinkFrame.manifest, manifest);
    return client;
  }

  get hello(): Readonly<Record<string, unknown>> {
    return this.received[0]?.body ?? {};
  }

  proof(): { name: string; sidecarNonce: string; workerNonce: string } {
    return { name: String(this.hello['name']), sidecarNonce: String(this.hello['nonce']), workerNonce: this.nonce };
  }

  prove(secret: string, changes: Readonly<Record<string, unknown>> = {}): void {
    this.#secret = secret;
    const key = keyring(secret, [], 'link').current;
    const mac = linkMac(key, 'worker', this.proof());
    this.send(LinkFrame.auth, { v: 1, kid: key.id, nonce: this.nonce, mac, ...changes });
  }

  /** SESSION as an honest worker signs it. `said` is sent as it is, so a test may count wrongly. */
  session(
    said: { readonly t: unknown; readonly session?: unknown; readonly cookie?: unknown; readonly n?: unknown },
    changes: Readonly<Record<string, unknown>> = {},
  ): void {
    const key = keyring(this.#secret, [], 'link').current;
    const text = JSON.stringify({ n: ++this.#sessions, session: null, ...said });
    this.send(LinkFrame.session, { said: text, mac: linkMac(key, 'session', this.proof(), text), ...changes });
  }

  send(type: number, message: object): void {
    this.socket.write(encodeControl(type, message));
  }

  of(type: number): LinkMessage[] {
    return this.received.filter((message) => message.type === type);
  }

  /** The `count`th message of a type. */
  async until(type: number, count = 1): Promise<LinkMessage> {
    const arrived = (): boolean => this.of(type).length >= count;
    const options = { timeoutMs: 30_000, intervalMs: 5, what: `frame ${type} of the sidecar` };
    await waitUntil(() => arrived() || this.closed, options);
    if (!arrived()) throw new Error(`closed after ${JSON.stringify(this.received)}`);
    return this.of(type)[count - 1] as LinkMessage;
  }

  /** The code of the ERROR the sidecar ended the link with; undefined where it just ended. */
  async untilClosed(): Promise<unknown> {
    await waitUntil(() => this.closed, { timeoutMs: 30_000, intervalMs: 5, what: 'the end of the link' });
    return this.of(LinkFrame.error)[0]?.body['code'];
  }

  end(): void {
    this.socket.destroy();
  }
}
