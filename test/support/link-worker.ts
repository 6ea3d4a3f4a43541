import { LinkFrame } from '../../src/protocol/link.ts';
import type { Subscription } from '../../src/protocol/link-live.ts';
import { decodeSession } from '../../src/protocol/link-session-reader.ts';
import {
  encodeSession,
  type AttachMessage,
  type OUTCOMES,
  type SessionHandler,
  type SessionMessage,
} from '../../src/protocol/link-session.ts';
import { waitUntil } from '../../tools/process.ts';
import { LinkClient, MANIFEST } from './link-client.ts';

type Outcome = (typeof OUTCOMES)[number];
type AttachReply = Extract<SessionMessage, { kind: 'attached' | 'refused' }>;

/** A manifest of a worker that takes sessions, to be changed where a test needs it. */
export const SESSIONS_MANIFEST = {
  ...MANIFEST,
  sessions: true,
  maxPayload: 1_000_000,
  tokens: 'tokens-of-worker-1',
  persistent: true,
};

/** What came from the client, in order: packets, handlers to run and wishes for the whole state. */
export type WorkerPacket =
  | { readonly kind: 'client'; readonly n: number; readonly frame: string | Buffer; readonly wantsDone: boolean }
  | {
      readonly kind: 'inject';
      readonly n: number;
      readonly name: string;
      readonly payload: unknown;
      readonly background: boolean;
    }
  | { readonly kind: 'resync'; readonly n: number };

/** What a live event carries. */
export interface LivePayload {
  readonly subscription: string;
  readonly changes: readonly { readonly model: string; readonly action: string; readonly pk: number | string }[];
  readonly reload: boolean;
}

type LiveEvent = LivePayload & { readonly n: number };

/** The handler of played sessions' subscriptions. */
export const LIVE_HANDLER = 'root.note.apply_live_change';

/** One virtual session in a played worker. */
export class LinkWorkerSession {
  readonly channel: number;
  readonly request: AttachMessage;
  readonly packets: WorkerPacket[] = [];
  /** Bytes that the sidecar gave back. */
  credit = 0;
  /** CREDIT frames that gave them. */
  credits = 0;
  /** Why the sidecar ended it. */
  detached: string | undefined;
  probed: { readonly alive: boolean; readonly kept: readonly string[]; readonly seen?: number } | undefined;
  /** SERVER frames sent. */
  sent = 0;
  readonly #worker: LinkWorker;

  constructor(worker: LinkWorker, channel: number, request: AttachMessage) {
    this.#worker = worker;
    this.channel = channel;
    this.request = request;
  }

  /** The client's texts, in order. */
  get texts(): string[] {
    return this.packets.flatMap((packet) =>
      packet.kind === 'client' && typeof packet.frame === 'string' ? [packet.frame] : [],
    );
  }

  answer(reply: AttachReply): void {
    this.say(reply);
  }

  /** A text with its leading `4`, or an attachment. Credit is not looked at. */
  send(frame: string | Buffer): void {
    this.sent++;
    this.say({ kind: 'server', binary: typeof frame !== 'string', payload: frame });
  }

  received(n: number): void {
    this.say({ kind: 'received', n });
  }

  done(n: number, outcome: Outcome = 'ended'): void {
    this.say({ kind: 'done', n, outcome });
  }

  giveBack(bytes: number): void {
    this.say({ kind: 'credit', bytes });
  }

  background(id: string, handler: SessionHandler | 'ended'): void {
    if (handler === 'ended') this.say({ kind: 'background', id, state: 'ended' });
    else this.say({ kind: 'background', id, state: 'started', handler });
  }

  subscribe(subscription: Partial<Subscription> = {}): void {
    const common: Subscription = { id: 'list', model: 'shop.product', pks: null, tags: null, handler: LIVE_HANDLER };
    this.say({ kind: 'subscribe', subscription: { ...common, ...subscription } });
  }

  unsubscribe(id: string): void {
    this.say({ kind: 'unsubscribe', id });
  }

  /** The live events that came, in order. */
  get live(): LiveEvent[] {
    return this.packets.flatMap((packet) => {
      const payload = packet.kind === 'inject' ? (packet.payload as { readonly live?: LivePayload }) : {};
      return payload.live === undefined ? [] : [{ n: packet.n, ...payload.live }];
    });
  }

  probe(): void {
    this.say({ kind: 'probe' });
  }

  /** Ends it: by itself, or in answer to DETACH. */
  end(
    reason: 'closed' | 'slow' | 'failed' | 'move' | 'lost' | 'takeover',
    background: readonly SessionHandler[] = [],
    unrun: readonly number[] = [],
  ): void {
    this.say({ kind: 'detached', reason, background, ...(unrun.length > 0 && { unrun }) });
  }

  say(message: SessionMessage): void {
    this.#worker.client.socket.write(encodeSession(this.channel, message));
  }

  /** Resolves with the packet of this number. */
  async packet(n: number): Promise<WorkerPacket> {
    const found = (): WorkerPacket | undefined => this.packets.find((packet) => packet.n === n);
    await waitUntil(() => found() !== undefined, wait(`packet ${n}`));
    return found() as WorkerPacket;
  }

  async untilDetached(): Promise<string> {
    await waitUntil(() => this.detached !== undefined, wait('DETACH'));
    return this.detached as string;
  }
}

