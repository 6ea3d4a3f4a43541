import type { Duplex } from 'node:stream';
import { WebSocket } from 'ws';
import type { SendResult, WebSocketConnection, WebSocketSink } from '../../ports/transport.ts';
import { CloseCode } from '../../protocol/close-code.ts';
import { SocketWriter } from './socket-writer.ts';
import { encodeWebSocketFrame, MAX_UNREAD_PONGS, Opcode } from './websocket-frame.ts';

/**
 * A WebSocket of `ws`, either way round. `raw` is the socket under it. `ws` reads, answers pings and closes; messages are
 * written here, each as one piece, unless they are to be compressed.
 */
export class WsConnection implements WebSocketConnection {
  readonly #webSocket: WebSocket;
  readonly #sink: WebSocketSink;
  readonly #writer: SocketWriter;
  readonly #masks: boolean;
  readonly #compresses: boolean;
  #closing = false;
  #over = false;

  /** `masks`: this side is the client. */
  constructor(webSocket: WebSocket, raw: Duplex, sink: WebSocketSink, masks: boolean) {
    this.#webSocket = webSocket;
    this.#sink = sink;
    this.#masks = masks;
    this.#compresses = webSocket.extensions !== '';
    this.#writer = new SocketWriter(raw, () => {
      if (!this.#over) sink.drained();
    });
    webSocket.on('message', (data: Buffer, binary: boolean) => {
      if (!this.#closing && !this.#over) sink.message(data, binary);
    });
    webSocket.on('ping', (data: Buffer) => {
      if (this.bufferedBytes < MAX_UNREAD_PONGS && webSocket.readyState === WebSocket.OPEN) webSocket.pong(data);
    });
    webSocket.on('error', (error: Error & { code?: string }) => this.#closed(errorCode(error.code), false));
    webSocket.on('close', (code: number) => this.#closed(code, code !== LOST));
  }

  get bufferedBytes(): number {
    return this.#compresses ? this.#webSocket.bufferedAmount : this.#writer.bufferedBytes;
  }

  send(data: string | Buffer, binary: boolean): SendResult {
    if (this.#closing || this.#webSocket.readyState !== WebSocket.OPEN) return 'dropped';
    if (this.#compresses) return this.#sendCompressed(data, binary);
    this.#writer.write(encodeWebSocketFrame(binary ? Opcode.binary : Opcode.text, data, this.#masks));
    return 'queued';
  }

  /** Deflating takes its time in another thread: the data must outlive this call. */
  #sendCompressed(data: string | Buffer, binary: boolean): SendResult {
    const kept = typeof data === 'string' ? data : Buffer.from(data);
    this.#webSocket.send(kept, { binary }, () => {
      if (!this.#over && this.#webSocket.bufferedAmount === 0) this.#sink.drained();
    });
    return 'queued';
  }

  pause(): boolean {
    this.#webSocket.pause();
    return true;
  }

  resume(): void {
    this.#webSocket.resume();
  }

  close(code: number, reason: string): void {
    if (this.#closing) return;
    this.#closing = true;
    // Nothing may follow a close frame.
    this.#writer.flush();
    this.#webSocket.resume();
    this.#webSocket.close(code, reason);
  }

  /** A broken rule is told at once: the close that `ws` then sends may never be answered. */
  #closed(code: number, clean: boolean): void {
    if (this.#over) return;
    this.#over = true;
    this.#sink.closed(code, clean);
  }

  terminate(): void {
    this.#webSocket.terminate();
  }
}

/** The close code of RFC 6455, section 7.4.1, for a connection that ended without one. */
const LOST = 1006;

function errorCode(code: string | undefined): number {
  if (code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH' || code === 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH') {
    return CloseCode.messageTooBig;
  }
  return code?.startsWith('WS_ERR_') === true ? CloseCode.protocolError : LOST;
}
