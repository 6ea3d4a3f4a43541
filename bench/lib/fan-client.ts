/**
 * Clients that only listen: raw sockets, one receive buffer for all, the stamp found where it lies. A process of its own, driven by messages
 * from its parent (see `fan.ts`).
 */
import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { dialects, type Dialect, type DialectName } from './fan-dialects.ts';
import { sharedMicroseconds, STAMP, STAMP_DIGITS, type FanCommand, type FanReply } from './fan.ts';
import { encodeFrame, FrameReader, Opcode, payloadOf } from './frames.ts';
import { percentile } from './statistics.ts';

const AT_ONCE = 50;
const MOST_SAMPLES = 8_000_000;
const STAMP_BYTE = STAMP.charCodeAt(0);
const ZERO = 0x30;
const mask = Buffer.from([0x5a, 0x17, 0xc3, 0x81]);
const received = Buffer.alloc(256 * 1024);
/** Microseconds. */
const samples = new Uint32Array(MOST_SAMPLES);

let sockets: Socket[] = [];
let count = 0;
let closing = false;

function answer(reply: FanReply): void {
  process.send?.(reply);
}

/** Every stamp in the frame: a peer may put several messages into one. */
function collect(buffer: Buffer, start: number, end: number): boolean {
  let at = buffer.indexOf(STAMP_BYTE, start);
  if (at < 0 || at >= end) return false;
  const now = sharedMicroseconds();
  for (; at >= 0 && at < end; at = buffer.indexOf(STAMP_BYTE, at)) {
    let sent = 0;
    for (const last = at + STAMP_DIGITS; at < last; ) sent = sent * 10 + (buffer[++at] as number) - ZERO;
    if (count < MOST_SAMPLES) samples[count] = Math.max(0, now - sent);
    count += 1;
  }
  return true;
}

function open(port: number, dialect: Dialect, serial: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    let head = '';
    let upgraded = false;
    const say = (text: string): void => void socket.write(encodeFrame(Opcode.text, text, mask));
    const reader = new FrameReader((opcode, buffer, start, end, masked) => {
      if (opcode === Opcode.ping)
        socket.write(encodeFrame(Opcode.pong, payloadOf(buffer, start, end, masked), mask));
      if (opcode !== Opcode.text || collect(buffer, start, end)) return;
      const heard = dialect.hear(payloadOf(buffer, start, end, masked).toString());
      if (heard.say !== undefined) say(heard.say);
      if (heard.ready === true) resolve(socket);
    });
    const onBytes = (length: number): boolean => {
      if (upgraded) {
        reader.push(received, length);
        return true;
      }
      head += received.toString('latin1', 0, length);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return true;
      if (!head.startsWith('HTTP/1.1 101')) reject(new Error(`not upgraded: ${head.slice(0, 200)}`));
      upgraded = true;
      if (dialect.hello !== undefined) say(dialect.hello);
      const rest = Buffer.from(head.slice(end + 4), 'latin1');
      if (rest.length > 0) reader.push(rest, rest.length);
      return true;
    };
    const socket = connect({
      port,
      host: '127.0.0.1',
      // Further source addresses keep many connections clear of the ephemeral port range.
      localAddress: `127.0.0.${1 + (serial % 4)}`,
      onread: { buffer: received, callback: onBytes },
    });
    socket.setNoDelay(true);
    socket.on('connect', () => {
      const path = dialect.path.replace('TOKEN', `fan-${process.pid}-${serial}-${Date.now()}`);
      socket.write(
        `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
          'Sec-WebSocket-Version: 13\r\n' +
          (dialect.protocol === undefined ? '' : `Sec-WebSocket-Protocol: ${dialect.protocol}\r\n`) +
          `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n\r\n`,
      );
    });
    socket.on('error', reject);
    socket.on('close', () => {
      reject(new Error('closed before it was subscribed'));
      if (!closing) answer({ kind: 'failed', message: 'a connection was closed while it was in use' });
    });
  });
}

async function openAll(port: number, name: DialectName, clients: number): Promise<void> {
  closing = false;
  while (sockets.length < clients) {
    const batch = Math.min(AT_ONCE, clients - sockets.length);
    const opening = Array.from({ length: batch }, (_, index) => open(port, dialects[name], sockets.length + index));
    sockets.push(...(await Promise.all(opening)));
  }
  answer({ kind: 'done' });
}

function report(): void {
  const sorted = samples.slice(0, Math.min(count, MOST_SAMPLES)).sort();
  const milliseconds = (p: number): number => percentile(sorted, p) / 1000;
  answer({
    kind: 'report',
    received: count,
    p50: milliseconds(0.5),
    p99: milliseconds(0.99),
    worst: milliseconds(1),
  });
}

async function closeAll(): Promise<void> {
  closing = true;
  const gone = sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
  for (const socket of sockets) socket.destroy();
  await Promise.all(gone);
  sockets = [];
  answer({ kind: 'done' });
}

const failed = (error: Error): void => answer({ kind: 'failed', message: error.message });

process.on('message', (command: FanCommand) => {
  switch (command.kind) {
    case 'open':
      openAll(command.port, command.dialect, command.clients).catch(failed);
      break;
    case 'listen':
      count = 0;
      answer({ kind: 'done' });
      break;
    case 'report':
      report();
      break;
    case 'close':
      closeAll().catch(failed);
      break;
  }
});
process.on('disconnect', () => process.exit(0));
