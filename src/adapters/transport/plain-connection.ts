import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { SendResult, WebSocketConnection, WebSocketSink } from '../../ports/transport.ts';
import { CloseCode } from '../../protocol/close-code.ts';
import { FrameReader, WebSocketProtocolError } from '../shared/frame-reader.ts';
import { SocketWriter } from '../shared/socket-writer.ts';
import { encodeServerFrame, encodeWebSocketFrame, MAX_UNREAD_PONGS, Opcode } from '../shared/websocket-frame.ts';

const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const INVALID_TEXT = 1007;
const NO_CODE = 1005;
const LOST = 1006;
/** A close that is not answered ends with the connection. Milliseconds. */
const CLOSE_TIMEOUT = 5_000;

/** The answer that completes a handshake (RFC 6455, section 4.2.2). */
export function handshakeAnswer(key: string, protocol: string | undefined): string {
  const accept = createHash('sha1')
    .update(key + ACCEPT_GUID)
    .digest('base64');
  const chosen = protocol === undefined ? '' : `Sec-WebSocket-Protocol: ${protocol}\r\n`;
  const head = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n';
  return `${head}Sec-WebSocket-Accept: ${accept}\r\n${chosen}\r\n`;
}

/**
 * A client's WebSocket without extensions. `ws` does the same with a stream machine for each connection; here a frame is
 * read where it lies, which halves what an idle session and an event cost. Compressed connections are left to `ws`.
 */
export class PlainConnection implements WebSocketConnection {
  readonly #socket: Duplex;
  readonly #sink: WebSocketSink;
  readonly #writer: SocketWriter;
  readonly #reader: FrameReader;
  #closeSent = false;
  #over = false;

  /** `answer`: what completes the handshake, and goes out together with what follows at once; `rest`: what came behind the request already. */
  constructor(
    socket: Duplex,
    { answer, rest }: { answer: string; rest: Buffer },
    sink: WebSocketSink,
    maxMessage: number,
  ) {
    this.#socket = socket;
    this.#sink = sink;
    this.#writer = new SocketWriter(socket, () => {
      if (!this.#over) sink.drained();
    });
    const handler = {
      message: (data: Buffer, binary: boolean): void => this.#message(data, binary),
      control: (opcode: number, data: Buffer): void => this.#control(opcode, data),
    };
    this.#reader = new FrameReader(handler, { masked: true, maxMessage });
    socket.on('data', (chunk: Buffer) => this.#data(chunk));
    socket.on('end', () => socket.end());
    socket.on('error', () => this.#end(LOST, false));
    socket.on('close', () => this.#end(LOST, false));
    if (rest.length > 0) socket.unshift(rest);
    this.#writer.write(Buffer.from(answer, 'latin1'));
  }

  get bufferedBytes(): number {
    return this.#writer.bufferedBytes;
  }

  send(data: string | Buffer, binary: boolean): SendResult {
    if (this.#over || this.#closeSent) return 'dropped';
    this.#writer.write(encodeServerFrame(binary ? Opcode.binary : Opcode.text, data));
    return 'queued';
  }

  pause(): boolean {
    this.#socket.pause();
    return true;
  }

  resume(): void {
    this.#socket.resume();
  }

  close(code: number, reason: string): void {
    if (this.#over || this.#closeSent) return;
    this.#sendClose(code, reason);
    // The client's own close may wait behind what was not read.
    this.#socket.resume();
    setTimeout(() => this.#socket.destroy(), CLOSE_TIMEOUT).unref();
  }

  terminate(): void {
    this.#socket.destroy();
  }

  #data(chunk: Buffer): void {
    if (this.#over) return;
    try {
      this.#reader.push(chunk);
    } catch (error) {
      if (!(error instanceof WebSocketProtocolError)) throw error;
      this.#fail(error.closeCode, error.message);
    }
  }

  #message(data: Buffer, binary: boolean): void {
    if (this.#closeSent || this.#over) return;
    if (binary || isUtf8(data)) this.#sink.message(data, binary);
    else this.#fail(INVALID_TEXT, 'text must be UTF-8');
  }

  #control(opcode: number, data: Buffer): void {
    if (opcode === Opcode.ping) return this.#pong(data);
    if (opcode !== Opcode.close) return;
    const code = data.length >= 2 ? data.readUInt16BE(0) : NO_CODE;
    if (data.length > 0 && !mayBeSent(code))
      return this.#fail(CloseCode.protocolError, 'a close code that means nothing');
    if (!this.#closeSent) this.#sendClose(code === NO_CODE ? CloseCode.normal : code, '');
    this.#socket.end();
    this.#end(code, true);
  }

  #pong(data: Buffer): void {
    if (this.#closeSent || this.#writer.bufferedBytes > MAX_UNREAD_PONGS) return;
    this.#writer.write(encodeWebSocketFrame(Opcode.pong, data, false));
  }

  /** A broken rule is told at once: the close that answers it may never come. */
  #fail(code: number, reason: string): void {
    if (!this.#closeSent) this.close(code, reason);
    this.#end(code, false);
  }

  #sendClose(code: number, reason: string): void {
    this.#closeSent = true;
    const payload = Buffer.allocUnsafe(2 + Buffer.byteLength(reason));
    payload.writeUInt16BE(code, 0);
    payload.write(reason, 2);
    this.#writer.write(encodeWebSocketFrame(Opcode.close, payload, false));
    this.#writer.flush();
  }

  #end(code: number, clean: boolean): void {
    if (this.#over) return;
    this.#over = true;
    this.#sink.closed(code, clean);
  }
}

/** Codes that stand in close frames (RFC 6455, section 7.4). */
function mayBeSent(code: number): boolean {
  if (code >= 3000) return code < 5000;
  return code >= 1000 && code <= 1014 && code !== 1004 && code !== NO_CODE && code !== LOST;
}
