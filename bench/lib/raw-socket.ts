import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { encodeFrame, FrameReader, Opcode, payloadOf, type OnFrame } from './frames.ts';

/** A client's frames are masked; a key of zeros would spare peers the work. */
export const mask = Buffer.from([0x5a, 0x17, 0xc3, 0x81]);

const received = Buffer.alloc(256 * 1024);

export interface RawSocketOptions {
  readonly port: number;
  readonly path: string;
  readonly protocol?: string | undefined;
  /** Spreads many connections over source addresses, so that they stay clear of the ephemeral port range. */
  readonly serial: number;
  /** Further request headers, each with its line end. */
  readonly headers?: string;
  readonly onOpen?: () => void;
  /** Frames of data. Pings are answered, a close ends the socket. */
  readonly onFrame: OnFrame;
  /** The server did not upgrade: the beginning of what it said. */
  readonly onRefused: (answer: string) => void;
}

export function sayText(socket: Socket, text: string): void {
  socket.write(encodeFrame(Opcode.text, text, mask));
}

/** A WebSocket that costs its process next to nothing: one receive buffer for all. */
export function rawSocket(options: RawSocketOptions): Socket {
  const { port, path, protocol, serial, headers = '' } = options;
  let head = '';
  let upgraded = false;
  const reader = new FrameReader((opcode, buffer, start, end, masked) => {
    if (opcode === Opcode.close) socket.destroy();
    else if (opcode === Opcode.ping) {
      socket.write(encodeFrame(Opcode.pong, payloadOf(buffer, start, end, masked), mask));
    } else options.onFrame(opcode, buffer, start, end, masked);
  });
  const onBytes = (length: number): boolean => {
    if (upgraded) {
      reader.push(received, length);
      return true;
    }
    head += received.toString('latin1', 0, length);
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return true;
    if (!head.startsWith('HTTP/1.1 101')) {
      options.onRefused(head.slice(0, 200));
      return true;
    }
    upgraded = true;
    options.onOpen?.();
    const rest = Buffer.from(head.slice(end + 4), 'latin1');
    if (rest.length > 0) reader.push(rest, rest.length);
    return true;
  };
  const socket = connect({
    port,
    host: '127.0.0.1',
    localAddress: `127.0.0.${1 + (serial % 4)}`,
    onread: { buffer: received, callback: onBytes },
  });
  socket.setNoDelay(true);
  socket.on('connect', () => {
    const chosen = protocol === undefined ? '' : `Sec-WebSocket-Protocol: ${protocol}\r\n`;
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        `Sec-WebSocket-Version: 13\r\n${chosen}${headers}Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
    );
  });
  return socket;
}
