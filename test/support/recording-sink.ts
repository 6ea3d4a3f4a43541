import type {
  AttachAnswer,
  BackgroundHandler,
  Outcome,
  VirtualEnd,
  VirtualSink,
} from '../../src/ports/virtual-session.ts';
import type { Subscription } from '../../src/protocol/link-live.ts';

/** Keeps everything that a virtual session brings, and fails where a call breaks the port's promises. */
export class RecordingSink implements VirtualSink {
  answer: AttachAnswer | undefined;
  readonly frames: (string | Buffer)[] = [];
  readonly receipts: number[] = [];
  readonly dones: (readonly [number, Outcome])[] = [];
  readonly backgrounds: (readonly [string, BackgroundHandler | 'ended'])[] = [];
  readonly subscriptions = new Map<string, Subscription>();
  probes = 0;
  drains = 0;
  end: VirtualEnd | undefined;
  cancelled: readonly BackgroundHandler[] = [];
  unrun: readonly number[] = [];
  /** Called after each message. */
  onMessage: (frame: Buffer) => void = () => undefined;
  onEnd: () => void = () => undefined;

  answered(answer: AttachAnswer): void {
    if (this.answer !== undefined) throw new Error('answered twice');
    this.answer = answer;
  }

  message(frame: Buffer, binary: boolean): void {
    this.#expectOpen('message');
    this.frames.push(binary ? Buffer.from(frame) : frame.toString());
    this.onMessage(frame);
  }

  received(number: number): void {
    this.#expectOpen('received');
    this.receipts.push(number);
  }

  done(number: number, outcome: Outcome): void {
    this.#expectOpen('done');
    this.dones.push([number, outcome]);
  }

  background(id: string, handler: BackgroundHandler | 'ended'): void {
    this.#expectOpen('background');
    this.backgrounds.push([id, handler]);
  }

  subscribe(subscription: Subscription): void {
    this.#expectOpen('subscribe');
    this.subscriptions.set(subscription.id, subscription);
  }

  unsubscribe(id: string): void {
    this.#expectOpen('unsubscribe');
    this.subscriptions.delete(id);
  }

  probe(): void {
    this.#expectOpen('probe');
    this.probes++;
  }

  drained(): void {
    this.#expectOpen('drained');
    this.drains++;
  }

  ended(end: VirtualEnd, background: readonly BackgroundHandler[], unrun: readonly number[]): void {
    this.#expectOpen('ended');
    this.end = end;
    this.cancelled = background;
    this.unrun = unrun;
    this.onEnd();
  }

  #expectOpen(what: string): void {
    if (this.answer?.kind !== 'attached') throw new Error(`${what} before it was attached`);
    if (this.end !== undefined) throw new Error(`${what} after it had ended`);
  }
}
