/**
 * The load client: raw sockets, frames encoded once, one receive buffer for all connections. It is a process of its own,
 * driven by messages from its parent (see `load.ts`), so that its code is warm before anything is measured.
 */
import type { Socket } from 'node:net';
import { byteAt, encodeFrame, Opcode } from './frames.ts';
import { mask, rawSocket } from './raw-socket.ts';
import { percentile } from './statistics.ts';
import { EVENT_NAMES, eventPacket } from './reflex-text.ts';
import type { ClientCommand, ClientReply } from './load.ts';

const [ZERO, TWO, THREE, FOUR] = [0x30, 0x32, 0x33, 0x34];
const events = EVENT_NAMES.map((name, index) => encodeFrame(Opcode.text, eventPacket(name, index), mask));
const connectPacket = encodeFrame(Opcode.text, '40/_event,', mask);
const pong = encodeFrame(Opcode.text, '3', mask);

let sockets: Socket[] = [];
let running = false;
let answered = 0;
let closing = false;
/** Round trips in milliseconds; only kept for a single client, where taking the time does not cost throughput. */
let roundTrips: number[] | null = null;

function open(port: number, path: string, serial: number, token: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    let turn = 0;
    let sentAt = 0;
    const socket = rawSocket({
      port,
      path: `${path}?token=${token}&EIO=4&transport=websocket`,
      protocol: '0.10.1',
      serial,
      headers: `Cookie: sessionid=${token}\r\n`,
      onFrame: (opcode, buffer, start, _end, masked) => {
        if (opcode !== Opcode.text) return;
        const first = byteAt(buffer, start, masked, 0);
        if (first === FOUR) {
          if (byteAt(buffer, start, masked, 1) === TWO) {
            answered += 1;
            if (roundTrips !== null) roundTrips.push(performance.now() - sentAt);
            if (running) send();
          } else if (byteAt(buffer, start, masked, 1) === ZERO) resolve(socket);
          else reject(new Error('the namespace was refused'));
        } else if (first === ZERO) socket.write(connectPacket);
        else if (first === TWO) socket.write(pong);
        else if (first !== THREE) reject(new Error(`unexpected packet type ${String.fromCharCode(first)}`));
      },
      onRefused: (text) => reject(new Error(`not upgraded: ${text}`)),
    });
    const send = (): void => {
      if (roundTrips !== null) sentAt = performance.now();
      socket.write(events[turn++ & 3] as Buffer);
    };
    starters.set(socket, send);
    socket.on('error', reject);
    socket.on('close', () => {
      reject(new Error('closed before CONNECT was acknowledged'));
      if (!closing) answer({ kind: 'failed', message: 'a connection was closed while it was in use' });
    });
  });
}

const starters = new WeakMap<Socket, () => void>();

function answer(reply: ClientReply): void {
  process.send?.(reply);
}

async function openAll(command: Extract<ClientCommand, { kind: 'open' }>): Promise<void> {
  closing = false;
  const { port, path, clients, atOnce } = command;
  while (sockets.length < clients) {
    const batch = Math.min(atOnce, clients - sockets.length);
    const opening = Array.from({ length: batch }, (_, i) => {
      const serial = sockets.length + i;
      return open(port, path, serial, `bench-${process.pid}-${serial}-${Date.now()}`);
    });
    sockets.push(...(await Promise.all(opening)));
  }
  answer({ kind: 'opened' });
}

function measure(milliseconds: number): void {
  roundTrips = sockets.length === 1 ? [] : null;
  answered = 0;
  running = true;
  const began = performance.now();
  for (const socket of sockets) starters.get(socket)?.();
  setTimeout(() => {
    running = false;
    const seconds = (performance.now() - began) / 1000;
    const sorted = Float64Array.from(roundTrips ?? []).sort();
    answer({
      kind: 'measured',
      eventsPerSecond: answered / seconds,
      p50: percentile(sorted, 0.5),
      p99: percentile(sorted, 0.99),
    });
  }, milliseconds);
}

async function closeAll(): Promise<void> {
  closing = true;
  const gone = sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
  for (const socket of sockets) socket.destroy();
  await Promise.all(gone);
  sockets = [];
  answer({ kind: 'closed' });
}

const failed = (error: Error): void => answer({ kind: 'failed', message: error.message });

process.on('message', (command: ClientCommand) => {
  switch (command.kind) {
    case 'open':
      openAll(command).catch(failed);
      break;
    case 'measure':
      measure(command.milliseconds);
      break;
    case 'close':
      closeAll().catch(failed);
      break;
  }
});
process.on('disconnect', () => process.exit(0));
