/**
 * Just enough of RFC 6455 for a load client and an upstream that must cost next to nothing: whole unfragmented frames,
 * no extensions. Bridgehead's own framing is tested elsewhere; nothing here may be imported by `src`.
 */

export const Opcode = { text: 1, close: 8, ping: 9, pong: 10 } as const;

/** Called with the frame's payload bounds inside `buffer`; the payload is still masked if `mask` is not -1. */
export type OnFrame = (opcode: number, buffer: Buffer, start: number, end: number, mask: number) => void;

/** Finds whole frames in a byte stream. A frame that arrives in one piece (nearly all) is never copied. */
export class FrameReader {
  readonly #onFrame: OnFrame;
  #rest: Buffer | null = null;

  constructor(onFrame: OnFrame) {
    this.#onFrame = onFrame;
  }

  /** `buffer[0..length)` may be reused by the caller afterwards. */
  push(buffer: Buffer, length: number): void {
    let data = buffer;
    let available = length;
    if (this.#rest !== null) {
      data = Buffer.concat([this.#rest, buffer.subarray(0, length)]);
      available = data.length;
      this.#rest = null;
    }
    const used = this.#read(data, available);
    if (used < available) this.#rest = Buffer.from(data.subarray(used, available));
  }

  #read(data: Buffer, available: number): number {
    let offset = 0;
    while (available - offset >= 2) {
      const second = data[offset + 1] as number;
      let size = second & 0x7f;
      let start = offset + 2;
      if (size === 126) {
        if (available - offset < 4) break;
        size = data.readUInt16BE(start);
        start += 2;
      } else if (size === 127) {
        if (available - offset < 10) break;
        size = Number(data.readBigUInt64BE(start));
        start += 8;
      }
      let mask = -1;
      if (second & 0x80) {
        mask = start;
        start += 4;
      }
      const end = start + size;
      if (end > available) break;
      this.#onFrame((data[offset] as number) & 0x0f, data, start, end, mask);
      offset = end;
    }
    return offset;
  }
}

/** The payload's byte at `index`, unmasked where needed. */
export function byteAt(buffer: Buffer, start: number, mask: number, index: number): number {
  const byte = buffer[start + index] as number;
  return mask < 0 ? byte : byte ^ (buffer[mask + (index & 3)] as number);
}

/** The whole payload, unmasked, as a copy. */
export function payloadOf(buffer: Buffer, start: number, end: number, mask: number): Buffer {
  const payload = Buffer.from(buffer.subarray(start, end));
  if (mask >= 0) {
    for (let i = 0; i < payload.length; i++) payload[i] = (payload[i] as number) ^ (buffer[mask + (i & 3)] as number);
  }
  return payload;
}

/** One whole frame, ready to be written many times. A client passes a mask; it is not zero, so that peers do unmask. */
export function encodeFrame(opcode: number, data: string | Buffer, mask?: Buffer): Buffer {
  const payload = Buffer.from(data as string);
  const size = payload.length;
  const head = size < 126 ? Buffer.from([0x80 | opcode, size]) : Buffer.alloc(size < 65536 ? 4 : 10);
  if (size >= 126) {
    head[0] = 0x80 | opcode;
    head[1] = size < 65536 ? 126 : 127;
    if (size < 65536) head.writeUInt16BE(size, 2);
    else head.writeBigUInt64BE(BigInt(size), 2);
  }
  if (mask === undefined) return Buffer.concat([head, payload]);
  head[1] = (head[1] as number) | 0x80;
  for (let i = 0; i < size; i++) payload[i] = (payload[i] as number) ^ (mask[i & 3] as number);
  return Buffer.concat([head, mask, payload]);
}
