/**
 * A linked worker that does nothing: it attaches every session, acknowledges CONNECT, and answers each event with RECEIVED, a small
 * delta and DONE, all that came together in one write. A process of its own: `node link-upstream.ts <ready port> <link URL>`, the secret
 * in BENCH_LINK_SECRET; it takes connections at the ready port once it is linked.
 */
import { createServer } from 'node:net';
import { encodeFrame, FRAME_HEAD, LinkFrame } from '../../src/protocol/link.ts';
import { encodeSession, SESSION_WINDOW, SessionFrame, WANTS_DONE } from '../../src/protocol/link-session.ts';
import { LinkClient } from '../../test/support/link-client.ts';
import { SESSIONS_MANIFEST } from '../../test/support/link-worker.ts';
import { DELTA_PACKET } from './reflex-text.ts';

const [readyPort = '', address = ''] = process.argv.slice(2);
const [ZERO, TWO] = [0x30, 0x32];
const client = await LinkClient.link(address, process.env['BENCH_LINK_SECRET'] ?? '', SESSIONS_MANIFEST, true);

/** One answer to an event, whole; channel and number are written over in a copy. */
const received = encodeSession(1, { kind: 'received', n: 0 });
const delta = encodeSession(1, { kind: 'server', binary: false, payload: DELTA_PACKET });
const done = encodeSession(1, { kind: 'done', n: 0, outcome: 'ended' });
const [SECOND, THIRD] = [received.length, received.length + delta.length];
const answer = Buffer.concat([received, delta, done]);
const CHANNEL = 5;

/** What waits for the end of the chunk that is being read begins at `begin`; written pieces are never touched again. */
const PIECE = 1024 * 1024;
let out = Buffer.allocUnsafe(PIECE);
let [begin, filled] = [0, 0];

function say(frame: Buffer): number {
  if (filled + frame.length > PIECE) {
    flush();
    out = Buffer.allocUnsafe(PIECE);
    begin = filled = 0;
  }
  const at = filled;
  filled += frame.copy(out, filled);
  return at;
}

function flush(): void {
  if (filled > begin) client.socket.write(out.subarray(begin, filled));
  begin = filled;
}

const taken = new Map<number, number>();

/** The body of CLIENT: flags, number, and the packet with its leading `4`. */
function onClient(data: Buffer, channel: number, body: number, end: number): void {
  const n = data.readUInt32BE(body + 1);
  const kind = data[body + 6];
  if (kind === TWO) {
    const at = say(answer);
    out.writeUInt32BE(channel, at + CHANNEL);
    out.writeUInt32BE(n, at + FRAME_HEAD);
    out.writeUInt32BE(channel, at + SECOND + CHANNEL);
    out.writeUInt32BE(channel, at + THIRD + CHANNEL);
    out.writeUInt32BE(n, at + THIRD + FRAME_HEAD);
  } else {
    say(encodeSession(channel, { kind: 'received', n }));
    if (kind === ZERO) {
      const payload = '40/_event,{"sid":"bench-sid-0000000000"}';
      say(encodeSession(channel, { kind: 'server', binary: false, payload }));
    }
    if (((data[body] ?? 0) & WANTS_DONE) !== 0) say(encodeSession(channel, { kind: 'done', n, outcome: 'ended' }));
  }
  const bytes = (taken.get(channel) ?? 0) + end - body - 5;
  if (bytes >= SESSION_WINDOW / 4) say(encodeSession(channel, { kind: 'credit', bytes }));
  taken.set(channel, bytes >= SESSION_WINDOW / 4 ? 0 : bytes);
}

function onFrame(data: Buffer, at: number, end: number): void {
  const channel = data.readUInt32BE(at + CHANNEL);
  const body = at + FRAME_HEAD;
  const type = data[at + 4];
  if (type === SessionFrame.client) onClient(data, channel, body, end);
  else if (type === SessionFrame.attach) say(encodeSession(channel, { kind: 'attached', received: 0, sent: 0 }));
  else if (type === SessionFrame.detach) {
    taken.delete(channel);
    say(encodeSession(channel, { kind: 'detached', reason: 'closed', background: [] }));
  } else if (type === LinkFrame.ping) say(encodeFrame(LinkFrame.pong, 0, data.subarray(body, end)));
}

let rest: Buffer | undefined;

function onChunk(chunk: Buffer): void {
  const data = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
  let at = 0;
  while (data.length - at >= FRAME_HEAD) {
    const end = at + 4 + data.readUInt32BE(at);
    if (end > data.length) break;
    onFrame(data, at, end);
    at = end;
  }
  rest = at < data.length ? Buffer.from(data.subarray(at)) : undefined;
  flush();
}

// The handshake is over: from here on nothing but what a trivial worker needs. RULES is the last that comes by itself.
await client.until(LinkFrame.rules);
client.socket.removeAllListeners('data');
client.socket.on('data', onChunk);

createServer().listen(Number(readyPort), '127.0.0.1');
