/** The parent's side of the fan-out clients (`fan-client.ts`): a process that holds many subscribed connections. */
import { Child } from './child.ts';
import type { DialectName } from './fan-dialects.ts';

export type FanCommand =
  | { kind: 'open'; port: number; dialect: DialectName; clients: number }
  | { kind: 'listen' }
  | { kind: 'count' }
  | { kind: 'report' }
  | { kind: 'close' };

export type FanReply =
  | { kind: 'done' }
  | { kind: 'failed'; message: string }
  | { kind: 'count'; received: number }
  | { kind: 'report'; received: number; p50: number; p99: number; cut: number };

/** What the clients got since `listen`. Times in milliseconds from publishing to reading. */
export interface Received {
  readonly received: number;
  readonly p50: number;
  readonly p99: number;
  /** Connections that the server closed. */
  readonly cut: number;
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
  readonly #child = new Child<FanCommand, FanReply>(new URL('./fan-client.ts', import.meta.url), 'fan-out clients');

  /** Opens and subscribes. */
  async open(port: number, dialect: DialectName, clients: number): Promise<void> {
    await this.#child.ask({ kind: 'open', port, dialect, clients }, 'done', ANSWER_WITHIN_MS);
  }

  /** Counts from now on. */
  async listen(): Promise<void> {
    await this.#child.ask({ kind: 'listen' }, 'done', ANSWER_WITHIN_MS);
  }

  async received(): Promise<number> {
    return (await this.#child.ask({ kind: 'count' }, 'count', ANSWER_WITHIN_MS)).received;
  }

  async report(): Promise<Received> {
    return this.#child.ask({ kind: 'report' }, 'report', ANSWER_WITHIN_MS);
  }

  async close(): Promise<void> {
    await this.#child.ask({ kind: 'close' }, 'done', ANSWER_WITHIN_MS);
  }

  stop(): void {
    this.#child.stop();
  }
}
