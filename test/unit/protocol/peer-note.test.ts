import { describe, expect, it } from 'vitest';
import { signAnnotation } from '../../../src/protocol/annotation.ts';
import { keyring } from '../../../src/protocol/keys.ts';
import { readPeerNote, signPeerNote, type PeerRequest } from '../../../src/protocol/peer-note.ts';

const SECRET = 'a secret of two sidecars and of nobody else';
const OLD = 'the secret that they had before this one here';
const keys = keyring(SECRET, [OLD], 'peer');
const NOW = Date.UTC(2030, 0, 1);
const REQUEST: PeerRequest = { name: 'shop', sid: 'abcdefgh0123456789012345', method: 'GET' };
const note = signPeerNote(REQUEST, '203.0.113.9', NOW, keys.current);

describe('the note on a request that a sidecar passes on', () => {
  it('tells the client’s address to whoever has the secret', () => {
    expect(readPeerNote(note, REQUEST, NOW, keys)).toBe('203.0.113.9');
    const old = signPeerNote(REQUEST, '::1', NOW, keyring(OLD, [], 'peer').current);
    expect(readPeerNote(old, REQUEST, NOW, keys)).toBe('::1');
  });

  it.each([
    ['another deployment', { name: 'other' }],
    ['another session', { sid: 'abcdefgh0123456789012346' }],
    ['another method', { method: 'POST' }],
    ['an upgrade', { method: 'WEBSOCKET' }],
  ] as const)('says nothing of %s', (_what, changes) => {
    expect(readPeerNote(note, { ...REQUEST, ...changes }, NOW, keys)).toBeUndefined();
  });

  it('holds for seconds, whichever of two clocks is ahead', () => {
    const at = (offset: number): string | undefined => readPeerNote(note, REQUEST, NOW + offset, keys);
    expect([at(-5_000), at(15_000)]).toEqual(['203.0.113.9', '203.0.113.9']);
    expect([at(-5_001), at(15_001)]).toEqual([undefined, undefined]);
  });

  it('can be made with no other key, and changed by nobody', () => {
    const [version, kid, , mac] = note.split('.');
    const claims = { n: 'shop', s: REQUEST.sid, m: 'GET', a: '203.0.113.10', iat: NOW };
    const changed = Buffer.from(JSON.stringify(claims)).toString('base64url');
    const annotation = { ...claims, t: '', h: '', exp: NOW + 1_000 };
    const foreign = [
      signPeerNote(REQUEST, '203.0.113.9', NOW, keyring(SECRET, [], 'annotation').current),
      signAnnotation(annotation, keyring(SECRET, [], 'annotation').current),
      signPeerNote(REQUEST, '203.0.113.9', NOW, keyring(`${SECRET}!`, [], 'peer').current),
      [version, kid, changed, mac].join('.'),
      note.slice(0, -1),
      '',
      [note, note],
      undefined,
    ];
    for (const value of foreign) expect(readPeerNote(value, REQUEST, NOW, keys)).toBeUndefined();
  });
});
