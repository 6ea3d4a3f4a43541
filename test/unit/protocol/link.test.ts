import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keyring } from '../../../src/protocol/keys.ts';
import {
  encodeControl,
  encodeFrame,
  FrameError,
  FrameReader,
  isLinkMac,
  LinkFrame,
  linkMac,
  MAX_FRAME,
  MAX_FRAME_BEFORE_PROOF,
  type LinkLabel,
} from '../../../src/protocol/link.ts';
import { framesIn } from '../../support/frames.ts';
import { loadVectors } from '../../support/vectors.ts';
import { processorTime } from '../../support/processor-time.ts';

interface Vectors {
  readonly limit: number;
  readonly frames: readonly { type: number; name: string; channel: number; body: string; hex: string }[];
  readonly virtual: readonly { type: number; channel: number; bodyHex: string; hex: string }[];
  readonly streams: readonly { title: string; chunks: readonly string[]; types: readonly number[]; rest: number }[];
  readonly invalid: readonly { title: string; hex: string }[];
}

interface ProofVector {
  readonly secret: string;
  readonly kid: string;
  readonly name: string;
  readonly label: LinkLabel;
  readonly sidecarNonce: string;
  readonly workerNonce: string;
  readonly said?: string;
  readonly mac: string;
}

const vectors = loadVectors('link-frames.json') as Vectors;
const hex = (text: string): Buffer => Buffer.from(text, 'hex');

describe('frames of the shared vectors', () => {
  it.each(vectors.frames)('$name $body', ({ type, name, channel, body, hex: bytes }) => {
    expect(LinkFrame[name.toLowerCase() as keyof typeof LinkFrame]).toBe(type);
    expect(encodeFrame(type, channel, Buffer.from(body)).toString('hex')).toBe(bytes);
    expect(encodeControl(type, JSON.parse(body) as object).toString('hex')).toBe(bytes);
    expect(framesIn(hex(bytes))).toEqual([{ type, channel, body: Buffer.from(body) }]);
  });

  it.each(vectors.virtual)('type $type on channel $channel', ({ type, channel, bodyHex, hex: bytes }) => {
    expect(encodeFrame(type, channel, hex(bodyHex)).toString('hex')).toBe(bytes);
    expect(framesIn(hex(bytes))).toEqual([{ type, channel, body: hex(bodyHex) }]);
  });

  it.each(vectors.streams)('$title', ({ chunks, types }) => {
    const reader = new FrameReader();
    const read = chunks.flatMap((chunk) => framesIn(hex(chunk), reader));
    expect(read.map(({ type }) => type)).toEqual(types);
  });

  it.each(vectors.invalid)('refuses $title', ({ hex: bytes }) => {
    const read = (): void => {
      for (const { channel, body } of framesIn(hex(bytes))) {
        if (channel !== 0) throw new FrameError('a channel');
        const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
        if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new FrameError('no object');
      }
    };
    expect(read).toThrow();
  });
});

describe('the proof of the shared vectors', () => {
  it.each(loadVectors('link-proof.json') as ProofVector[])('$label of $name: $mac', (vector) => {
    const key = keyring(vector.secret, [], 'link').current;
    expect(key.id).toBe(vector.kid);
    const { said } = vector;
    expect(linkMac(key, vector.label, vector, said)).toBe(vector.mac);
    expect(isLinkMac(key, vector.label, vector, vector.mac, said)).toBe(true);
    expect(isLinkMac(key, vector.label, vector, vector.mac, `${said ?? ''}x`)).toBe(false);
    expect(isLinkMac(key, vector.label === 'worker' ? 'sidecar' : 'worker', vector, vector.mac, said)).toBe(false);
    expect(isLinkMac(key, vector.label, { ...vector, name: `${vector.name}x` }, vector.mac, said)).toBe(false);
    expect(isLinkMac(key, vector.label, vector, `${vector.mac}=`, said)).toBe(false);
  });
});

describe('a frame reader', () => {
  const frame = fc.record({
    type: fc.nat(255),
    channel: fc.nat(0xffffffff),
    body: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  });

  it('gives the same frames however the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 12 }), fc.array(fc.nat(4_000), { maxLength: 30 }), (frames, cuts) => {
        const bytes = Buffer.concat(frames.map(({ type, channel, body }) => encodeFrame(type, channel, body)));
        const edges = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
        const reader = new FrameReader();
        const read = edges.slice(1).flatMap((end, index) => framesIn(bytes.subarray(edges[index], end), reader));
        expect(read).toEqual(frames);
      }),
    );
  });

  it('refuses a long frame by its length alone, before its body is there', () => {
    const reader = new FrameReader();
    const head = Buffer.alloc(4);
    head.writeUInt32BE(MAX_FRAME_BEFORE_PROOF + 1);
    expect(() => framesIn(head, reader)).toThrow(FrameError);
    const proved = new FrameReader();
    proved.limit = MAX_FRAME;
    expect(framesIn(head, proved)).toEqual([]);
    head.writeUInt32BE(MAX_FRAME + 1);
    const other = new FrameReader();
    other.limit = MAX_FRAME;
    expect(() => framesIn(head, other)).toThrow(FrameError);
  });

  it('reads a 16 MiB frame that comes in small pieces in linear time', () => {
    const reader = new FrameReader();
    reader.limit = MAX_FRAME;
    const bytes = encodeFrame(4, 0, Buffer.alloc(MAX_FRAME - 5));
    let frames = 0;
    const spent = processorTime(() => {
      for (let start = 0; start < bytes.length; start += 1_024) {
        frames += framesIn(bytes.subarray(start, start + 1_024), reader).length;
      }
    });
    expect(frames).toBe(1);
    expect(spent).toBeLessThan(2_000);
  });
});
