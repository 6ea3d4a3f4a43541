import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ChangeError,
  encodeChanges,
  encodeGap,
  pkOf,
  readBusMessage,
  readPublished,
  type Change,
} from '../../../src/protocol/change.ts';

const defaults = { id: (index: number) => `made-${index}`, now: 1_000 };
const good = { model: 'shop.product', action: 'updated', pk: 42 };

function refusal(value: unknown): ChangeError {
  try {
    readPublished(value, defaults);
  } catch (error) {
    if (error instanceof ChangeError) return error;
    throw error;
  }
  throw new Error('it was taken');
}

describe('reading what is published', () => {
  it('takes one change, gives it an id and its time, and writes the label in lower case', () => {
    expect(readPublished({ ...good, model: 'shop.Product' }, defaults)).toEqual([
      { id: 'made-0', model: 'shop.product', action: 'updated', pk: 42, at: 1_000 },
    ]);
    expect(readPublished({ ...good, id: 'mine', pk: '9007199254740993' }, defaults)).toMatchObject([
      { id: 'mine', pk: '9007199254740993' },
    ]);
  });

  it('takes tags, and none for an empty list', () => {
    expect(readPublished({ ...good, tags: ['tenant:acme', 'größe'] }, defaults)).toMatchObject([
      { tags: ['tenant:acme', 'größe'] },
    ]);
    for (const tags of [[], null]) expect(readPublished({ ...good, tags }, defaults)[0]).not.toHaveProperty('tags');
  });

  it('takes a batch in its order', () => {
    const read = readPublished({ changes: [good, { ...good, pk: 'a', id: 'x' }] }, defaults);
    expect(read.map(({ id, pk }) => [id, pk])).toEqual([
      ['made-0', 42],
      ['x', 'a'],
    ]);
  });

  it.each([
    [null, 'The body'],
    [[good], 'The body'],
    ['text', 'The body'],
    [{}, 'model'],
    [{ ...good, model: 'product' }, 'model'],
    [{ ...good, model: 'shop.pro duct' }, 'model'],
    [{ ...good, model: `shop.${'x'.repeat(200)}` }, 'model'],
    [{ ...good, action: 'saved' }, 'action'],
    [{ ...good, action: 'constructor' }, 'action'],
    [{ ...good, pk: undefined }, 'pk'],
    [{ ...good, pk: null }, 'pk'],
    [{ ...good, pk: true }, 'pk'],
    [{ ...good, pk: '' }, 'pk'],
    [{ ...good, pk: 'x'.repeat(256) }, 'pk'],
    [{ ...good, pk: 'a\0b' }, 'pk'],
    [{ ...good, pk: '\uD800' }, 'pk'],
    [{ ...good, pk: 1.5 }, 'pk'],
    [{ ...good, pk: 2 ** 53 }, 'pk'],
    [{ ...good, pk: [1, 2] }, 'pk'],
    [{ ...good, pk: { a: 1 } }, 'pk'],
    [{ ...good, id: '' }, 'id'],
    [{ ...good, id: 'with space' }, 'id'],
    [{ ...good, id: 7 }, 'id'],
    [{ ...good, id: 'x'.repeat(65) }, 'id'],
    [{ ...good, tags: 'tenant:acme' }, 'tags'],
    [{ ...good, tags: Array.from({ length: 9 }, (_, n) => `group:${n}`) }, 'tags'],
    [{ ...good, tags: ['a', ''] }, 'tags[1]'],
    [{ ...good, tags: ['x'.repeat(101)] }, 'tags[0]'],
    [{ ...good, tags: [5] }, 'tags[0]'],
    [{ ...good, at: 5 }, 'at'],
    [{ ...good, '<script>': 5 }, '"<script>"'],
    [{ changes: {} }, 'changes'],
    [{ changes: [] }, 'changes'],
    [{ changes: Array.from({ length: 1_001 }, () => good) }, 'changes'],
    [{ changes: [good], model: 'x.y' }, 'model'],
    [{ changes: [good, { ...good, pk: [] }] }, 'changes[1].pk'],
    [{ changes: [good, 5] }, 'changes[1]'],
  ])('refuses %j and names %s', (value, field) => {
    const { field: named, message } = refusal(value);
    expect(named).toBe(field);
    expect(message.startsWith(`${field} `)).toBe(true);
    expect(message).toMatch(/\. [A-Z].*\.$/);
  });

  it('says what to do about composite keys and large integers', () => {
    expect(refusal({ ...good, pk: [1, 2] }).message).toContain('composite key');
    expect(refusal({ ...good, pk: 2 ** 60 }).message).toContain('as a text');
  });
});

