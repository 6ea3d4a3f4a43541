import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeControl, FrameError, FrameReader, LinkFrame, MAX_FRAME, Frame } from '../../../src/protocol/link.ts';
import { decodeSession } from '../../../src/protocol/link-session-reader.ts';
import {
  ATTACH_ERRORS,
  DETACH_REASONS,
  encodeClient,
  encodeSession,
  OUTCOMES,
  SessionFrame,
  type SessionMessage,
} from '../../../src/protocol/link-session.ts';
import { readFrames } from '../../support/frames.ts';
import { loadVectors } from '../../support/vectors.ts';

type Fields = Readonly<Record<string, unknown>>;
interface Vector {
  readonly title?: string;
  readonly name: string;
  readonly type: number;
  readonly channel: number;
  readonly message: Fields;
  readonly hex: string;
}
interface Vectors {
  readonly types: Readonly<Record<string, number>>;
  readonly frames: readonly Vector[];
  readonly lenient: readonly Vector[];
  readonly unfinished: readonly Vector[];
  readonly ignored: readonly string[];
  readonly invalid: readonly { title: string; hex: string }[];
  readonly control: readonly { name: string; body: string; hex: string }[];
}

const vectors = loadVectors('link-session-frames.json') as Vectors;
const liveVectors = loadVectors('live-frames.json') as Pick<Vectors, 'types'>;

function framesOf(bytes: Buffer): Frame[] {
  const reader = new FrameReader();
  reader.limit = MAX_FRAME;
  return readFrames(bytes, reader);
}

function onlyFrame(hex: string): Frame {
  const [frame, ...more] = framesOf(Buffer.from(hex, 'hex'));
  expect(more).toEqual([]);
  return frame as Frame;
}

/** What a vector's message is here. */
function made({ name, message }: Vector): SessionMessage {
  const kind = name.toLowerCase();
  const payload = typeof message['payload'] === 'string' ? { payload: Buffer.from(message['payload'], 'hex') } : {};
  if (kind === 'attached' && 'error' in message)
    return { instance: null, ...message, kind: 'refused' } as unknown as SessionMessage;
  if (kind === 'background' && message['state'] === 'started') {
    const { id, state, ...handler } = message;
    return { kind, id, state, handler } as unknown as SessionMessage;
  }
  return { kind, ...message, ...payload } as SessionMessage;
}

describe('frames of virtual sessions in the shared vectors', () => {
  it('have the types of the protocol', () => {
    const types = Object.entries(SessionFrame).map(([name, type]) => [name.toUpperCase(), type]);
    const { CHANGES: _, CHANGED: _2, GAP: _3, WATCH: _4, ...live } = liveVectors.types;
    expect(Object.fromEntries(types)).toEqual({ ...vectors.types, ...live });
  });

  it.each([...vectors.frames, ...vectors.unfinished])('$name $message', (vector) => {
    const message = made(vector);
    expect(encodeSession(vector.channel, message).toString('hex')).toBe(vector.hex);
    const frame = onlyFrame(vector.hex);
    expect([frame.type, frame.channel]).toEqual([vector.type, vector.channel]);
    expect(decodeSession(frame)).toEqual(message);
  });

  it.each(vectors.lenient)('$title, which nobody writes and everybody reads', (vector) => {
    expect(decodeSession(onlyFrame(vector.hex))).toEqual(made(vector));
  });

  it.each(vectors.ignored)('of a later version are passed over: %s', (hex) => {
    expect(decodeSession(onlyFrame(hex))).toBeUndefined();
  });

  it.each(vectors.invalid)('refuse $title', ({ hex }) => {
    const frame = onlyFrame(hex);
    expect(() => decodeSession(frame)).toThrow(FrameError);
  });

  it.each(vectors.control)('have the control frame $name', ({ name, body, hex }) => {
    const type = LinkFrame[name.toLowerCase() as keyof typeof LinkFrame];
    expect(encodeControl(type, JSON.parse(body) as object).toString('hex')).toBe(hex);
  });
});

const number = fc.nat(0xffff_ffff);
const object = fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 3 }).map(
  (value) =>
    // As JSON gives it back: without -0.
    JSON.parse(JSON.stringify(value)) as Fields,
);
const handler = fc.record({ name: fc.string(), payload: fc.option(object) });
const payload = fc.oneof(
  fc.record({ binary: fc.constant(true), payload: fc.uint8Array({ maxLength: 500 }).map((data) => Buffer.from(data)) }),
  fc.record({
    binary: fc.constant(false),
    payload: fc.string({ unit: 'grapheme', maxLength: 200 }).map((text) => Buffer.from(`4${text}`)),
  }),
);
const kind = <T extends string>(value: T): fc.Arbitrary<T> => fc.constant(value);

