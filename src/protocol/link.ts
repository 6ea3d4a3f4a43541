/** Frames and messages of a worker's link (docs/PROTOCOL.md, "Link"). */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Key } from './keys.ts';

export const LINK_VERSION = 1;

export const LinkFrame = {
  hello: 1,
  auth: 2,
  welcome: 3,
  manifest: 4,
  rules: 5,
  ping: 6,
  pong: 7,
  error: 8,
  goaway: 9,
  authQuery: 10,
  authReply: 11,
  session: 12,
  invalidate: 13,
  drain: 14,
  stats: 15,
  report: 16,
  changes: 17,
  changed: 18,
  gap: 19,
  watch: 20,
} as const;

/** Limits of a frame's length field, in bytes: until the worker has proved the secret, and after. */
export const MAX_FRAME_BEFORE_PROOF = 4_096;
export const MAX_FRAME = 16 * 1024 * 1024;

/** Bytes of a frame before its body. */
export const FRAME_HEAD = 4 + 1 + 4;

/** A frame where it was read: it is valid until the next bytes are, and what it gives are views. Copy what is kept. */
export class Frame {
  readonly type: number;
  readonly channel: number;
  /** Bytes of the body. */
  readonly size: number;
  readonly #bytes: Buffer;
  readonly #start: number;

  /** `start`: where the body begins. */
  constructor(type: number, channel: number, bytes: Buffer, start: number, size: number) {
    this.type = type;
    this.channel = channel;
    this.size = size;
    this.#bytes = bytes;
    this.#start = start;
  }

  get body(): Buffer {
    return this.from(0);
  }

  /** The body from `offset` on. */
  from(offset: number): Buffer {
    return this.#bytes.subarray(this.#start + offset, this.#start + this.size);
  }

  /** `offset`: within the body; the same for `uint32`. */
  uint8(offset: number): number {
    return this.#bytes.readUInt8(this.#start + offset);
  }

  uint32(offset: number): number {
    return this.#bytes.readUInt32BE(this.#start + offset);
  }
}

/** A frame with its head written and room for the body. */
export function frameBuffer(type: number, channel: number, bodyBytes: number): Buffer {
  const frame = Buffer.allocUnsafe(FRAME_HEAD + bodyBytes);
  frame.writeUInt32BE(5 + bodyBytes, 0);
  frame.writeUInt8(type, 4);
  frame.writeUInt32BE(channel, 5);
  return frame;
}

export function encodeFrame(type: number, channel: number, body: Buffer): Buffer {
  const frame = frameBuffer(type, channel, body.length);
  body.copy(frame, FRAME_HEAD);
  return frame;
}

export function encodeControl(type: number, message: object): Buffer {
  return encodeFrame(type, 0, Buffer.from(JSON.stringify(message)));
}

/** A frame that breaks the protocol. The message holds nothing that the peer sent but numbers. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/** Bytes that are no UTF-8 are no message: both sides must read the same text. */
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The JSON object that a body holds. Throws FrameError. */
export function decodeObject(body: Buffer): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(UTF8.decode(body));
  } catch {
    // Told below, like every other thing that is no object.
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new FrameError('the body must be a JSON object');
  return value as Record<string, unknown>;
}

/** Cuts a stream of bytes into frames, holding back at most one unfinished frame. */
export class FrameReader {
  /** Bytes the length field may say; raised once the peer is proved. */
  limit: number = MAX_FRAME_BEFORE_PROOF;
  /** The beginning of a length field that a chunk cut off. */
  #start: Buffer | undefined;
  /** A frame that goes on in chunks to come, and how much of it is there. */
  #partial: Buffer | undefined;
  #filled = 0;

  /**
   * Calls `take` with each frame that is complete with this chunk, until it returns false: what is left is thrown away then. Throws
   * FrameError.
   */
  push(input: Buffer, take: (frame: Frame) => boolean): void {
    let chunk = input;
    let offset = 0;
    if (this.#partial !== undefined) {
      offset = chunk.copy(this.#partial, this.#filled);
      this.#filled += offset;
      if (this.#filled < this.#partial.length) return;
      const whole = this.#partial;
      this.#partial = undefined;
      if (!take(frameAt(whole, 0, whole.length))) return;
    } else if (this.#start !== undefined) {
      chunk = Buffer.concat([this.#start, input]);
      this.#start = undefined;
    }
    while (chunk.length - offset >= 4) {
      const length = chunk.readUInt32BE(offset);
      if (length < 5) throw new FrameError(`a frame of ${length} bytes is shorter than its head`);
      if (length > this.limit) throw new FrameError(`a frame of ${length} bytes exceeds ${this.limit}`);
      const end = offset + 4 + length;
      if (end > chunk.length) {
        this.#partial = Buffer.allocUnsafe(4 + length);
        this.#filled = chunk.copy(this.#partial, 0, offset);
        return;
      }
      if (!take(frameAt(chunk, offset, end))) return;
      offset = end;
    }
    if (offset < chunk.length) this.#start = Buffer.from(chunk.subarray(offset));
  }
}

function frameAt(bytes: Buffer, start: number, end: number): Frame {
  const body = start + FRAME_HEAD;
  return new Frame(bytes.readUInt8(start + 4), bytes.readUInt32BE(start + 5), bytes, body, end - body);
}

export interface Proof {
  readonly name: string;
  readonly sidecarNonce: string;
  readonly workerNonce: string;
}

/** `session`: what the worker says later of a tab's session. */
export type LinkLabel = 'worker' | 'sidecar' | 'session';

/**
 * The mac that shows knowledge of the secret; a label for each direction keeps one from being played back as the other. `said`: what
 * else it is for.
 */
export function linkMac(key: Key, label: LinkLabel, { name, sidecarNonce, workerNonce }: Proof, said?: string): string {
  const text = [
    'bridgehead-link-v1',
    label,
    name,
    sidecarNonce,
    workerNonce,
    ...(said === undefined ? [] : [said]),
  ].join('\n');
  return createHmac('sha256', key.secret).update(text).digest('base64url');
}

export function isLinkMac(key: Key, label: LinkLabel, proof: Proof, candidate: string, said?: string): boolean {
  const expected = Buffer.from(linkMac(key, label, proof, said));
  const actual = Buffer.from(candidate);
  return actual.length === expected.length && timingSafeEqual(actual, expected);
}
