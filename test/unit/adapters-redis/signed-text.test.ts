import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readSigned, signText } from '../../../src/adapters/redis/signed-text.ts';
import { keyring } from '../../../src/protocol/keys.ts';
import { loadVectors } from '../../support/vectors.ts';

interface Vectors {
  readonly secrets: readonly string[];
  readonly valid: readonly { readonly text: string; readonly body: object }[];
  readonly invalid: readonly { readonly title: string; readonly text: string }[];
}

const { secrets, valid, invalid } = loadVectors('invalidation.json') as Vectors;
const [current = '', ...previous] = secrets;
const keys = keyring(current, previous, 'cache');

describe('a signed text', () => {
  it.each(valid)('is read as $body', ({ text, body }) => {
    expect(readSigned(text, keys)).toEqual(body);
  });

  it.each(valid.filter(({ text }) => text.startsWith(keys.current.id)))('is written as $text', ({ text, body }) => {
    expect(signText(body, keys)).toBe(text);
  });

  it.each(invalid)('is not believed: $title', ({ text }) => {
    expect(readSigned(text, keys)).toBeUndefined();
  });

  it('is not believed once a secret is no longer accepted', () => {
    const before = signText({ all: true }, keyring(previous[0] ?? '', [], 'cache'));
    expect(readSigned(before, keys)).toEqual({ all: true });
    expect(readSigned(before, keyring(current, [], 'cache'))).toBeUndefined();
  });

  it('is believed where it was written for, and nowhere else', () => {
    const contexts = fc.string({ minLength: 1 });
    // Without escapes: V8 13.6 may take a key with one for a key that it read before (protocol/json-scan.ts).
    const names = fc.string().filter((name) => !/["\\]/.test(name));
    fc.assert(
      fc.property(contexts, contexts, fc.dictionary(names, fc.string()), (context, other, body) => {
        const text = signText(body, keys, context);
        expect(readSigned(text, keys, context)).toEqual(body);
        expect(readSigned(text, keys)).toBeUndefined();
        if (other !== context) expect(readSigned(text, keys, other)).toBeUndefined();
      }),
    );
  });

  it('is not believed with any character changed, and nothing makes the reader throw', () => {
    const [one] = valid;
    const text = one?.text ?? '';
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.constantFrom('A', 'B', '.', '=', '\0', 'é'), (at, by) => {
        const changed = text.slice(0, at) + by + text.slice(at + 1);
        expect(readSigned(changed, keys)).toEqual(changed === text ? one?.body : undefined);
      }),
    );
    fc.assert(
      fc.property(fc.string(), (any) => {
        expect(readSigned(any, keys)).toBeUndefined();
      }),
    );
  });
});
