import type { SendResult } from '../../ports/transport.ts';
import type {
  AttachAnswer,
  BackgroundHandler,
  DetachReason,
  HandlerCall,
  VirtualEnd,
  VirtualSession,
  VirtualSink,
} from '../../ports/virtual-session.ts';
import { FrameError, MAX_FRAME } from '../../protocol/link.ts';
import { encodeClient, encodeSession, SESSION_WINDOW, type SessionMessage } from '../../protocol/link-session.ts';
import type { StreamEnd } from './link-connection.ts';

/** What a session needs of the link that carries it. */
export interface SessionCarrier {
  readonly slow: boolean;
  write(frame: Buffer): SendResult;
  /** It has asked for its end. */
  detaching(session: LinkSession): void;
}

/** What a worker may say on a session's channel. */
export type WorkerMessage = Exclude<
  SessionMessage,
  { kind: 'attach' | 'client' | 'detach' | 'resync' | 'inject' | 'probed' }
>;
type Answer = Extract<SessionMessage, { kind: 'attached' | 'refused' }>;
type Detached = Extract<SessionMessage, { kind: 'detached' }>;

/** Credit goes back in portions, so that small messages do not each cost a frame. Bytes. */
const CREDIT_PORTION = SESSION_WINDOW / 4;
/** What a CLIENT frame can hold. Bytes. */
const MAX_PAYLOAD = MAX_FRAME - 10;

/** One virtual session, the sidecar's side. Thousands of them wait most of the time: it has no timer and no buffer. */
export class LinkSession implements VirtualSession {
  readonly channel: number;
  readonly #carrier: SessionCarrier;
  /** undefined: over, though the worker may not have freed the channel. */
  #sink: VirtualSink | undefined;
  #attached = false;
  #detaching = false;
  /** Bytes that may be sent. */
  #credit = SESSION_WINDOW;
  /** Bytes that came and were not given back, and how many of them the client has taken. */
  #owed = 0;
  #taken = 0;
  /** The last number that was sent, and the last that was received there. */
  #number = 0;
  #received = 0;

  constructor(carrier: SessionCarrier, channel: number, sink: VirtualSink) {
    this.#carrier = carrier;
    this.channel = channel;
    this.#sink = sink;
  }

  get blocked(): boolean {
    return !this.#attached || this.#credit <= 0 || this.#carrier.slow;
  }

