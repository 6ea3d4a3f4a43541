import type { PacketHeader } from '../../protocol/socket-io.ts';
import type { QueueBudget } from '../limits/queue-budget.ts';

/** Something from the client that waits for its turn. */
export type Waiting =
  | {
      readonly kind: 'packet';
      readonly text: string;
      readonly header: PacketHeader;
      readonly bytes: number;
      /** The rate limit has let it through already. */
      readonly paid?: boolean;
    }
  | { readonly kind: 'attachment'; readonly data: Buffer; readonly bytes: number };

/** A session's packets on their way to the worker, in order and bounded in bytes. */
export class InboundQueue {
  #items: Waiting[] = [];
  /** Items before this index are gone; they are cut off now and then. */
  #head = 0;
  #bytes = 0;
  readonly #budget: QueueBudget;

  constructor(budget: QueueBudget) {
    this.#budget = budget;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get length(): number {
    return this.#items.length - this.#head;
  }

  /** Whether so many more bytes may wait. An empty queue takes any one packet. `limit` 0 means none. */
  admits(bytes: number, limit: number): 'yes' | 'queue_full' | 'total_queue_full' {
    if (!this.#budget.fits(bytes)) return 'total_queue_full';
    return this.length === 0 || limit === 0 || this.#bytes + bytes <= limit ? 'yes' : 'queue_full';
  }

  push(item: Waiting): void {
    this.#items.push(item);
    this.#bytes += item.bytes;
    this.#budget.add(item.bytes);
  }

  /** Back to the head, past every limit: it had left the queue, or never been in it. */
  unshift(item: Waiting): void {
    if (this.#head > 0) this.#items[--this.#head] = item;
    else this.#items.unshift(item);
    this.#bytes += item.bytes;
    this.#budget.add(item.bytes);
  }

  peek(): Waiting | undefined {
    return this.#items[this.#head];
  }

  shift(): void {
    const item = this.#items[this.#head];
    if (item === undefined) return;
    this.#bytes -= item.bytes;
    this.#budget.add(-item.bytes);
    this.#head++;
    if (this.#head === this.#items.length || this.#head > 1_000) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
  }

  /** Empties it and returns how many packets were lost. */
  clear(): number {
    const packets = this.#items.slice(this.#head).filter((item) => item.kind === 'packet').length;
    this.#budget.add(-this.#bytes);
    this.#items = [];
    this.#head = 0;
    this.#bytes = 0;
    return packets;
  }
}
