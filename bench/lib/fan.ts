/** The parent's side of the fan-out clients (`fan-client.ts`): a process that holds many subscribed connections. */
import { fork, type ChildProcess } from 'node:child_process';
import type { DialectName } from './fan-dialects.ts';

export type FanCommand =
  | { kind: 'open'; port: number; dialect: DialectName; clients: number }
  | { kind: 'listen' }
  | { kind: 'report' }
  | { kind: 'close' };

export type FanReply =
  | { kind: 'done' }
  | { kind: 'report'; received: number; p50: number; p99: number; worst: number }
  | { kind: 'failed'; message: string };

/** What the clients got since `listen`. Times in milliseconds from publishing to reading. */
export interface Received {
  readonly received: number;
  readonly p50: number;
  readonly p99: number;
  readonly worst: number;
}

const ANSWER_WITHIN_MS = 120_000;

/** Microseconds on a clock that all processes of a machine share. */
export function sharedMicroseconds(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

/** A message carries when it was published: this, and as many digits. */
export const STAMP = '@';
export const STAMP_DIGITS = 16;

export function stamp(): string {
  return `${STAMP}${String(sharedMicroseconds()).padStart(STAMP_DIGITS, '0')}`;
}

export class Fan {
  readonly #child: ChildProcess;

  constructor() {
    this.#child = fork(new URL('./fan-client.ts', import.meta.url), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  }

  /** Opens and subscribes. */
  async open(port: number, dialect: DialectName, clients: number): Promise<void> {
    await this.#ask({ kind: 'open', port, dialect, clients });
  }

  /** Counts from now on. */
  async listen(): Promise<void> {
    await this.#ask({ kind: 'listen' });
  }

  async report(): Promise<Received> {
    const reply = await this.#ask({ kind: 'report' });
    if (reply.kind !== 'report') throw new Error(`the fan-out clients answered ${reply.kind}`);
    return reply;
  }

  async close(): Promise<void> {
    await this.#ask({ kind: 'close' });
  }

  stop(): void {
    if (this.#child.connected) this.#child.disconnect();
  }

  #ask(command: FanCommand): Promise<FanReply> {
    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#child.off('message', onMessage).off('exit', onExit);
      };
      const fail = (message: string): void => {
        done();
        reject(new Error(`fan-out clients: ${message}`));
      };
      const onMessage = (reply: FanReply): void => {
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
