import { createHmac } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ANNOTATION_LIFETIME,
  CLOCK_SKEW,
  signAnnotation,
  verifyAnnotation,
  type AnnotationClaims,
  type AnnotationContext,
  type AnnotationFault,
} from '../../../src/protocol/annotation.ts';
import { keyId, keyring, sessionHash, tokenHash, type KeyPurpose } from '../../../src/protocol/keys.ts';
import { TIERS } from '../../../src/protocol/tier.ts';
import { loadVectors } from '../../support/vectors.ts';

interface Case {
  readonly title: string;
  readonly now: number;
  readonly event: { readonly name: string; readonly token: string; readonly session: string; readonly handler: string };
  readonly text: string;
}

interface Vectors {
  readonly secrets: readonly [string, ...string[]];
  readonly keys: readonly (Record<KeyPurpose, string> & { readonly secret: string; readonly kid: string })[];
  readonly hashes: readonly { readonly kind: 'token' | 'session'; readonly value: string; readonly hash: string }[];
  readonly valid: readonly (Case & { readonly claims: AnnotationClaims })[];
  readonly invalid: readonly (Case & { readonly reason: AnnotationFault })[];
}

const vectors = loadVectors('annotation.json') as Vectors;
const [current, ...previous] = vectors.secrets;
const keys = keyring(current, previous, 'annotation');

function contextOf({ event, now }: Case): AnnotationContext {
  return { ...event, token: tokenHash(event.token), session: sessionHash(event.session), now };
}

describe('keys', () => {
  it.each(vectors.keys)('derives every key of the secret $kid', ({ secret, kid, ...purposes }) => {
    expect(keyId(secret)).toBe(kid);
    for (const [purpose, hex] of Object.entries(purposes)) {
      expect(
        keyring(secret, [], purpose as KeyPurpose)
          .current.secret.export()
          .toString('hex'),
      ).toBe(hex);
    }
  });

  it.each(vectors.hashes)('hashes the $kind $value', ({ kind, value, hash }) => {
    expect(kind === 'token' ? tokenHash(value) : sessionHash(value)).toBe(hash);
  });

  it('finds previous secrets and makes new values with the current one', () => {
    expect(keys.current.id).toBe(keyId(current));
    expect(vectors.secrets.every((secret) => keys.find(keyId(secret)) !== undefined)).toBe(true);
    expect(keys.find('AAAAAAAA')).toBeUndefined();
  });

  it('refuses a secret of 31 bytes, and counts bytes, not characters', () => {
    expect(() => keyring('x'.repeat(31), [], 'link')).toThrow(RangeError);
    expect(() => keyring('x'.repeat(32), ['short'], 'link')).toThrow(RangeError);
    expect(keyring('ä'.repeat(16), [], 'link').current.secret.export()).toHaveLength(32);
  });
});

describe('the shared vectors', () => {
  it.each(vectors.valid)('takes $title', (vector) => {
    expect(verifyAnnotation(vector.text, keys, contextOf(vector))).toEqual({ valid: true, claims: vector.claims });
  });

  it.each(vectors.invalid)('refuses $title', (vector) => {
    expect(verifyAnnotation(vector.text, keys, contextOf(vector))).toEqual({ valid: false, reason: vector.reason });
  });

  it.each(vectors.valid.filter(({ text, claims }) => payloadOf(text) === JSON.stringify(claims)))(
    'signs $title as Python does, byte for byte',
    ({ text, claims }) => {
      const key = keys.find(text.split('.')[1] ?? '');
      expect(key && signAnnotation(claims, key)).toBe(text);
    },
  );
});

function payloadOf(text: string): string {
  return Buffer.from(text.split('.')[2] ?? '', 'base64url').toString();
}

const claimsOf = fc.record(
  {
    n: fc.string({ minLength: 1 }),
    t: fc.string({ unit: 'binary' }),
    s: fc.string({ unit: 'binary' }),
    h: fc.string({ unit: 'binary' }),
    tier: fc.constantFrom(...TIERS),
    iat: fc.integer({ min: 1_000_000, max: 2 ** 50 }),
    exp: fc.integer({ min: 0, max: ANNOTATION_LIFETIME }),
    u: fc.oneof(
      fc.constant(null),
      fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 }), { noNullPrototype: true }),
    ),
    r: fc.array(fc.oneof(fc.constantFrom('required', 'staff'), fc.record({ permission: fc.string() })), {
      minLength: 1,
      maxLength: 3,
    }),
  },
  { requiredKeys: ['n', 't', 's', 'h', 'iat', 'exp'] },
);

describe('any annotation', () => {
  const key = keys.current;

  it('is read as it was signed, within its life and skew', () => {
    fc.assert(
      fc.property(claimsOf, fc.double({ min: 0, max: 1, noNaN: true }), ({ exp: life, ...rest }, share) => {
        const claims: AnnotationClaims = { ...rest, exp: rest.iat + life };
        fc.pre(Buffer.byteLength(JSON.stringify(claims)) < 6_000);
        const now = claims.iat - CLOCK_SKEW + Math.floor(share * (life + 2 * CLOCK_SKEW));
        const context = { name: claims.n, token: claims.t, session: claims.s, handler: claims.h, now };
        const text = signAnnotation(claims, key);
        const result = verifyAnnotation(text, keys, context);
        expect(result).toEqual({ valid: true, claims: JSON.parse(JSON.stringify(claims)) as unknown });
        expect(verifyAnnotation(text, keys, { ...context, now: claims.exp + CLOCK_SKEW + 1 })).toMatchObject({
          reason: 'expired',
        });
        expect(verifyAnnotation(text, keys, { ...context, now: claims.iat - CLOCK_SKEW - 1 })).toMatchObject({
          reason: 'future',
        });
      }),
    );
  });

  it('is refused when any character is another', () => {
    const claims = { n: 'shop', t: 't', s: 's', h: 'h', iat: 1_000_000, exp: 1_000_000 };
    const context = { name: 'shop', token: 't', session: 's', handler: 'h', now: 1_000_000 };
    const text = signAnnotation(claims, key);
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.string({ minLength: 1, maxLength: 1 }), (index, character) => {
        fc.pre(text[index] !== character);
        const changed = text.slice(0, index) + character + text.slice(index + 1);
        expect(verifyAnnotation(changed, keys, context).valid).toBe(false);
      }),
    );
  });

  it('never makes the verifier throw', () => {
    const part = fc.oneof(fc.string(), fc.base64String(), fc.constantFrom('v1', key.id, ''));
    const value = fc.oneof(
      fc.anything(),
      fc.array(part, { maxLength: 5 }).map((parts) => parts.join('.')),
    );
    const context = { name: '', token: '', session: '', handler: '', now: 0 };
    fc.assert(
      fc.property(value, (anything) => {
        expect(verifyAnnotation(anything, keys, context).valid).toBe(false);
      }),
    );
  });

  it('with any JSON as payload is refused or complete', () => {
    const context = { name: 'n', token: 't', session: 's', handler: 'h', now: 0 };
    fc.assert(
      fc.property(fc.json(), (json) => {
        const signed = `v1.${key.id}.${Buffer.from(json).toString('base64url')}`;
        fc.pre(json.length < 6_000);
        const mac = createHmac('sha256', key.secret).update(signed).digest('base64url');
        expect(verifyAnnotation(`${signed}.${mac}`, keys, context)).toEqual({ valid: false, reason: 'claims' });
      }),
    );
  });
});
