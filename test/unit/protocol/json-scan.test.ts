import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  closingBrace,
  findMembers,
  hasEscapedKey,
  isEmptyObject,
  nestingDepth,
  readValue,
  removeMembers,
  secondElement,
} from '../../../src/protocol/json-scan.ts';
import { processorTime } from '../../support/processor-time.ts';

/** JSON text and what it means. Made together: JSON.parse itself misreads some escaped keys (below). */
interface Written {
  readonly text: string;
  readonly value: unknown;
  /** How deep it nests, with the members that a later one of the same key hides. */
  readonly depth: number;
  /** Of an object: every member in order. */
  readonly members?: readonly { readonly key: string; readonly text: string }[];
}

const space = fc.constantFrom('', '', '', ' ', '\n', '\t\r\n ');
const escaped = (unit: number): string => `\\u${unit.toString(16).padStart(4, '0')}`;

/** Each character as it is, or as the escape that JSON has for it. */
const spelled = fc
  .tuple(
    fc.oneof(
      fc.constantFrom('_bridgehead', 'router_data', 'a', '', '\\', '"', '{', '__proto__', '\\\\"', '}{][', '\\u005f'),
      fc.string({ maxLength: 6 }),
      fc.string({ unit: 'binary', maxLength: 6 }),
    ),
    fc.array(fc.boolean()),
  )
  .map(([value, choices]) => {
    const units = Array.from({ length: value.length }, (_, index) => {
      const isEscaped = choices[index % choices.length] ?? false;
      return isEscaped ? escaped(value.charCodeAt(index)) : JSON.stringify(value[index]).slice(1, -1);
    });
    return { value, text: `"${units.join('')}"` };
  });
const scalar: fc.Arbitrary<Written> = fc.oneof(
  spelled.map((item) => ({ ...item, depth: 0 })),
  fc
    .constantFrom('true', 'false', 'null', '0', '-1.0', '1e5', '1E+2', '12345678901234567890123', '1.0')
    .map((text) => ({ text, value: JSON.parse(text) as unknown, depth: 0 })),
);

const { json, object } = fc.letrec<{ json: Written; object: Written; array: Written }>((tie) => ({
  json: fc.oneof({ depthSize: 'small' }, scalar, tie('object'), tie('array')),
  object: fc
    .tuple(space, fc.array(fc.tuple(spelled, tie('json'), space, space, space), { maxLength: 5 }))
    .map(([pad, items]) => ({
      text: `{${pad}${items.map(([key, item, a, b, c]) => `${pad}${key.text}${a}:${b}${item.text}${c}`).join(',')}}`,
      value: Object.fromEntries(items.map(([key, item]) => [key.value, item.value])),
      depth: 1 + Math.max(0, ...items.map(([, { depth }]) => depth)),
      members: items.map(([key, item]) => ({ key: key.value, text: item.text })),
    })),
  array: fc.tuple(space, fc.array(fc.tuple(tie('json'), space), { maxLength: 5 })).map(([pad, items]) => ({
    text: `[${pad}${items.map(([item, after]) => `${pad}${item.text}${after}`).join(',')}]`,
    value: items.map(([item]) => item.value),
    depth: 1 + Math.max(0, ...items.map(([{ depth }]) => depth)),
  })),
}));

const many = { numRuns: 500 };