  send(number: number, frame: string | Buffer, binary: boolean, tellDone: boolean): SendResult {
    const bytes = Buffer.byteLength(frame);
    if (bytes > MAX_PAYLOAD || !this.#live()) return 'dropped';
    this.#number = number;
    this.#credit -= bytes;
    return this.#carrier.write(encodeClient(this.channel, number, frame, binary, tellDone));
  }

  inject(number: number, { name, payload }: HandlerCall, background: boolean): SendResult {
    if (!this.#live()) return 'dropped';
    this.#number = number;
    return this.#say({ kind: 'inject', n: number, name, payload, background });
  }

  resync(number: number): SendResult {
    if (!this.#live()) return 'dropped';
    this.#number = number;
    return this.#say({ kind: 'resync', n: number });
  }

  taken(bytes: number): void {
    if (!this.#live()) return;
    this.#taken = Math.min(this.#owed, this.#taken + bytes);
    // Once all is taken, a worker without credit is owed more than a portion: it never waits for ever.
    if (this.#taken < CREDIT_PORTION) return;
    this.#say({ kind: 'credit', bytes: this.#taken });
    this.#owed -= this.#taken;
    this.#taken = 0;
  }

  probed(alive: boolean, kept: readonly string[], seen: number): void {
    if (this.#live()) this.#say({ kind: 'probed', alive, kept, seen });
  }

  detach(reason: DetachReason): void {
    if (this.#sink === undefined || this.#detaching) return;
    this.#detaching = true;
    this.#say({ kind: 'detach', reason });
    this.#carrier.detaching(this);
  }

  /** What the worker said on the channel. Throws FrameError where it may not say that. */
  hear(message: WorkerMessage): void {
    if (message.kind === 'attached' || message.kind === 'refused') return this.#answered(message);
    if (message.kind === 'detached') return this.#detached(message);
    const sink = this.#sink;
    if (sink === undefined) return;
    if (!this.#attached) throw new FrameError(`${message.kind.toUpperCase()} before ATTACHED`);
    switch (message.kind) {
      case 'server': {
        // The reader gives no strings.
        const payload = message.payload as Buffer;
        this.#owed += payload.length;
        return sink.message(payload, message.binary);
      }
      case 'received':
        this.#expectSent(message.n);
        if (message.n <= this.#received) return;
        this.#received = message.n;
        return sink.received(message.n);
      case 'done':
        this.#expectSent(message.n);
        return sink.done(message.n, message.outcome);
      case 'credit':
        return this.#credited(message.bytes, sink);
      case 'background':
        return sink.background(message.id, message.state === 'started' ? message.handler : 'ended');
      case 'subscribe':
        return sink.subscribe(message.subscription);
      case 'unsubscribe':
        return sink.unsubscribe(message.id);
      case 'probe':
        return sink.probe();
    }
  }

  /** The worker did not answer in time. */
  expire(): void {
    if (this.#attached) return this.#end('unanswered');
    this.detach('lost');
    this.#refuse('the worker did not answer in time');
  }

  linkDrained(): void {
    if (this.#attached && this.#credit > 0) this.#sink?.drained();
  }

  linkEnded(end: StreamEnd): void {
    if (this.#attached) this.#end(end);
    else this.#refuse('the link is gone');
  }

  #live(): boolean {
    return this.#attached && this.#sink !== undefined;
  }

  #say(message: SessionMessage): SendResult {
    return this.#carrier.write(encodeSession(this.channel, message));
  }

  #expectSent(number: number): void {
    if (number === 0 || number > this.#number) throw new FrameError(`${number} was not sent`);
  }

  #answered(message: Answer): void {
    const sink = this.#sink;
    if (sink === undefined) return;
    if (this.#attached) throw new FrameError('ATTACHED comes once');
    if (message.kind === 'attached') {
      const { received, sent, open = [] } = message;
      this.#attached = true;
      this.#number = this.#received = received;
      return sink.answered({ kind: 'attached', received, sent, open });
    }
    this.#sink = undefined;
    sink.answered(refusal(message));
  }

  #detached({ reason, background, unrun = [] }: Detached): void {
    if (!this.#attached) return this.#refuse('the worker ended the session');
    if (this.#detaching) return this.#end('detached', background, unrun);
    // Of itself a worker ends a session for another client, or as the app wants it: over in order.
    this.#end(reason === 'slow' || reason === 'failed' ? reason : 'closed', background, unrun);
  }

  #credited(bytes: number, sink: VirtualSink): void {
    const wasBlocked = this.#credit <= 0;
    this.#credit = Math.min(SESSION_WINDOW, this.#credit + bytes);
    if (wasBlocked && this.#credit > 0 && !this.#carrier.slow) sink.drained();
  }

  #refuse(message: string): void {
    const sink = this.#sink;
    this.#sink = undefined;
    sink?.answered({ kind: 'refused', code: 'failed', message });
  }

  #end(end: VirtualEnd, background: readonly BackgroundHandler[] = [], unrun: readonly number[] = []): void {
    const sink = this.#sink;
    this.#sink = undefined;
    sink?.ended(end, background, unrun);
  }
}

function refusal({ error, message, instance }: Extract<Answer, { kind: 'refused' }>): AttachAnswer {
  // The reader takes no `elsewhere` without an instance.
  return error === 'elsewhere'
    ? { kind: 'elsewhere', holder: instance ?? '' }
    : { kind: 'refused', code: error, message: message.slice(0, 200) };
}
