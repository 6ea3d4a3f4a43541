import type { Pool } from 'pg';
import type { Clock, Timer } from '../../ports/clock.ts';
import { Backoff } from './backoff.ts';
import { currentSnapshot, readOutbox, requireOutbox, trimOutbox, type OutboxItem } from './outbox.ts';

export interface OutboxFollowerOptions {
  readonly pool: Pool;
  readonly clock: Clock;
  /** From where to read on; default: from now. */
  readonly begin?: (pool: Pool) => Promise<string>;
  /** Where it rejects, the same comes again. */
  readonly take: (item: OutboxItem) => Promise<void> | void;
  /** Everything up to this snapshot was taken. */
  readonly taken?: (snapshot: string, count: number) => Promise<void>;
  /** After each reading: undefined where it worked. NotInstalledError: there is no outbox yet. */
  readonly onResult: (error: unknown) => void;
}

/** Without any wake-up it reads this often. Milliseconds. */
const POLL = 2_000;
const TRIM_INTERVAL = 60_000;
/** Rows are kept for so long: readers that were away for less miss nothing. Milliseconds. */
const KEPT = 3_600_000;

/** Reads the outbox on and on, by wake-ups and by time; one reading at a time. */
export class OutboxFollower {
  readonly #options: OutboxFollowerOptions;
  readonly #backoff: Backoff;
  #snapshot: string | undefined;
  #hasRead = false;
  #isInDoubt = false;
  /** Why an item was not taken: no fault of the server. */
  #refusal: unknown;
  #isAwake = false;
  #rouse = (): void => undefined;
  #running: Promise<void> | undefined;
  #isClosed = false;

  constructor(options: OutboxFollowerOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.clock, POLL);
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Something may have been committed. */
  wake(): void {
    this.#isAwake = true;
    this.#rouse();
  }

  /**
   * The server was away: it may have come back without what it had committed last (`synchronous_commit = off`, a standby that was behind), which
   * lists show already, and gives those transaction numbers again. A gap comes with what is read next.
   */
  doubt(): void {
    this.#isInDoubt = this.#hasRead;
    this.wake();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#backoff.close();
    this.#rouse();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      this.#isAwake = false;
      try {
        await this.#read();
        this.#backoff.reset();
        this.#options.onResult(undefined);
      } catch (error) {
        if (this.#isClosed) return;
        // Who begins in a way of its own keeps its place elsewhere.
        if (this.#options.begin !== undefined) this.#snapshot = undefined;
        if (error !== this.#refusal) this.#isInDoubt ||= this.#hasRead;
        this.#options.onResult(error);
        await this.#backoff.wait();
        continue;
      }
      await this.#rest();
    }
  }

  async #read(): Promise<void> {
    const { begin = currentSnapshot, pool, taken } = this.#options;
    if (this.#snapshot === undefined) {
      await requireOutbox(pool);
      this.#snapshot = await begin(pool);
    }
    // Of a doubt that comes meanwhile this reading knows nothing: its answer may be on its way already.
    const doubted = this.#isInDoubt;
    const doubtAgain = (error: unknown): never => {
      this.#isInDoubt ||= doubted;
      throw error;
    };
    this.#isInDoubt = false;
    const { snapshot, count } = await readOutbox(pool, this.#snapshot, (item) => this.#take(item)).catch(doubtAgain);
    if (doubted) await this.#take({ kind: 'gap', gap: { reason: 'reconnect' } }).catch(doubtAgain);
    await taken?.(snapshot, count);
    this.#snapshot = snapshot;
    this.#hasRead = true;
  }

  async #take(item: OutboxItem): Promise<void> {
    // A long backlog must not hold up whoever closes.
    if (this.#isClosed) throw new Error('closed');
    try {
      await this.#options.take(item);
    } catch (error) {
      this.#refusal = error;
      throw error;
    }
  }

  /** Until something calls, or it is time anyway. */
  async #rest(): Promise<void> {
    if (this.#isAwake || this.#isClosed) return;
    let timer: Timer | undefined;
    await new Promise<void>((resolve) => {
      this.#rouse = resolve;
      timer = this.#options.clock.setTimeout(resolve, POLL);
    });
    timer?.cancel();
  }
}

/** Trims the outbox from time to time; of several processes one at a time does. Returns what ends it. */
export function trimming(pool: Pool, clock: Clock): () => void {
  let seen: string | undefined;
  const trim = async (): Promise<void> => {
    try {
      const before = seen;
      seen = await currentSnapshot(pool);
      if (before !== undefined) await trimOutbox(pool, KEPT, before);
    } catch {
      // The outbox is not there, or the database: its readers say so.
    }
  };
  const timer = clock.setInterval(() => void trim(), TRIM_INTERVAL * (0.9 + Math.random() / 5));
  return () => timer.cancel();
}
