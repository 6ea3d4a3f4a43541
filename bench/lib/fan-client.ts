/**
 * Clients that only listen: raw sockets, one receive buffer for all, the stamp found where it lies. A process of its own, driven by messages
 * from its parent (see `fan.ts`).
 */
import type { Socket } from 'node:net';
import { dialects, type Dialect, type DialectName } from './fan-dialects.ts';
import { sharedMicroseconds, STAMP, STAMP_DIGITS, type FanCommand, type FanReply } from './fan.ts';
import { Opcode, payloadOf } from './frames.ts';
import { rawSocket, sayText } from './raw-socket.ts';
import { percentile } from './statistics.ts';

const AT_ONCE = 50;
const MOST_SAMPLES = 8_000_000;
const STAMP_BYTE = STAMP.charCodeAt(0);
const ZERO = 0x30;
/** Microseconds. */
const samples = new Uint32Array(MOST_SAMPLES);

let sockets: Socket[] = [];
let count = 0;
let bye: string | undefined;
let closing = false;
/** Connections that the server closed: it gives up a client that reads too slowly. */
let cut = 0;

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
    for (const last = at + STAMP_DIGITS; at < last;) sent = sent * 10 + (buffer[++at] as number) - ZERO;
    if (count < MOST_SAMPLES) samples[count] = Math.max(0, now - sent);
    count += 1;
  }
  return true;
}

function open(port: number, dialect: Dialect, serial: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = rawSocket({
      port,
      path: dialect.path.replace('TOKEN', `fan-${process.pid}-${serial}-${Date.now()}`),
      protocol: dialect.protocol,
      serial,
      onOpen: () => {
        if (dialect.hello !== undefined) sayText(socket, dialect.hello);
      },
      onFrame: (opcode, buffer, start, end, masked) => {
        if (opcode !== Opcode.text || collect(buffer, start, end)) return;
        const heard = dialect.hear(payloadOf(buffer, start, end, masked).toString());
        if (heard.say !== undefined) sayText(socket, heard.say);
        if (heard.ready === true) resolve(socket);
      },
      onRefused: (answer) => reject(new Error(`not upgraded: ${answer}`)),
    });
    socket.on('error', reject);
    socket.on('close', () => {
      reject(new Error('closed before it was subscribed'));
      if (!closing) cut += 1;
    });
  });
}

async function openAll(port: number, name: DialectName, clients: number): Promise<void> {
  closing = false;
  cut = 0;
  const dialect: Dialect = dialects[name];
  bye = dialect.bye;
  while (sockets.length < clients) {
    const batch = Math.min(AT_ONCE, clients - sockets.length);
    const opening = Array.from({ length: batch }, (_, index) => open(port, dialect, sockets.length + index));
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
    cut,
  });
}

async function closeAll(): Promise<void> {
  closing = true;
  const gone = sockets
    .filter(({ closed }) => !closed)
    .map((socket) => new Promise((resolve) => socket.once('close', resolve)));
  for (const socket of sockets) {
    if (bye !== undefined) sayText(socket, bye);
    socket.destroySoon();
  }
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
    case 'count':
      answer({ kind: 'count', received: count });
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