const changes = fc.array(
  fc.record(
    {
      id: fc.stringMatching(/^[!-~]{1,64}$/),
      model: fc.stringMatching(/^[a-z_]\w{0,20}\.[a-z_]\w{0,20}$/).map((text) => text.toLowerCase()),
      action: fc.constantFrom('created', 'updated', 'deleted'),
      pk: fc.oneof(
        fc.maxSafeInteger(),
        fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).filter((text) => !text.includes('\0')),
      ),
      at: fc.maxSafeInteger(),
      tags: fc.array(fc.constantFrom('tenant:acme', 'user:42', 'größe "x"'), { minLength: 1, maxLength: 8 }),
    },
    { requiredKeys: ['id', 'model', 'action', 'pk', 'at'] },
  ),
  { maxLength: 300 },
);

describe('messages on a bus', () => {
  it('carry every change there and back, in order and in bounded pieces', () => {
    fc.assert(
      fc.property(changes, (all: Change[]) => {
        const messages = encodeChanges(all);
        const back = messages.flatMap((text) => {
          const read = readBusMessage(text, defaults);
          expect(read.kind === 'changes' && read.changes.length <= 100 && read.skipped === 0).toBe(true);
          return read.kind === 'changes' ? read.changes : [];
        });
        expect(back).toEqual(all);
        expect(Math.max(0, ...messages.map(({ length }) => length))).toBeLessThan(20_000);
      }),
      { numRuns: 100 },
    );
  });

  it('may hold one change that stands alone, without an id, and what other versions add', () => {
    const read = readBusMessage(JSON.stringify({ ...good, tenant: 5 }), defaults);
    expect(read).toEqual({ kind: 'changes', changes: [{ id: 'made-0', ...good, at: 1_000 }], skipped: 0 });
  });

  it('concern everybody where their tags cannot be read', () => {
    for (const tags of ['a', [5], Array.from({ length: 9 }, () => 'a')]) {
      const read = readBusMessage(JSON.stringify({ ...good, tags }), defaults);
      expect(read).toEqual({ kind: 'changes', changes: [{ id: 'made-0', ...good, at: 1_000 }], skipped: 0 });
    }
  });

  it('lose only what cannot be read', () => {
    const text = JSON.stringify({ changes: [good, { ...good, pk: [] }, null, { ...good, id: 'b' }] });
    expect(readBusMessage(text, defaults)).toMatchObject({ changes: [{ id: 'made-0' }, { id: 'b' }], skipped: 2 });
  });

  it.each([
    '',
    'x',
    '[]',
    '5',
    'null',
    '{}',
    '{"changes":5}',
    '{"changes":[]}',
    '{"gap":null}',
    `"${'x'.repeat(2 ** 20)}"`,
  ])('that are none are unreadable: %.20s', (text) => {
    expect(readBusMessage(text, defaults)).toEqual({ kind: 'unreadable' });
  });

  it('tell gaps, of one model or of all', () => {
    const back = (text: string) => readBusMessage(text, defaults);
    expect(back(encodeGap({ reason: 'trimmed' }))).toEqual({ kind: 'gap', gap: { reason: 'trimmed' } });
    expect(back('{"gap":{}}')).toEqual({ kind: 'gap', gap: { reason: 'reported' } });
    expect(back('{"gap":{"reason":"made up"}}')).toEqual({ kind: 'gap', gap: { reason: 'reported' } });
    expect(back(encodeGap({ reason: 'reported', model: 'a.b' }))).toEqual({
      kind: 'gap',
      gap: { reason: 'reported', model: 'a.b' },
    });
  });
});

describe('a primary key from a text', () => {
  it.each([
    ['0', 0],
    ['42', 42],
    ['-7', -7],
    ['9007199254740991', 9007199254740991],
    ['9007199254740992', '9007199254740992'],
    ['-0', '-0'],
    ['007', '007'],
    ['1e3', '1e3'],
    ['', ''],
    ['٤٢', '٤٢'],
  ])('%s is %s', (text, pk) => {
    expect(pkOf(text)).toBe(pk);
  });
});
