/** The parent's side of the load client: start it once, then open, measure and close as often as wanted. */
import { Child } from './child.ts';

export type ClientCommand =
  | { kind: 'open'; port: number; path: string; clients: number; atOnce: number }
  | { kind: 'measure'; milliseconds: number }
  | { kind: 'close' };

export type ClientReply =
  | { kind: 'opened' }
  | { kind: 'closed' }
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
  readonly #child = new Child<ClientCommand, ClientReply>(new URL('./light-client.ts', import.meta.url), 'load client');

  get pid(): number {
    return this.#child.pid;
  }

  /** Opens sessions up to CONNECT's acknowledgement, at most `atOnce` handshakes at a time. */
  async open(port: number, clients: number, path = '/_event/', atOnce = 50): Promise<void> {
    await this.#child.ask({ kind: 'open', port, path, clients, atOnce }, 'opened', ANSWER_WITHIN_MS);
  }

  /** Closed loop: each session sends its next event when the last one is answered. */
  async measure(milliseconds: number): Promise<Measured> {
    return this.#child.ask({ kind: 'measure', milliseconds }, 'measured', ANSWER_WITHIN_MS + milliseconds);
  }

  async close(): Promise<void> {
    await this.#child.ask({ kind: 'close' }, 'closed', ANSWER_WITHIN_MS);
  }

  stop(): void {
    this.#child.stop();
  }
}
