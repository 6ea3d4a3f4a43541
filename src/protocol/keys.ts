/** Keys made from the deployment's secret (docs/PROTOCOL.md, "Keys"; HKDF is RFC 5869). */
import { createHash, createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';

export type KeyPurpose = 'annotation' | 'link' | 'cache' | 'dashboard' | 'peer';

/** A secret shorter than this many bytes is refused. */
export const MIN_SECRET_BYTES = 32;

function derive(secret: string, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `bridgehead/${purpose}/v1`, 32));
}

/** Names a secret without telling it: 8 characters. */
export function keyId(secret: string): string {
  return derive(secret, 'kid').subarray(0, 6).toString('base64url');
}

export interface Key {
  readonly id: string;
  /** Made once: an HMAC whose key comes as bytes makes one of its own each time, at four times the cost. */
  readonly secret: KeyObject;
}

/** The keys of one purpose: the current one makes new values, all of them are accepted. */
export interface Keyring {
  readonly current: Key;
  find(id: string): Key | undefined;
}

/** Throws RangeError for a secret that is too short. */
export function keyring(secret: string, previous: readonly string[], purpose: KeyPurpose): Keyring {
  const keys = [secret, ...previous].map((value): Key => {
    if (Buffer.byteLength(value) < MIN_SECRET_BYTES) throw new RangeError(`a secret needs ${MIN_SECRET_BYTES} bytes`);
    return { id: keyId(value), secret: createSecretKey(derive(value, purpose)) };
  });
  const current = keys[0];
  if (current === undefined) throw new RangeError('no secret');
  return { current, find: (id) => keys.find((key) => key.id === id) };
}

function shortHash(label: string, value: string): string {
  return createHash('sha256').update(`bridgehead/${label}/v1\0${value}`).digest().subarray(0, 16).toString('base64url');
}

export function tokenHash(token: string): string {
  return shortHash('token', token);
}

/** Empty where the client sent no session cookie. */
export function sessionHash(cookie: string | undefined): string {
  return cookie === undefined || cookie === '' ? '' : shortHash('session', cookie);
}
