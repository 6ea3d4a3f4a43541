/** Of the limit: what clients leave unread must not take the room of the events that others send. */
const UNREAD_SHARE = 3 / 4;

/** Bytes that wait in all sessions together. */
export class QueueBudget {
  #used = 0;
  limit: number;

  /** `limit` in bytes; 0 means none. */
  constructor(limit: number) {
    this.limit = limit;
  }

  get used(): number {
    return this.#used;
  }

  /** More waits than may while clients leave something unread: three quarters of the limit. */
  get crowded(): boolean {
    return this.limit !== 0 && this.#used > this.limit * UNREAD_SHARE;
  }

  fits(bytes: number): boolean {
    return this.limit === 0 || this.#used + bytes <= this.limit;
  }

  add(bytes: number): void {
    this.#used += bytes;
  }
}
