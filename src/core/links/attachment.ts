import type {
  AttachAnswer,
  BackgroundHandler,
  Outcome,
  VirtualEnd,
  VirtualSession,
  VirtualSink,
} from '../../ports/virtual-session.ts';
import type { Subscription } from '../../protocol/link-live.ts';
import type { Berth, Moored } from './berth.ts';

/** What a linked channel hears of its session at one worker. */
export interface AttachmentEvents extends Moored {
  answered(answer: AttachAnswer): void;
  message(frame: Buffer, binary: boolean): void;
  received(number: number): void;
  done(number: number, outcome: Outcome): void;
  drained(): void;
  /** A background handler runs. */
  started(handler: BackgroundHandler): void;
  subscribe(subscription: Subscription): void;
  unsubscribe(id: string): void;
  probe(): void;
  ended(end: VirtualEnd, background: readonly BackgroundHandler[], unrun: readonly number[]): void;
}

/** A session at one worker, from ATTACH to its end. After `abandon` nothing is heard of it. */
export class Attachment implements VirtualSink {
  readonly berth: Berth;
  /** Server messages that arrived. */
  seen: number;
  /** Background handlers that run, by their ids. */
  readonly running: Map<string, BackgroundHandler>;
  /** As the worker gave it. */
  session: VirtualSession | undefined;
  #events: AttachmentEvents | undefined;

  /** `before`: the same session at this worker over a link that was lost. */
  constructor(berth: Berth, events: AttachmentEvents, before?: Attachment) {
    this.berth = berth;
    this.seen = before?.seen ?? 0;
    this.running = before?.running ?? new Map<string, BackgroundHandler>();
    this.#events = events;
    berth.sessions.add(events);
  }

  /** Gives its place back; whatever still comes is not heard. */
  abandon(): void {
    const events = this.#events;
    this.#events = undefined;
    if (events !== undefined) this.berth.sessions.delete(events);
  }

  answered(answer: AttachAnswer): void {
    this.#events?.answered(answer);
  }

  message(frame: Buffer, binary: boolean): void {
    this.seen++;
    this.#events?.message(frame, binary);
  }

  received(number: number): void {
    this.#events?.received(number);
  }

  done(number: number, outcome: Outcome): void {
    this.#events?.done(number, outcome);
  }

  background(id: string, handler: BackgroundHandler | 'ended'): void {
    if (handler === 'ended') this.running.delete(id);
    else {
      this.running.set(id, handler);
      this.#events?.started(handler);
    }
  }

  subscribe(subscription: Subscription): void {
    this.#events?.subscribe(subscription);
  }

  unsubscribe(id: string): void {
    this.#events?.unsubscribe(id);
  }

  probe(): void {
    this.#events?.probe();
  }

  drained(): void {
    this.#events?.drained();
  }

  ended(end: VirtualEnd, background: readonly BackgroundHandler[], unrun: readonly number[]): void {
    const events = this.#events;
    this.abandon();
    events?.ended(end, background, unrun);
  }
}
