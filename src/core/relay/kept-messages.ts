import type { QueueBudget } from '../limits/queue-budget.ts';

/** A message that waits for a client to come back: the Engine.IO frame. */
export interface KeptMessage {
  readonly frame: Buffer;
  readonly binary: boolean;
}

/** What the worker said while the client was away, in order and bounded in bytes. */
export class KeptMessages {
  readonly #budget: QueueBudget;
  readonly #limit: number;
  #messages: KeptMessage[] = [];
  #bytes = 0;

  /** `limit` in bytes; 0 for none but the budget's. */
  constructor(budget: QueueBudget, limit: number) {
    this.#budget = budget;
    this.#limit = limit;
  }

  /** Copies the frame; false where it does not fit any more. */
  push(frame: Buffer, binary: boolean): boolean {
    const bytes = this.#bytes + frame.length;
    if ((this.#limit > 0 && bytes > this.#limit) || !this.#budget.fitsKept(frame.length)) return false;
    this.#messages.push({ frame: Buffer.from(frame), binary });
    this.#bytes = bytes;
    this.#budget.add(frame.length);
    return true;
  }

  /** Takes what another one had kept, past every limit. */
  adopt(messages: readonly KeptMessage[]): void {
    const bytes = messages.reduce((sum, { frame }) => sum + frame.length, 0);
    this.#messages.push(...messages);
    this.#bytes += bytes;
    this.#budget.add(bytes);
  }

  /** Empties it. */
  take(): KeptMessage[] {
    const messages = this.#messages;
    this.#budget.add(-this.#bytes);
    this.#messages = [];
    this.#bytes = 0;
    return messages;
  }
}