const attach = {
  kind: kind('attach'),
  session: fc.uuid(),
  target: fc.webPath(),
  headers: fc.array(fc.tuple(fc.string(), fc.string()), { maxLength: 5 }),
  client: fc.ipV6(),
  protocol: fc.option(fc.string()),
  takeover: fc.boolean(),
  resume: fc.boolean(),
  force: fc.boolean(),
  seen: number,
};
const message: fc.Arbitrary<SessionMessage> = fc.oneof(
  fc.record({ ...attach, from: fc.string() }),
  fc.record(attach),
  fc.record({ kind: kind('attached'), received: number, sent: number }),
  fc.record({ kind: kind('attached'), received: number, sent: number, open: fc.array(number, { maxLength: 3 }) }),
  fc.record({
    kind: kind('refused'),
    error: fc.constantFrom(...ATTACH_ERRORS),
    message: fc.string(),
    instance: fc.string(),
  }),
  fc.tuple(payload, number, fc.boolean()).map(([data, n, done]) => ({ kind: 'client' as const, n, done, ...data })),
  payload.map((data) => ({ kind: 'server' as const, ...data })),
  fc.record({ kind: fc.constantFrom('received', 'resync'), n: number }),
  fc.record({ kind: kind('done'), n: number, outcome: fc.constantFrom(...OUTCOMES) }),
  fc.record({ kind: kind('credit'), bytes: number }),
  fc.record({ kind: kind('detach'), reason: fc.constantFrom(...DETACH_REASONS) }),
  fc.record({
    kind: kind('detached'),
    reason: fc.constantFrom(...DETACH_REASONS, 'slow', 'failed'),
    background: fc.array(handler, { maxLength: 3 }),
    unrun: fc.array(number, { maxLength: 3 }),
  }),
  fc.record({ kind: kind('background'), id: fc.string(), state: kind('started'), handler }),
  fc.record({ kind: kind('background'), id: fc.string(), state: kind('ended') }),
  fc.record({ kind: kind('inject'), n: number, name: fc.string(), payload: object, background: fc.boolean() }),
  fc.record({
    kind: kind('subscribe'),
    subscription: fc.record({
      id: fc.string({ minLength: 1, maxLength: 200 }),
      model: fc.constantFrom('shop.product', 'läden.ware'),
      pks: fc.option(fc.array(fc.oneof(fc.maxSafeInteger(), fc.constantFrom('a', 'größe')), { maxLength: 5 })),
      tags: fc.option(fc.array(fc.constantFrom('tenant:acme', 'user:42'), { maxLength: 3 })),
      handler: fc.string({ minLength: 1 }),
    }),
  }),
  fc.record({ kind: kind('unsubscribe'), id: fc.string({ minLength: 1, maxLength: 200 }) }),
  fc.record({ kind: kind('probe') }),
  fc.record(
    {
      kind: kind('probed'),
      alive: fc.boolean(),
      kept: fc.array(fc.string(), { maxLength: 3 }),
      seen: fc.nat({ max: 0xffffffff }),
    },
    { requiredKeys: ['kind', 'alive', 'kept'] },
  ),
);
const channel = fc.integer({ min: 1, max: 0xffff_ffff });

describe('a codec of session frames', () => {
  it('reads what it writes, however the bytes are cut', () => {
    const sent = fc.array(fc.record({ channel, message }), { maxLength: 8 });
    fc.assert(
      fc.property(sent, fc.array(fc.nat(), { maxLength: 20 }), (entries, cuts) => {
        const bytes = Buffer.concat(entries.map((entry) => encodeSession(entry.channel, entry.message)));
        const edges = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
        const reader = new FrameReader();
        reader.limit = MAX_FRAME;
        const read = edges.slice(1).flatMap((end, index) =>
          readFrames(bytes.subarray(edges[index], end), reader).map((frame) => ({
            channel: frame.channel,
            message: decodeSession(frame),
          })),
        );
        expect(read).toEqual(entries);
      }),
    );
  });

  it('gives a message, nothing or a FrameError for any bytes at all', () => {
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 40 }).map((data) => Buffer.from(data)),
      fc.json().map((text) => Buffer.from(text)),
      object.map((value) => Buffer.from(JSON.stringify(value))),
      fc.tuple(message, fc.nat(), fc.nat(255)).map(([value, at, byte]) => {
        const [{ body: whole }] = framesOf(encodeSession(1, value)) as [Frame];
        if (whole.length > 0) whole[at % whole.length] = byte;
        return whole;
      }),
    );
    fc.assert(
      fc.property(fc.nat(255), fc.nat(2), body, (type, on, data) => {
        try {
          decodeSession(new Frame(type, on, data, 0, data.length));
        } catch (error) {
          expect(error).toBeInstanceOf(FrameError);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('writes a text as UTF-8, the same as its bytes', () => {
    const text = '42/_event,["größer 🌷"]';
    expect(encodeClient(7, 1, text, false, true)).toEqual(encodeClient(7, 1, Buffer.from(text), false, true));
  });

  it('writes no number that 32 bits cannot hold', () => {
    expect(() => encodeSession(1, { kind: 'received', n: 2 ** 32 })).toThrow(RangeError);
    expect(() => encodeClient(1, -1, '4', false, false)).toThrow(RangeError);
  });
});
