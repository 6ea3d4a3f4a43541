/** Of the limit: what clients leave unread must not take the room of the events that others send. */
const UNREAD_SHARE = 3 / 4;
/** Of the limit: what waits for clients that are away must not have others closed that are here. */
const KEPT_SHARE = 1 / 2;

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

  /** Whether it may be kept for a client that is away. */
  fitsKept(bytes: number): boolean {
    return this.limit === 0 || this.#used + bytes <= this.limit * KEPT_SHARE;
  }

  add(bytes: number): void {
    this.#used += bytes;
  }
}
