import type { Waiting } from '../relay/inbound-queue.ts';
import type { Slot } from './slots.ts';

/** Something a worker was given under a number. */
interface Sent {
  readonly number: number;
  /** What it was made from; let go once it is received, where its binary frames are. */
  item: Waiting | undefined;
  readonly isEvent: boolean;
  readonly isWhole: boolean;
  readonly repeatable: boolean;
  /** Whether it is CONNECT of Reflex's namespace. */
  readonly isConnect: boolean;
  readonly slot: Slot | undefined;
  received: boolean;
}

/** What becomes of all that was under way when a worker is gone. */
export interface Aftermath {
  /** In order, to be sent again. */
  readonly again: Waiting[];
  /** Events that may have run or not. */
  readonly unsure: number;
}

/** The packets that a worker has not received, and the events it has not done (docs/PROTOCOL.md, "Acknowledgement"). */
export class InFlight {
  #sent: Sent[] = [];
  #next = 1;

  /** Another worker, or the same anew: numbers begin with 1. Everything under way was taken before. */
  reset(): void {
    this.#next = 1;
  }

  /** Whether an event is at work, or a packet on its way. */
  get busy(): boolean {
    return this.#sent.length > 0;
  }

  /** A number for something that nobody repeats: INJECT, RESYNC. */
  number(): number {
    return this.#next++;
  }

  add(
    item: Waiting,
    about: { isEvent: boolean; isConnect: boolean; repeatable: boolean; slot: Slot | undefined },
  ): number {
    const number = this.#next++;
    const { isEvent, isConnect, slot } = about;
    // Binary frames of a packet are let go as they are received: without them it cannot be repeated.
    const isWhole = item.kind === 'packet' && item.header.attachments === 0;
    const repeatable = (about.repeatable || isConnect) && isWhole;
    this.#sent.push({ number, item, isEvent, isWhole, isConnect, repeatable, slot, received: false });
    return number;
  }

  /** The worker takes every packet up to this number. */
  received(number: number): void {
    let forget = false;
    for (const sent of this.#sent) {
      if (sent.number > number) break;
      if (sent.received) continue;
      sent.received = true;
      if (!sent.isWhole) sent.item = undefined;
      if (!sent.isEvent) forget = true;
    }
    if (forget) this.#sent = this.#sent.filter((sent) => !sent.received || sent.isEvent);
  }

  done(number: number): void {
    const index = this.#sent.findIndex((sent) => sent.number === number);
    const [sent] = index === -1 ? [] : this.#sent.splice(index, 1);
    sent?.slot?.release();
  }

  /** Whether CONNECT of Reflex's namespace is under way, with the event in it. */
  get connecting(): boolean {
    return this.#sent.some(({ isConnect }) => isConnect);
  }

  /**
   * The worker goes on where the former link ended: `received` is its last number, `open` are those that it still works on. Returns what
   * was sent past that, which never ran.
   */
  takeUnreceived(received: number, open: readonly number[]): Waiting[] {
    this.received(received);
    const atWork = new Set(open);
    const gone = this.#sent.filter((sent) => !sent.received || !atWork.has(sent.number));
    this.#sent = this.#sent.filter((sent) => sent.received && atWork.has(sent.number));
    for (const { slot } of gone) slot?.release();
    this.#next = received + 1;
    return gone.flatMap((sent) => (sent.received || sent.item === undefined ? [] : [sent.item]));
  }

  /** The worker is gone. `certain`: what was not received has not run; `unrun`: nor have these, which it had received. */
  takeAll(certain: boolean, unrun: readonly number[] = []): Aftermath {
    const again: Waiting[] = [];
    const idle = new Set(unrun);
    let unsure = 0;
    for (const { number, item, isEvent, repeatable, received, slot } of this.#sent) {
      slot?.release();
      const neverRan = (certain && !received) || idle.has(number);
      if (item !== undefined && (repeatable || neverRan)) again.push(item);
      else if (isEvent) unsure++;
    }
    this.#sent = [];
    // The packet of a binary frame at the head was received, and waits there for ever.
    const whole = again.findIndex(({ kind }) => kind === 'packet');
    return { again: whole === -1 ? [] : again.slice(whole), unsure };
  }
}
