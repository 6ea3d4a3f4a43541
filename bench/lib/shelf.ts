/** The parent's side of the shop's pages (`shelf-client.ts`): a process of tabs that show live lists, or that only act. */
import { Child } from './child.ts';

export type ShelfCommand =
  | { kind: 'open'; ports: readonly number[]; lists: number; actors: number }
  | { kind: 'choose'; prefix: string; rows: number }
  | { kind: 'forget' }
  | { kind: 'act'; perSecond: number }
  | { kind: 'rest' }
  | { kind: 'status'; version: number }
  | { kind: 'report' }
  | { kind: 'close' };

/** What a list showed: the version, which is the least stock among its rows. Shared microseconds. */
export interface Seen {
  readonly version: number;
  readonly at: number;
}

export interface ShelfReport {
  /** For each list. */
  readonly seen: readonly (readonly Seen[])[];
  /** From act (shared microseconds) to answer of the others, milliseconds. */
  readonly waits: readonly { readonly at: number; readonly took: number }[];
  readonly cut: number;
}

export type ShelfReply =
  | { kind: 'done' }
  | { kind: 'status'; behind: number; pending: number }
  | ({ kind: 'report' } & ShelfReport)
  | { kind: 'failed'; message: string };

const ANSWER_WITHIN_MS = 180_000;

export class Shelves {
  readonly #child = new Child<ShelfCommand, ShelfReply>(new URL('./shelf-client.ts', import.meta.url), 'pages');

  /** Opens pages, at each port in turn, and waits until all lists are shown. */
  async open(ports: readonly number[], lists: number, actors: number): Promise<void> {
    await this.#do({ kind: 'open', ports, lists, actors });
  }

  /** List `n` shows the category `<prefix><n>` from now on; waits until each shows so many rows. */
  async choose(prefix: string, rows: number): Promise<void> {
    await this.#do({ kind: 'choose', prefix, rows });
  }

  /** What was seen until now is left out of the report. */
  async forget(): Promise<void> {
    await this.#do({ kind: 'forget' });
  }

  /** Each actor sends so many events a second from now on. */
  async act(perSecond: number): Promise<void> {
    await this.#do({ kind: 'act', perSecond });
  }

  /** No more events. */
  async rest(): Promise<void> {
    await this.#do({ kind: 'rest' });
  }

  /** Lists that do not show this version or a later one, and events without an answer. */
  async status(version: number): Promise<{ readonly behind: number; readonly pending: number }> {
    return this.#child.ask({ kind: 'status', version }, 'status', ANSWER_WITHIN_MS);
  }

  async report(): Promise<ShelfReport> {
    return this.#child.ask({ kind: 'report' }, 'report', ANSWER_WITHIN_MS);
  }

  async close(): Promise<void> {
    await this.#do({ kind: 'close' });
  }

  stop(): void {
    this.#child.stop();
  }

  async #do(command: ShelfCommand): Promise<void> {
    await this.#child.ask(command, 'done', ANSWER_WITHIN_MS);
  }
}
