import { describe, expect, it } from 'vitest';
import { MAX_FRAME } from '../../../src/protocol/link.ts';
import { encodeClient } from '../../../src/protocol/link-session.ts';
import { readManifest } from '../../../src/protocol/manifest.ts';
import { SESSIONS_MANIFEST } from '../../support/link-worker.ts';

describe('the port of a worker', () => {
  it('is a number, or not known', () => {
    const read = (port: unknown): unknown => readManifest({ ...SESSIONS_MANIFEST, port }).port;
    expect([read(8000), read(null), read(undefined)]).toEqual([8000, null, null]);
    expect(() => read('8000')).toThrow('port: expected a number');
  });
});

describe('what a manifest says of the user model', () => {
  it.each([undefined, null])('is nothing: %s', (user) => {
    expect(readManifest({ ...SESSIONS_MANIFEST, user }).user).toBeUndefined();
  });

  it('is its label and what it does of its own', () => {
    const user = { model: 'shop.person', own: ['is_active'] };
    expect(readManifest({ ...SESSIONS_MANIFEST, user }).user).toEqual(user);
  });

  it.each([
    ['user: expected an object', 'auth.user'],
    ['user.model: expected a string', { own: [] }],
    ['user.own: expected a list', { model: 'auth.user' }],
    ['user.own: expected a list', { model: 'auth.user', own: Array.from({ length: 101 }, () => 'x') }],
    ['user.own[0]: expected a string', { model: 'auth.user', own: [1] }],
  ])('is refused with %s', (message, user) => {
    expect(() => readManifest({ ...SESSIONS_MANIFEST, user })).toThrow(message);
  });
});

describe('the largest text of a worker', () => {
  it('is its own, and never longer than a link can carry', () => {
    expect(readManifest({ ...SESSIONS_MANIFEST, maxPayload: 2_000_000 }).maxPayload).toBe(2_000_000);
    const { maxPayload } = readManifest({ ...SESSIONS_MANIFEST, maxPayload: 100_000_000 });
    const frame = encodeClient(1, 1, '\u{1F600}'.repeat(maxPayload), false, true);
    // Its length does not count the four bytes that say it.
    expect(frame.length - 4).toBeLessThanOrEqual(MAX_FRAME);
    expect(frame.length).toBeGreaterThan(MAX_FRAME - 8);
  });
});
