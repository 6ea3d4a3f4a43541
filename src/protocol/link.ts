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
} as const;

/** Limits of a frame's length field, in bytes: until the worker has proved the secret, and after. */
export const MAX_FRAME_BEFORE_PROOF = 4_096;
export const MAX_FRAME = 16 * 1024 * 1024;

const HEAD = 4 + 1 + 4;

export interface Frame {
  readonly type: number;
  readonly channel: number;
  readonly body: Buffer;
}

export function encodeFrame(type: number, channel: number, body: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(HEAD + body.length);
  frame.writeUInt32BE(5 + body.length, 0);
  frame.writeUInt8(type, 4);
  frame.writeUInt32BE(channel, 5);
  body.copy(frame, HEAD);
  return frame;
}

export function encodeControl(type: number, message: object): Buffer {
  return encodeFrame(type, 0, Buffer.from(JSON.stringify(message)));
}

/** A frame that is longer than allowed or shorter than its own head. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/** Cuts a stream of bytes into frames, holding back at most one unfinished frame. */
export class FrameReader {
  /** Bytes the length field may say; raised once the peer is proved. */
  limit: number = MAX_FRAME_BEFORE_PROOF;
  #chunks: Buffer[] = [];
  #size = 0;

  /** The frames that are complete with this chunk. Throws FrameError. Bodies are views: copy what is kept. */
  *push(chunk: Buffer): Generator<Frame> {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    while (this.#size >= 4) {
      const length = this.#peekLength();
      if (length < 5) throw new FrameError(`a frame of ${length} bytes is shorter than its head`);
      if (length > this.limit) throw new FrameError(`a frame of ${length} bytes exceeds ${this.limit}`);
      if (this.#size < 4 + length) return;
      const whole = this.#take(4 + length);
      yield { type: whole.readUInt8(4), channel: whole.readUInt32BE(5), body: whole.subarray(HEAD) };
    }
  }

  #peekLength(): number {
    const first = this.#chunks[0];
    if (first !== undefined && first.length >= 4) return first.readUInt32BE(0);
    this.#chunks = [Buffer.concat(this.#chunks)];
    return (this.#chunks[0] as Buffer).readUInt32BE(0);
  }

  #take(bytes: number): Buffer {
    let joined = this.#chunks[0] as Buffer;
    if (joined.length < bytes) joined = Buffer.concat(this.#chunks);
    else if (this.#chunks.length > 1) {
      this.#chunks[0] = joined.subarray(bytes);
      this.#size -= bytes;
      if (this.#chunks[0].length === 0) this.#chunks.shift();
      return joined.subarray(0, bytes);
    }
    this.#size -= bytes;
    this.#chunks = this.#size === 0 ? [] : [joined.subarray(bytes)];
    return joined.subarray(0, bytes);
  }
}

export interface Proof {
  readonly name: string;
  readonly sidecarNonce: string;
  readonly workerNonce: string;
}

/** The mac that shows knowledge of the secret; a label for each direction keeps one from being played back as the other. */
export function linkMac(key: Key, label: 'worker' | 'sidecar', { name, sidecarNonce, workerNonce }: Proof): string {
  const text = ['bridgehead-link-v1', label, name, sidecarNonce, workerNonce].join('\n');
  return createHmac('sha256', key.bytes).update(text).digest('base64url');
}

export function isLinkMac(key: Key, label: 'worker' | 'sidecar', proof: Proof, candidate: string): boolean {
  const expected = Buffer.from(linkMac(key, label, proof));
  const actual = Buffer.from(candidate);
  return actual.length === expected.length && timingSafeEqual(actual, expected);
}
