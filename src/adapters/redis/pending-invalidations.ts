import { randomUUID } from 'node:crypto';
import type { Invalidation } from '../../ports/auth.ts';
import type { Clock, Timer } from '../../ports/clock.ts';

export interface PendingInvalidationsOptions {
  /** Resolves with whether it arrived; the same id on each try. MUST NOT reject. */
  readonly send: (what: Invalidation, id: string) => Promise<boolean>;
  readonly clock: Clock;
  /** Between two rounds of tries. Milliseconds. */
  readonly retryDelay: number;
}

/** More than this many become one that forgets everything. */
const MAX_PENDING = 1_000;

interface Entry {
  readonly what: Invalidation;
  readonly id: string;
}

/** Invalidations that are on their way, or did not arrive and are sent again until they do. */
export class PendingInvalidations {
  readonly #options: PendingInvalidationsOptions;
  readonly #waiting = new Map<string, Entry>();
  #retrying = false;
  #closed = false;
  #timer: Timer | undefined;

  constructor(options: PendingInvalidationsOptions) {
    this.#options = options;
  }

  /** Resolves after the first try, however it went. */
  async add(what: Invalidation, id: string = randomUUID()): Promise<void> {
    const entry = { what, id };
    // The same once more is a new one: the older may already be past its reading.
    this.#waiting.set(nameOf(what), entry);
    if (this.#waiting.size > MAX_PENDING) {
      this.#waiting.clear();
      await this.add({ all: true });
      return;
    }
    await this.#try(entry);
    this.#retryLater();
  }

  /** Whether one that has not arrived concerns this session or user. */
  has(session: string, user: string | undefined): boolean {
    if (this.#waiting.size === 0) return false;
    return (
      this.#waiting.has(nameOf({ all: true })) ||
      this.#waiting.has(nameOf({ session })) ||
      (user !== undefined && this.#waiting.has(nameOf({ user })))
    );
  }

  /** Tries no more. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  async #try(entry: Entry): Promise<boolean> {
    const arrived = await this.#options.send(entry.what, entry.id);
    const name = nameOf(entry.what);
    if (arrived && this.#waiting.get(name) === entry) this.#waiting.delete(name);
    return arrived;
  }

  #retryLater(): void {
    if (this.#retrying || this.#closed || this.#waiting.size === 0) return;
    this.#retrying = true;
    this.#timer = this.#options.clock.setTimeout(() => void this.#retry(), this.#options.retryDelay);
  }

  async #retry(): Promise<void> {
    for (const entry of this.#waiting.values()) if (!(await this.#try(entry))) break;
    this.#retrying = false;
    this.#retryLater();
  }
}

function nameOf(what: Invalidation): string {
  if ('all' in what) return 'all';
  return 'user' in what ? `u ${what.user}` : `s ${what.session}`;
}