/**
 * Plays a worker that takes virtual sessions (docs/PROTOCOL.md, "Sessions on a link"). As it comes it attaches whatever it is
 * asked to, takes and ends each packet at once, acknowledges CONNECT and answers DETACH; each of these can be turned off.
 */
export class LinkWorker {
  readonly client: LinkClient;
  /** In the order in which they were attached; ended ones stay. */
  readonly sessions: LinkWorkerSession[] = [];
  /** undefined: the test answers by hand. */
  onAttach: (request: AttachMessage) => AttachReply | undefined = () => ({ kind: 'attached', received: 0, sent: 0 });
  /** RECEIVED and credit for each packet as it comes. */
  receives = true;
  /** DONE for each packet that wants one. Only with `receives`. */
  finishes = true;
  /** `40…,{"sid":…}` for a client's CONNECT. */
  connects = true;
  /** DETACHED for a DETACH. */
  detaches = true;
  /** Background handlers that `move` cancels. */
  cancelled: readonly SessionHandler[] = [];
  /** Numbers that it says have not run, where a session is moved. */
  unrun: readonly number[] = [];
  readonly #open = new Map<number, LinkWorkerSession>();

  private constructor(client: LinkClient) {
    this.client = client;
    client.onSessionFrame = (frame) => {
      const message = decodeSession(frame);
      if (message !== undefined) this.#frame(frame.channel, message);
    };
  }

  static async link(
    address: string,
    secret: string,
    changes: Readonly<Record<string, unknown>> = {},
  ): Promise<LinkWorker> {
    return new LinkWorker(await LinkClient.link(address, secret, { ...SESSIONS_MANIFEST, ...changes }));
  }

  /** The session attached as the `count`th. */
  async session(count = 1): Promise<LinkWorkerSession> {
    await waitUntil(() => this.sessions.length >= count, wait(`attach ${count}`));
    return this.sessions[count - 1] as LinkWorkerSession;
  }

  /** Sessions that the sidecar has attached and not ended. */
  get open(): number {
    return this.#open.size;
  }

  drain(seconds: number): void {
    this.client.send(LinkFrame.drain, { seconds });
  }

  stats(stats: { sessions: number; inFlight: number; lagMs: number; rss: number; links?: number }): void {
    this.client.send(LinkFrame.stats, stats);
  }

  /** Leaves in order. */
  leave(): void {
    this.client.send(LinkFrame.goaway, { reason: 'shutdown' });
    this.client.socket.end();
  }

  /** Everything sent so far arrives, then the stream ends, as when the process is killed. */
  cut(): void {
    this.client.socket.end(() => this.client.socket.destroy());
  }

  /** Neither reads nor writes any more, and the connection stays. */
  hang(): void {
    this.client.socket.pause();
  }

  wake(): void {
    this.client.socket.resume();
  }

  #frame(channel: number, message: SessionMessage): void {
    if (message.kind === 'attach') return this.#attach(channel, message);
    const session = this.#open.get(channel);
    if (session === undefined) return;
    switch (message.kind) {
      case 'client':
        return this.#client(session, message);
      case 'inject':
      case 'resync':
        session.packets.push(message);
        return this.#take(session, message.n, 0, true);
      case 'credit':
        session.credit += message.bytes;
        session.credits++;
        return;
      case 'probed':
        session.probed = message;
        return;
      case 'detach':
        session.detached = message.reason;
        this.#open.delete(channel);
        if (!this.detaches) return;
        if (message.reason === 'move') session.end('move', this.cancelled, this.unrun);
        else session.end(message.reason);
        return;
      case 'attached':
      case 'refused':
      case 'server':
      case 'received':
      case 'done':
      case 'detached':
      case 'background':
      case 'subscribe':
      case 'unsubscribe':
      case 'probe':
        throw new Error(`a sidecar does not send ${message.kind}`);
    }
  }

  #attach(channel: number, request: AttachMessage): void {
    if (this.#open.has(channel)) throw new Error(`channel ${channel} is in use`);
    const session = new LinkWorkerSession(this, channel, request);
    this.sessions.push(session);
    const reply = this.onAttach(request);
    if (reply?.kind !== 'refused') this.#open.set(channel, session);
    if (reply !== undefined) session.answer(reply);
  }

  #client(session: LinkWorkerSession, message: Extract<SessionMessage, { kind: 'client' }>): void {
    const { n, binary, payload, done } = message;
    const bytes = Buffer.from(payload);
    const frame = binary ? bytes : bytes.toString();
    session.packets.push({ kind: 'client', n, frame, wantsDone: done });
    const namespace = typeof frame === 'string' ? /^40(\/[^,]*,)?/.exec(frame) : null;
    if (namespace !== null && this.connects) session.send(`${namespace[0]}{"sid":"sid-${session.channel}"}`);
    this.#take(session, n, bytes.length, done);
  }

  #take(session: LinkWorkerSession, n: number, bytes: number, wantsDone: boolean): void {
    if (!this.receives) return;
    session.received(n);
    if (bytes > 0) session.giveBack(bytes);
    if (wantsDone && this.finishes) session.done(n);
  }
}

function wait(what: string): { timeoutMs: number; intervalMs: number; what: string } {
  return { timeoutMs: 30_000, intervalMs: 2, what: `${what} of the sidecar` };
}
