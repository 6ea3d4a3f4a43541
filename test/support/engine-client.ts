import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { WebSocket, type ClientOptions } from 'ws';
import { waitUntil } from '../../tools/process.ts';

export interface EngineClientOptions {
  readonly token?: string;
  /** Added to the query, which already asks for Engine.IO 4 over WebSocket. */
  readonly query?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly protocols?: readonly string[];
  readonly path?: string;
  /** The connection is to take over from a polling session: probed, not opened. */
  readonly probe?: boolean;
}

/** A client that speaks Engine.IO frame by frame, so that a test can say anything to a server. */
export class EngineClient {
  readonly socket: WebSocket;
  #raw: Duplex | undefined;
  /** Text frames and binary ones, in order; without pings, which are answered. */
  readonly received: (string | Buffer)[] = [];
  closed: { code: number; reason: string } | undefined;
  answersPings = true;

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.once('upgrade', (answer) => {
      this.#raw = answer.socket;
    });
    socket.on('message', (data: Buffer, binary: boolean) => {
      if (binary) this.received.push(data);
      else if (data.toString() !== '2') this.received.push(data.toString());
      else if (this.answersPings) socket.send('3');
    });
    socket.on('error', () => undefined);
    socket.on('close', (code: number, reason: Buffer) => {
      this.closed = { code, reason: reason.toString() };
    });
  }

  /** Resolves once the server's OPEN packet is there. */
  static async open(url: string, options: EngineClientOptions = {}): Promise<EngineClient> {
    const { token, query = '', path = '/_event/' } = options;
    const address = new URL(`${path}?EIO=4&transport=websocket${query}`, url.replace(/^http/, 'ws'));
    if (token !== undefined) address.searchParams.set('token', token);
    const settings: ClientOptions = { headers: { ...options.headers }, perMessageDeflate: false };
    const socket = new WebSocket(address, [...(options.protocols ?? [])], settings);
    // Before anything else: the OPEN packet may come in one piece with the answer to the upgrade.
    const client = new EngineClient(socket);
    await once(socket, 'open');
    if (options.probe === true) client.send('2probe');
    const first = options.probe === true ? '3probe' : '0';
    await client.until((frames) => frames.some((frame) => typeof frame === 'string' && frame.startsWith(first)));
    return client;
  }

  /** The socket under the WebSocket. */
  get raw(): Duplex {
    if (this.#raw === undefined) throw new Error('not open');
    return this.#raw;
  }

  get handshake(): { sid: string; maxPayload: number; upgrades: string[]; pingInterval: number; pingTimeout: number } {
    return JSON.parse((this.received[0] as string).slice(1)) as ReturnType<() => EngineClient['handshake']>;
  }

  /** Text frames that are messages, without their leading `4`. */
  get messages(): string[] {
    return this.received
      .filter((frame) => typeof frame === 'string' && frame.startsWith('4'))
      .map((text) => text.slice(1) as string);
  }

  send(frame: string | Buffer): void {
    this.socket.send(frame);
  }

  /** Connects to a namespace and waits for its acknowledgement. */
  async connect(namespace = '/_event', payload = ''): Promise<void> {
    this.send(`40${namespace},${payload}`);
    await this.until(() => this.messages.some((text) => text.startsWith(`0${namespace},`)), `CONNECT of ${namespace}`);
  }

  async until(condition: (frames: readonly (string | Buffer)[]) => boolean, what = 'a frame'): Promise<void> {
    const holds = (): boolean => condition(this.received);
    await waitUntil(() => holds() || this.closed !== undefined, { timeoutMs: 30_000, intervalMs: 5, what });
    if (!holds()) throw new Error(`closed with ${this.closed?.code} before ${what}`);
  }

  /** The close code the server sent. */
  async untilClosed(): Promise<number> {
    await waitUntil(() => this.closed !== undefined, { timeoutMs: 30_000, intervalMs: 5, what: 'the close' });
    return this.closed?.code ?? 0;
  }

  end(): void {
    this.socket.terminate();
  }
}
