import type { Waiting } from '../relay/inbound-queue.ts';
import type { Slot } from './slots.ts';

/** A frame that was sent under a number. */
interface Part {
  readonly number: number;
  readonly item: Waiting;
}

/** A packet that a worker was given, with its binary frames. */
interface Sent {
  /** What has to be sent again where the packet is; with binary frames only until it was received, for they are large. */
  parts: readonly Part[];
  /** Binary frames that have still to follow. */
  missing: number;
  /** The number of its last frame so far: the worker has all of it with that one. */
  last: number;
  readonly hasBinary: boolean;
  readonly isEvent: boolean;
  /** Whether it is CONNECT of Reflex's namespace. */
  readonly isConnect: boolean;
  readonly repeatable: boolean;
  readonly slot: Slot | undefined;
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
  /** The worker takes every packet up to this number. */
  #received = 0;

  /** Another worker, or the same anew: numbers begin with 1. Everything under way was taken before. */
  reset(): void {
    this.#next = 1;
    this.#received = 0;
  }

  /** Whether an event is at work, or a packet on its way. */
  get busy(): boolean {
    return this.#sent.length > 0;
  }

  /** A number for something that is kept elsewhere: INJECT, RESYNC. */
  number(): number {
    return this.#next++;
  }

  /** Returns its number. */
  add(
    item: Waiting & { kind: 'packet' },
    about: { isEvent: boolean; isConnect: boolean; repeatable: boolean; slot: Slot | undefined },
  ): number {
    const number = this.#next++;
    const { attachments } = item.header;
    const { isEvent, isConnect, slot } = about;
    const repeatable = (about.repeatable || isConnect) && attachments === 0;
    const parts = [{ number, item }];
    const hasBinary = attachments > 0;
    this.#sent.push({ parts, missing: attachments, last: number, hasBinary, isEvent, isConnect, repeatable, slot });
    return number;
  }

  /** The next binary frame of the last packet. Returns undefined where that packet is lost: this one means nothing without it. */
  addBinary(item: Waiting & { kind: 'attachment' }): { number: number; endsEvent: boolean } | undefined {
    const sent = this.#sent.at(-1);
    if (sent === undefined || sent.missing === 0) return undefined;
    const number = this.#next++;
    sent.parts = [...sent.parts, { number, item }];
    sent.last = number;
    sent.missing--;
    return { number, endsEvent: sent.isEvent && sent.missing === 0 };
  }

  /** The worker takes every packet up to this number. */
  received(number: number): void {
    this.#received = Math.max(this.#received, number);
    let forget = false;
    for (const sent of this.#sent) {
      if (!this.#has(sent)) break;
      if (sent.hasBinary) sent.parts = [];
      if (!sent.isEvent) forget = true;
    }
    if (forget) this.#sent = this.#sent.filter((sent) => sent.isEvent || !this.#has(sent));
  }

  done(number: number): void {
    const index = this.#sent.findIndex((sent) => sent.last === number && sent.missing === 0);
    const sent = this.#sent[index];
    if (sent === undefined) return;
    this.#sent.splice(index, 1);
    sent.slot?.release();
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
    const again: Waiting[] = [];
    this.#sent = this.#sent.filter((sent) => {
      const rest = sent.parts.filter(({ number }) => number > received);
      again.push(...rest.map(({ item }) => item));
      // The worker waits for the other binary frames of what it has.
      const isBegun = sent.hasBinary && rest.length < sent.parts.length;
      if (isBegun) {
        sent.parts = sent.parts.slice(0, -rest.length || undefined);
        sent.missing += rest.length;
      }
      const stays = isBegun || (rest.length === 0 && atWork.has(sent.last));
      if (!stays) sent.slot?.release();
      return stays;
    });
    this.#next = received + 1;
    return again;
  }

  /** The worker is gone. `certain`: what was not received has not run; `unrun`: nor have these, which it had received. */
  takeAll(certain: boolean, unrun: readonly number[] = []): Aftermath {
    const again: Waiting[] = [];
    const idle = new Set(unrun);
    let unsure = 0;
    for (const sent of this.#sent) {
      sent.slot?.release();
      const neverRan = (certain && !this.#has(sent)) || idle.has(sent.last);
      if (sent.parts.length > 0 && (sent.repeatable || neverRan)) again.push(...sent.parts.map(({ item }) => item));
      else if (sent.isEvent) unsure++;
    }
    this.#sent = [];
    return { again, unsure };
  }

  /** Whether the worker has all of it: nothing runs before that. */
  #has(sent: Sent): boolean {
    return sent.missing === 0 && sent.last <= this.#received;
  }
}
