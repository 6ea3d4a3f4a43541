import type { SendResult, WebSocketConnection, WebSocketSink } from '../../ports/transport.ts';
import type { UwsWebSocket } from './uws-api.ts';

export interface UserData {
  readonly connection: UwsConnection;
}

const LOST = 1006;
/** A close that is not answered ends with the connection. Milliseconds. */
const CLOSE_TIMEOUT = 5_000;
/**
 * uWebSockets.js is given no more than this and one message; what is beyond it waits here. It drops what comes while more waits there,
 * which bounds the pongs that it sends of its own accord to a peer that does not read. Bytes.
 */
export const MAX_BACKPRESSURE = 256 * 1024;

/** A WebSocket of uWebSockets.js. */
export class UwsConnection implements WebSocketConnection {
  readonly #sink: WebSocketSink;
  /** Messages of so many bytes are compressed; undefined: none. */
  readonly #threshold: number | undefined;
  #socket: UwsWebSocket<UserData> | undefined;
  readonly #waiting: { readonly data: Uint8Array; readonly binary: boolean }[] = [];
  #waitingBytes = 0;
  #close: { readonly code: number; readonly reason: string } | undefined;
  #over = false;

  constructor(sink: WebSocketSink, threshold: number | undefined) {
    this.#sink = sink;
    this.#threshold = threshold;
  }

  get bufferedBytes(): number {
    return this.#waitingBytes + (this.#socket?.getBufferedAmount() ?? 0);
  }

  send(data: string | Buffer, binary: boolean): SendResult {
    if (this.#over || this.#close !== undefined) return 'dropped';
    // Text as bytes, too: releases differ in how they encode a string.
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    if (this.#waiting.length === 0 && this.#mayWrite()) return this.#write(bytes, binary);
    this.#waiting.push({ data: typeof data === 'string' ? bytes : Buffer.from(bytes), binary });
    this.#waitingBytes += bytes.length;
    return 'queued';
  }

  pause(): boolean {
    return false;
  }

  resume(): void {
    // Nothing was paused.
  }

  close(code: number, reason: string): void {
    if (this.#over || this.#close !== undefined) return;
    this.#close = { code, reason };
    setTimeout(() => this.terminate(), CLOSE_TIMEOUT).unref();
    this.#flush();
  }

  terminate(): void {
    this.#socket?.close();
  }

  opened(socket: UwsWebSocket<UserData>): void {
    this.#socket = socket;
  }

  message(data: ArrayBuffer, binary: boolean): void {
    if (this.#close === undefined) this.#sink.message(Buffer.from(data), binary);
  }

  /** Later: what is sent while uWebSockets.js tells of this may stay there for good, since it then stops to wait for the kernel. */
  drained(): void {
    setImmediate(() => {
      this.#flush();
      if (!this.#over && this.bufferedBytes === 0) this.#sink.drained();
    });
  }

  /** The socket must not be touched from here on. */
  closed(code: number): void {
    this.#socket = undefined;
    this.#over = true;
    this.#waiting.length = 0;
    this.#waitingBytes = 0;
    this.#sink.closed(code, code !== LOST);
  }

  #mayWrite(): boolean {
    return this.#socket !== undefined && this.#socket.getBufferedAmount() <= MAX_BACKPRESSURE;
  }

  #write(data: Uint8Array, binary: boolean): SendResult {
    const compress = this.#threshold !== undefined && data.length >= this.#threshold;
    const result = this.#socket?.send(data, binary, compress);
    if (result === undefined || result === 2) return 'dropped';
    return result === 1 ? 'flushed' : 'queued';
  }

  #flush(): void {
    let written = 0;
    for (const { data, binary } of this.#waiting) {
      if (!this.#mayWrite()) break;
      this.#write(data, binary);
      this.#waitingBytes -= data.length;
      written++;
    }
    if (written > 0) this.#waiting.splice(0, written);
    if (this.#close !== undefined && this.#waiting.length === 0 && this.#mayWrite()) {
      this.#socket?.end(this.#close.code, Buffer.from(this.#close.reason));
    }
  }
}