describe('members of an object', () => {
  it('are found in order, however their keys are spelt and how often they come', () => {
    fc.assert(
      fc.property(object, spelled, ({ text, members = [] }, { value: other }) => {
        for (const key of [...members.map((member) => member.key), other]) {
          const found = findMembers(text, 0, key).map(({ valueStart, valueEnd }) => text.slice(valueStart, valueEnd));
          expect(found).toEqual(members.filter((member) => member.key === key).map((member) => member.text));
        }
      }),
      many,
    );
  });

  it('are found where text stands before and behind the object', () => {
    fc.assert(
      fc.property(object, json, ({ text, members = [] }, before) => {
        const whole = `[${before.text},${text}]`;
        const start = secondElement(whole, 0);
        expect(whole.slice(start)).toBe(`${text}]`);
        expect(closingBrace(whole, start)).toBe(start + text.length - 1);
        expect(isEmptyObject(whole, start)).toBe(members.length === 0);
      }),
      many,
    );
  });

  it('are removed in every spelling, and the rest stays as it is', () => {
    fc.assert(
      fc.property(object, spelled, ({ text, members = [] }, { value: other }) => {
        const key = members[0]?.key ?? other;
        const result = removeMembers(text, 0, key);
        JSON.parse(result);
        expect(findMembers(result, 0, key)).toEqual([]);
        const rest = new Set(members.map((member) => member.key).filter((name) => name !== key));
        for (const name of rest) {
          const found = findMembers(result, 0, name).map(({ valueStart, valueEnd }) =>
            result.slice(valueStart, valueEnd),
          );
          expect(found).toEqual(members.filter((member) => member.key === name).map((member) => member.text));
        }
        if (!members.some((member) => member.key === key)) expect(result).toBe(text);
      }),
      many,
    );
  });

  it('are removed in linear time, however many there are', () => {
    const text = `{${'"_bridgehead":1,'.repeat(60_000)}"b":1.0}`;
    const spent = processorTime(() => expect(removeMembers(text, 0, '_bridgehead')).toBe('{"b":1.0}'));
    expect(spent).toBeLessThan(500);
  });

  it.each([
    ['{"_b":1}', '{}'],
    ['{ "_b" : 1 }', '{  }'],
    ['{"a":1,"_b":2}', '{"a":1}'],
    ['{"a":1 , "_b":2}', '{"a":1 }'],
    ['{"_b":2,"a":1}', '{"a":1}'],
    ['{"a":1,"_b":2,"c":3}', '{"a":1,"c":3}'],
    ['{"_b":1,"_b":2}', '{}'],
    ['{"_b":1,"a":1,"_b":2,"_\\u0062":{"x":[1]}}', '{"a":1}'],
    ['{"a":12345678901234567890,"_b":"\\"}","c":1.0}', '{"a":12345678901234567890,"c":1.0}'],
  ])('of %s: %s stays', (text, expected) => {
    expect(removeMembers(text, 0, '_b')).toBe(expected);
  });
});

describe('a value', () => {
  it('is read as it was written, at any place of a text', () => {
    fc.assert(
      fc.property(json, json, (before, item) => {
        const whole = `[${before.text}, ${item.text} ]`;
        expect(readValue(whole, secondElement(whole, 0))).toEqual(item.value);
        expect(readValue(whole, 0)).toEqual([before.value, item.value]);
      }),
      many,
    );
  });

  it('has __proto__ as a key like any other', () => {
    const value = readValue('{"__proto__":{"admin":true}}', 0) as object;
    expect(Object.keys(value)).toEqual(['__proto__']);
    expect('admin' in value).toBe(false);
  });

  it('has an escaped key or none', () => {
    fc.assert(
      fc.property(json, (item) => {
        expect(hasEscapedKey(item.text, 0)).toBe(showsEscapedKey(item.text));
      }),
      many,
    );
  });

  it('with one escape and 200,000 strings is looked through in linear time', () => {
    const text = `[${'"a",'.repeat(200_000)}"\\n"]`;
    const spent = processorTime(() => expect(hasEscapedKey(text, 0)).toBe(false));
    expect(spent).toBeLessThan(500);
  });
});

describe('nesting', () => {
  it('is counted as deep as it is', () => {
    fc.assert(
      fc.property(json, ({ text, depth }) => {
        expect(nestingDepth(text, 0, 1_000)).toBe(depth);
      }),
      many,
    );
    expect(nestingDepth('{"a":[[1],"]["]}', 0, 100)).toBe(3);
  });

  it('stops counting beyond the limit', () => {
    expect(nestingDepth('['.repeat(1_000_000), 0, 100)).toBe(101);
  });

  it('survives text that is not JSON', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(nestingDepth(text, 0, 10)).toBeLessThanOrEqual(11);
      }),
    );
  });
});

/** A string is followed by a colon only as a key. */
function showsEscapedKey(text: string): boolean {
  const strings = [...text.matchAll(/"((?:[^"\\]|\\.)*)"\s*(:?)/g)];
  return strings.some(([, inside = '', colon]) => colon === ':' && inside.includes('\\'));
}
