/** The parent's side of the browser tabs (`tabs-client.ts`): a process that plays many of Reflex's pages. */
import { fork, type ChildProcess } from 'node:child_process';

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
  readonly #child: ChildProcess;

  constructor() {
    this.#child = fork(new URL('./tabs-client.ts', import.meta.url), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
  }

  /** Opens pages, at most `atOnce` of them not hydrated at a time, and waits until all are hydrated. */
  async open(port: number, prefix: string, tabs: number, atOnce = 8): Promise<void> {
    await this.#ask({ kind: 'open', port, prefix, tabs, atOnce });
  }

  /** From now on every tab sends so many events a second, answered or not. */
  async send(perSecond: number): Promise<void> {
    await this.#ask({ kind: 'send', perSecond });
  }

  async silence(): Promise<void> {
    await this.#ask({ kind: 'silence' });
  }

  /** Closed loop: events a second that are answered. */
  async load(milliseconds: number): Promise<number> {
    const reply = await this.#ask({ kind: 'load', milliseconds });
    if (reply.kind !== 'loaded') throw new Error(`the tabs answered ${reply.kind}`);
    return reply.perSecond;
  }

  /** Every connection is lost at once; the pages come back by themselves, as Reflex's do. */
  async cut(): Promise<void> {
    await this.#ask({ kind: 'cut' });
  }

  /** Tabs that are hydrated, and events that wait for an answer and were not told of. */
  async status(): Promise<{ hydrated: number; pending: number }> {
    const reply = await this.#ask({ kind: 'status' });
    if (reply.kind !== 'status') throw new Error(`the tabs answered ${reply.kind}`);
    return reply;
  }

  /** Closes all, in order, and tells what happened since they were opened. */
  async close(): Promise<TabsReport> {
    const reply = await this.#ask({ kind: 'close' });
    if (reply.kind !== 'report') throw new Error(`the tabs answered ${reply.kind}`);
    return reply.report;
  }

  stop(): void {
    if (this.#child.connected) this.#child.disconnect();
  }

  #ask(command: TabsCommand): Promise<TabsReply> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#child.off('message', onMessage).off('exit', onExit);
      };
      const fail = (message: string): void => {
        done();
        reject(new Error(`tabs: ${message}`));
      };
      const onMessage = (reply: TabsReply): void => {
        if (reply.kind === 'failed') return fail(reply.message);
        done();
        resolve(reply);
      };
      const onExit = (): void => fail('exited');
      const timer = setTimeout(() => fail(`no answer to ${command.kind}`), ANSWER_WITHIN_MS);
      this.#child.on('message', onMessage).on('exit', onExit);
      this.#child.send(command);
    });
  }
}
