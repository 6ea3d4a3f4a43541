import { randomFillSync } from 'node:crypto';

/** WebSocket frames (RFC 6455, section 5.2). */
export const Opcode = { continuation: 0x0, text: 0x1, binary: 0x2, close: 0x8, ping: 0x9, pong: 0xa } as const;

/**
 * A peer that pings and does not read gets no more pongs: they would only pile up here (RFC 6455, section 5.5.3, allows it).
 * Bytes.
 */
export const MAX_UNREAD_PONGS = 64 * 1024;

const FIN = 0x80;
const MASKED = 0x80;
const LENGTH_16 = 126;
const LENGTH_64 = 127;

/** Random bytes for masking keys, fetched in bulk: one call for each frame would cost more than the frame. */
const keys = Buffer.alloc(8 * 1024);
let keyOffset = keys.length;

/** One whole frame in one buffer, so that it leaves with one write. Clients mask (section 5.3), servers do not. */
export function encodeWebSocketFrame(opcode: number, payload: string | Buffer, mask: boolean): Buffer {
  const size = typeof payload === 'string' ? Buffer.byteLength(payload) : payload.length;
  const extended = size < LENGTH_16 ? 0 : size < 65_536 ? 2 : 8;
  const start = 2 + extended + (mask ? 4 : 0);
  const frame = Buffer.allocUnsafe(start + size);
  frame[0] = FIN | opcode;
  const length = extended === 0 ? size : extended === 2 ? LENGTH_16 : LENGTH_64;
  frame[1] = mask ? length | MASKED : length;
  if (extended === 2) frame.writeUInt16BE(size, 2);
  else if (extended === 8) {
    frame.writeUInt32BE(Math.floor(size / 0x1_0000_0000), 2);
    frame.writeUInt32BE(size >>> 0, 6);
  }
  if (typeof payload === 'string') frame.write(payload, start, size, 'utf8');
  else payload.copy(frame, start);
  if (mask) maskPayload(frame, start, size);
  return frame;
}

/** What is larger is not worth keeping. Bytes. */
const MAX_KEPT = 64 * 1024;
let lastPayload: Buffer | undefined;
let lastOpcode = -1;
let lastFrame: Buffer | undefined;

/** A server's frame. What goes to many one after the other is framed once: neither the payload nor the frame MUST be changed later. */
export function encodeServerFrame(opcode: number, payload: string | Buffer): Buffer {
  if (typeof payload === 'string' || payload.length > MAX_KEPT) return encodeWebSocketFrame(opcode, payload, false);
  if (payload !== lastPayload || opcode !== lastOpcode || lastFrame === undefined) {
    lastFrame = encodeWebSocketFrame(opcode, payload, false);
    lastPayload = payload;
    lastOpcode = opcode;
  }
  return lastFrame;
}

function maskPayload(frame: Buffer, start: number, size: number): void {
  if (keyOffset === keys.length) {
    randomFillSync(keys);
    keyOffset = 0;
  }
  const [k0, k1, k2, k3] = [
    keys[keyOffset] ?? 0,
    keys[keyOffset + 1] ?? 0,
    keys[keyOffset + 2] ?? 0,
    keys[keyOffset + 3] ?? 0,
  ];
  keyOffset += 4;
  frame[start - 4] = k0;
  frame[start - 3] = k1;
  frame[start - 2] = k2;
  frame[start - 1] = k3;
  const end = start + size;
  let index = start;
  for (; index + 3 < end; index += 4) {
    frame[index] = (frame[index] as number) ^ k0;
    frame[index + 1] = (frame[index + 1] as number) ^ k1;
    frame[index + 2] = (frame[index + 2] as number) ^ k2;
    frame[index + 3] = (frame[index + 3] as number) ^ k3;
  }
  for (let key = 0; index < end; index++, key++)
    frame[index] = (frame[index] as number) ^ ([k0, k1, k2][key] as number);
}
