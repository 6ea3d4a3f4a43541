/** The parent's side of the browser tabs (`tabs-client.ts`): a process that plays many of Reflex's pages. */
import { Child } from './child.ts';

/** Times are Unix milliseconds. */
export interface SentEvent {
  readonly tab: string;
  readonly number: number;
  /** When the user acted; where the page was cut off then, it was sent later. */
  readonly at: number;
  answered: number | null;
  /** A toast came that said that something may not have been carried out. */
  told: boolean;
}

export interface Cut {
  readonly tab: string;
  readonly at: number;
  /** When the page was whole again. */
  hydrated: number | null;
}

export interface TabsReport {
  readonly events: readonly SentEvent[];
  /** Connections that ended though their tab wanted them. */
  readonly cuts: readonly Cut[];
  readonly newTokens: readonly number[];
  readonly toasts: readonly string[];
  /** Updates that show a later event before an earlier one. */
  readonly outOfOrder: number;
  /** Connects that failed. */
  readonly refused: number;
}

export type TabsCommand =
  | { kind: 'open'; port: number; prefix: string; tabs: number; atOnce: number }
  | { kind: 'send'; perSecond: number }
  | { kind: 'silence' }
  | { kind: 'load'; milliseconds: number }
  | { kind: 'cut' }
  | { kind: 'status' }
  | { kind: 'close' };

export type TabsReply =
  | { kind: 'done' }
  | { kind: 'status'; hydrated: number; pending: number }
  | { kind: 'loaded'; perSecond: number }
  | { kind: 'report'; report: TabsReport }
  | { kind: 'failed'; message: string };

const ANSWER_WITHIN_MS = 15 * 60_000;

export class Tabs {
  readonly #child = new Child<TabsCommand, TabsReply>(new URL('./tabs-client.ts', import.meta.url), 'tabs');

  /** Opens pages, at most `atOnce` of them not hydrated at a time, and waits until all are hydrated. */
  async open(port: number, prefix: string, tabs: number, atOnce = 8): Promise<void> {
    await this.#child.ask({ kind: 'open', port, prefix, tabs, atOnce }, 'done', ANSWER_WITHIN_MS);
  }

  /** From now on every tab sends so many events a second, answered or not. */
  async send(perSecond: number): Promise<void> {
    await this.#child.ask({ kind: 'send', perSecond }, 'done', ANSWER_WITHIN_MS);
  }

  async silence(): Promise<void> {
    await this.#child.ask({ kind: 'silence' }, 'done', ANSWER_WITHIN_MS);
  }

  /** Closed loop: events a second that are answered. */
  async load(milliseconds: number): Promise<number> {
    return (await this.#child.ask({ kind: 'load', milliseconds }, 'loaded', ANSWER_WITHIN_MS)).perSecond;
  }

  /** Every connection is lost at once; the pages come back by themselves, as Reflex's do. */
  async cut(): Promise<void> {
    await this.#child.ask({ kind: 'cut' }, 'done', ANSWER_WITHIN_MS);
  }

  /** Tabs that are hydrated, and events that wait for an answer and were not told of. */
  async status(): Promise<{ hydrated: number; pending: number }> {
    return this.#child.ask({ kind: 'status' }, 'status', ANSWER_WITHIN_MS);
  }

  /** Closes all, in order, and tells what happened since they were opened. */
  async close(): Promise<TabsReport> {
    return (await this.#child.ask({ kind: 'close' }, 'report', ANSWER_WITHIN_MS)).report;
  }

  stop(): void {
    this.#child.stop();
  }
}
