import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_BATCH, type Change } from '../../../src/protocol/change.ts';
import {
  decodeObject,
  encodeControl,
  FrameError,
  FrameReader,
  LinkFrame,
  MAX_FRAME,
  type Frame,
} from '../../../src/protocol/link.ts';
import {
  changesMessage,
  readSubscription,
  readSubscriptionId,
  readWatch,
  readWorkerChanges,
  readWorkerGap,
} from '../../../src/protocol/link-live.ts';
import { encodeSession, SessionFrame } from '../../../src/protocol/link-session.ts';
import { decodeSession } from '../../../src/protocol/link-session-reader.ts';
import { readFrames } from '../../support/frames.ts';
import { loadVectors } from '../../support/vectors.ts';

interface Vector {
  readonly title?: string;
  readonly name: string;
  readonly type: number;
  readonly from: 'worker' | 'sidecar';
  readonly channel: number;
  readonly hex: string;
  readonly message: Readonly<Record<string, unknown>>;
}

const vectors = loadVectors('live-frames.json') as {
  readonly types: Readonly<Record<string, number>>;
  readonly frames: readonly Vector[];
  readonly lenient: readonly Vector[];
  readonly invalid: readonly Vector[];
};

const DEFAULTS = { id: () => 'made', now: 7 };

function frameOf(hex: string): Frame {
  const reader = new FrameReader();
  reader.limit = MAX_FRAME;
  const [frame] = readFrames(Buffer.from(hex, 'hex'), reader);
  return frame as Frame;
}

/** What a sidecar reads: it hears workers alone. */
function read(frame: Frame): object {
  if (frame.type >= SessionFrame.attach) {
    const message = decodeSession(frame);
    if (message?.kind === 'subscribe') return message.subscription;
    return { id: (message as { id: string }).id };
  }
  if (frame.channel !== 0) throw new FrameError('a control frame has no channel');
  const body = decodeObject(frame.body);
  if (frame.type === LinkFrame.changes) return readWorkerChanges(body, DEFAULTS);
  if (frame.type === LinkFrame.gap) {
    const { n, model } = readWorkerGap(body);
    return model === undefined ? { n } : { n, model };
  }
  const models = readWatch(body);
  return { models: models === null ? null : [...models] };
}

const ofWorker = ({ from }: Vector): boolean => from === 'worker';
const ofSidecar = ({ from }: Vector): boolean => from === 'sidecar';

describe('frames of live changes in the shared vectors', () => {
  it('have the types of the protocol', () => {
    const { changes, changed, gap, watch } = LinkFrame;
    const { subscribe, unsubscribe } = SessionFrame;
    expect(vectors.types).toEqual({
      CHANGES: changes,
      CHANGED: changed,
      GAP: gap,
      WATCH: watch,
      SUBSCRIBE: subscribe,
      UNSUBSCRIBE: unsubscribe,
    });
  });

  it.each([...vectors.frames, ...vectors.lenient].filter(ofWorker))('$name $title of a worker is read', (vector) => {
    const frame = frameOf(vector.hex);
    expect([frame.type, frame.channel]).toEqual([vector.type, vector.channel]);
    expect(read(frame)).toEqual(vector.message);
  });

  it.each(vectors.frames.filter(ofSidecar))('$name of a sidecar is written', ({ name, type, message, hex }) => {
    const body = name === 'CHANGES' ? changesMessage(message['changes'] as Change[]) : message;
    expect(encodeControl(type, body).toString('hex')).toBe(hex);
  });

  it.each(vectors.frames.filter(({ name }) => name.endsWith('SUBSCRIBE')))('$name is written alike', (vector) => {
    const { channel, hex } = vector;
    const message = decodeSession(frameOf(hex));
    expect(encodeSession(channel, message as NonNullable<typeof message>).toString('hex')).toBe(hex);
  });

  it.each(vectors.invalid.filter(ofWorker))('refuse $title', ({ hex }) => {
    const frame = frameOf(hex);
    expect(() => read(frame)).toThrow(FrameError);
  });
});

describe('readers of live frames', () => {
  it('give something or a FrameError for any object at all', () => {
    const field = fc.oneof(
      fc.jsonValue(),
      fc.array(fc.jsonValue(), { maxLength: 3 }),
      fc.constantFrom(null, 1, 'shop.product', ['shop.product'], []),
    );
    const keys = fc.constantFrom('n', 'changes', 'model', 'models', 'id', 'pks', 'tags', 'handler');
    const readers = [
      (body: Record<string, unknown>) => readWorkerChanges(body, DEFAULTS),
      readWorkerGap,
      readWatch,
      readSubscription,
      readSubscriptionId,
    ];
    fc.assert(
      fc.property(fc.dictionary(keys, field), fc.constantFrom(...readers), (body, reader) => {
        try {
          reader(body);
        } catch (error) {
          expect(error).toBeInstanceOf(FrameError);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it('take a thousand changes and no more', () => {
    const change = { id: 'a', model: 'shop.product', action: 'updated', pk: 1, at: 1 };
    const many = (count: number): unknown[] => Array.from({ length: count }, () => change);
    expect(readWorkerChanges({ n: 1, changes: many(MAX_BATCH) }, DEFAULTS).changes).toHaveLength(MAX_BATCH);
    expect(() => readWorkerChanges({ n: 1, changes: many(MAX_BATCH + 1) }, DEFAULTS)).toThrow(FrameError);
  });
});
