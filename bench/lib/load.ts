/** The parent's side of the load client: start it once, then open, measure and close as often as wanted. */
import { fork, type ChildProcess } from 'node:child_process';

export type ClientCommand =
  | { kind: 'open'; port: number; path: string; clients: number; atOnce: number }
  | { kind: 'measure'; milliseconds: number }
  | { kind: 'close' };

export type ClientReply =
  | { kind: 'opened' | 'closed' }
  | { kind: 'measured'; eventsPerSecond: number; p50: number; p99: number }
  | { kind: 'failed'; message: string };

/** Rates per second, times in milliseconds. `p50` and `p99` are NaN for more than one client. */
export interface Measured {
  eventsPerSecond: number;
  p50: number;
  p99: number;
}

const ANSWER_WITHIN_MS = 120_000;

export class LoadClient {
  readonly #child: ChildProcess;

  constructor() {
    this.#child = fork(new URL('./light-client.ts', import.meta.url), {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Opens sessions up to CONNECT's acknowledgement, at most `atOnce` handshakes at a time. */
  async open(port: number, clients: number, path = '/_event/', atOnce = 50): Promise<void> {
    await this.#ask({ kind: 'open', port, path, clients, atOnce });
  }

  /** Closed loop: each session sends its next event when the last one is answered. */
  async measure(milliseconds: number): Promise<Measured> {
    const reply = await this.#ask({ kind: 'measure', milliseconds }, milliseconds);
    if (reply.kind !== 'measured') throw new Error(`the load client answered ${reply.kind}`);
    return reply;
  }

  async close(): Promise<void> {
    await this.#ask({ kind: 'close' });
  }

  stop(): void {
    if (this.#child.connected) this.#child.disconnect();
  }

  #ask(command: ClientCommand, extraMs = 0): Promise<ClientReply> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#child.off('message', onMessage).off('exit', onExit);
      };
      const fail = (message: string): void => {
        done();
        reject(new Error(`load client: ${message}`));
      };
      const onMessage = (reply: ClientReply): void => {
        if (reply.kind === 'failed') return fail(reply.message);
        done();
        resolve(reply);
      };
      const onExit = (): void => fail('exited');
      const timer = setTimeout(() => fail(`no answer to ${command.kind}`), ANSWER_WITHIN_MS + extraMs);
      this.#child.on('message', onMessage).on('exit', onExit);
      this.#child.send(command);
    });
  }
}
