import type { Clock } from '../../ports/clock.ts';
import type { SendResult } from '../../ports/transport.ts';
import type { AttachRequest, VirtualSession, VirtualSink } from '../../ports/virtual-session.ts';
import { FrameError, type Frame } from '../../protocol/link.ts';
import { decodeSession } from '../../protocol/link-session-reader.ts';
import { encodeSession, type SessionMessage } from '../../protocol/link-session.ts';
import { Deadlines } from './deadlines.ts';
import type { LinkConnection, StreamEnd } from './link-connection.ts';
import { LinkSession, type SessionCarrier, type WorkerMessage } from './link-session.ts';

/** An attach may wait for a state lock or a handler that runs elsewhere. Milliseconds. */
const ATTACH_TIMEOUT = 30_000;
const DETACH_TIMEOUT = 5_000;
const MAX_CHANNEL = 0xffff_ffff;

/** The virtual sessions of one link, by channel. */
export class SessionTable implements SessionCarrier {
  readonly #connection: LinkConnection;
  /** With those that are over for the sidecar and whose channel the worker has not freed. */
  readonly #sessions = new Map<number, LinkSession>();
  readonly #attaching: Deadlines<LinkSession>;
  readonly #detaching: Deadlines<LinkSession>;
  #acks: { readonly channel: number; readonly message: WorkerMessage }[] = [];
  #lastChannel = 0;

  constructor(connection: LinkConnection, clock: Clock) {
    this.#connection = connection;
    this.#attaching = new Deadlines(clock, ATTACH_TIMEOUT, (session) => session.expire());
    this.#detaching = new Deadlines(clock, DETACH_TIMEOUT, (session) => session.expire());
  }

  get slow(): boolean {
    return this.#connection.slow;
  }

  write(frame: Buffer): SendResult {
    return this.#connection.write(frame);
  }

  attach({ resume, protocol, from, ...request }: AttachRequest, sink: VirtualSink): VirtualSession {
    const session = new LinkSession(this, this.#freeChannel(), sink);
    const seen = resume?.seen ?? 0;
    const frame = encodeSession(session.channel, {
      kind: 'attach',
      session: request.session,
      target: request.target,
      headers: request.headers,
      client: request.client,
      protocol: protocol ?? null,
      takeover: request.takeover,
      resume: resume !== undefined,
      force: request.force,
      seen,
      ...(from !== undefined && { from }),
    });
    if (this.#connection.write(frame) === 'dropped') {
      // Told as everywhere else: after the caller has the session.
      queueMicrotask(() => session.linkEnded('lost'));
      return session;
    }
    this.#sessions.set(session.channel, session);
    this.#attaching.add(session);
    return session;
  }

  detaching(session: LinkSession): void {
    this.#attaching.delete(session);
    this.#detaching.add(session);
  }

  /**
   * Acknowledgements wait until the messages that came with them are on their way to the clients, who wait for those. Throws
   * FrameError.
   */
  frame(frame: Frame): void {
    const message = fromWorker(decodeSession(frame));
    if (message === undefined) return;
    const { channel } = frame;
    if (message.kind === 'received' || message.kind === 'done') return void this.#acks.push({ channel, message });
    if (message.kind !== 'server') this.settle();
    this.#hear(channel, message);
  }

  /** All that came together was given to `frame`. Throws FrameError. */
  settle(): void {
    if (this.#acks.length === 0) return;
    const acks = this.#acks;
    this.#acks = [];
    for (const { channel, message } of acks) this.#hear(channel, message);
  }

  #hear(channel: number, message: WorkerMessage): void {
    const session = this.#sessions.get(channel);
    // It crossed with the end of the session.
    if (session === undefined) return;
    session.hear(message);
    if (message.kind === 'attached') this.#attaching.delete(session);
    else if (message.kind === 'refused' || message.kind === 'detached') this.#free(session);
  }

  drained(): void {
    for (const session of this.#sessions.values()) {
      if (this.slow) return;
      session.linkDrained();
    }
  }

  ended(end: StreamEnd): void {
    this.#attaching.clear();
    this.#detaching.clear();
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    for (const session of sessions) session.linkEnded(end);
  }

  #free(session: LinkSession): void {
    this.#sessions.delete(session.channel);
    this.#attaching.delete(session);
    this.#detaching.delete(session);
  }

  /** Numbers go up, so that one that was just freed does not soon come again. */
  #freeChannel(): number {
    do this.#lastChannel = (this.#lastChannel % MAX_CHANNEL) + 1;
    while (this.#sessions.has(this.#lastChannel));
    return this.#lastChannel;
  }
}

function fromWorker(message: SessionMessage | undefined): WorkerMessage | undefined {
  switch (message?.kind) {
    case 'attach':
    case 'client':
    case 'detach':
    case 'resync':
    case 'inject':
    case 'probed':
      throw new FrameError(`a worker does not send ${message.kind.toUpperCase()}`);
    case 'attached':
    case 'refused':
    case 'server':
    case 'received':
    case 'done':
    case 'credit':
    case 'detached':
    case 'background':
    case 'subscribe':
    case 'unsubscribe':
    case 'probe':
    case undefined:
      return message;
  }
}
