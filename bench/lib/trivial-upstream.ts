/**
 * A worker that does nothing: Engine.IO 4 and Socket.IO 5 over WebSocket, answering each event with a small delta that was
 * encoded once; a POST is swallowed and answered. A process of its own: `node trivial-upstream.ts <port>`.
 */
import { createHash } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { byteAt, encodeFrame, FrameReader, Opcode, payloadOf } from './frames.ts';
import { DELTA_PACKET, openPacket } from './reflex-text.ts';

const ACCEPT_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const PING_EVERY_MS = 25_000;

const [ZERO, ONE, TWO, FOUR] = [0x30, 0x31, 0x32, 0x34];
const delta = encodeFrame(Opcode.text, DELTA_PACKET);
const connected = encodeFrame(Opcode.text, '40/_event,{"sid":"bench-sid-0000000000"}');
const ping = encodeFrame(Opcode.text, '2');
const sockets = new Set<Socket>();
let opened = 0;

function onUpgraded(socket: Socket): FrameReader {
  return new FrameReader((opcode, buffer, start, end, mask) => {
    if (opcode === Opcode.text) {
      if (byteAt(buffer, start, mask, 0) !== FOUR) return;
      const second = byteAt(buffer, start, mask, 1);
      if (second === TWO) socket.write(delta);
      else if (second === ZERO) socket.write(connected);
      else if (second === ONE) socket.end();
    } else if (opcode === Opcode.ping) {
      socket.write(encodeFrame(Opcode.pong, payloadOf(buffer, start, end, mask)));
    } else if (opcode === Opcode.close) {
      socket.end(encodeFrame(Opcode.close, payloadOf(buffer, start, end, mask)));
    }
  });
}

function header(head: string, name: string): string | undefined {
  return new RegExp(`^${name}: *(.*)$`, 'im').exec(head)?.[1]?.trim();
}

function upgrade(socket: Socket, head: string, key: string): void {
  const accept = createHash('sha1')
    .update(key + ACCEPT_GUID)
    .digest('base64');
  const protocol = header(head, 'sec-websocket-protocol')?.split(',')[0]?.trim();
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n` +
      (protocol === undefined ? '' : `Sec-WebSocket-Protocol: ${protocol}\r\n`) +
      '\r\n',
  );
  opened += 1;
  socket.write(encodeFrame(Opcode.text, openPacket(`bench${opened}`)));
  sockets.add(socket);
}

/** A connection that is not upgraded: requests one after another, whose bodies are counted and thrown away. */
class HttpConnection {
  readonly #socket: Socket;
  readonly #onUpgrade: (head: string, key: string, rest: Buffer) => void;
  #head = '';
  #bodyLeft = 0;

  constructor(socket: Socket, onUpgrade: (head: string, key: string, rest: Buffer) => void) {
    this.#socket = socket;
    this.#onUpgrade = onUpgrade;
  }

  push(chunk: Buffer): void {
    if (this.#bodyLeft > 0) {
      this.#bodyLeft -= chunk.length;
      if (this.#bodyLeft <= 0) this.#answer();
      return;
    }
    this.#head += chunk.toString('latin1');
    const end = this.#head.indexOf('\r\n\r\n');
    if (end < 0) return;
    const head = this.#head.slice(0, end);
    const rest = Buffer.from(this.#head.slice(end + 4), 'latin1');
    this.#head = '';
    const key = header(head, 'sec-websocket-key');
    if (key !== undefined) return this.#onUpgrade(head, key, rest);
    this.#bodyLeft = Number(header(head, 'content-length') ?? 0) - rest.length;
    if (this.#bodyLeft <= 0) this.#answer();
  }

  #answer(): void {
    this.#bodyLeft = 0;
    this.#socket.write(
      'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: 13\r\n\r\n{"delta":{}}\n',
    );
  }
}

const server = createServer({ noDelay: true }, (socket) => {
  let reader: FrameReader | null = null;
  const http = new HttpConnection(socket, (head, key, rest) => {
    reader = onUpgraded(socket);
    upgrade(socket, head, key);
    if (rest.length > 0) reader.push(rest, rest.length);
  });
  socket.on('data', (chunk) => {
    if (reader !== null) reader.push(chunk, chunk.length);
    else http.push(chunk);
  });
  socket.on('close', () => sockets.delete(socket));
  socket.on('error', () => socket.destroy());
});

server.listen({ port: Number(process.argv[2]), host: '127.0.0.1', backlog: 4096 }, () => {
  setInterval(() => {
    for (const socket of sockets) socket.write(ping);
  }, PING_EVERY_MS);
});
