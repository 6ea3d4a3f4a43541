/** How Django signs sessions and ties them to a password (django.core.signing and django.utils.crypto, as of Django 6). */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { inflateSync } from 'node:zlib';

const SESSION_SALT = 'django.contrib.sessions.SessionStore';
const AUTH_HASH_SALT = 'django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash';
/** Sessions are small; what unpacks to more is left to Django. Bytes. */
const MAX_UNPACKED = 1_000_000;

export type SessionData =
  | { readonly kind: 'session'; readonly values: Readonly<Record<string, unknown>> }
  /** Not signed with any of the keys: to Django an empty session. */
  | { readonly kind: 'unsigned' }
  /** Signed, but not by the JSON serializer. */
  | { readonly kind: 'unreadable' };

/** Reads `session_data`. `keys`: SECRET_KEY, then its fallbacks. */
export function readSessionData(text: string, keys: readonly string[]): SessionData {
  const end = text.lastIndexOf(':');
  if (end < 0) return { kind: 'unsigned' };
  const signed = text.slice(0, end);
  const signature = text.slice(end + 1);
  const fits = keys.some((key) => {
    return isEqual(signature, saltedHmac(`${SESSION_SALT}signer`, signed, key).toString('base64url'));
  });
  const stamp = signed.lastIndexOf(':');
  if (!fits || stamp < 0) return { kind: 'unsigned' };
  const values = unpack(signed.slice(0, stamp));
  return values === undefined ? { kind: 'unreadable' } : { kind: 'session', values };
}

/** Whether a session's auth hash was made from this encoded password, with one of the keys. */
export function fitsPassword(authHash: unknown, password: string, keys: readonly string[]): boolean {
  if (typeof authHash !== 'string' || authHash === '') return false;
  return keys.some((key) => isEqual(authHash, saltedHmac(AUTH_HASH_SALT, password, key).toString('hex')));
}

function saltedHmac(salt: string, value: string, secret: string): Buffer {
  const key = createHash('sha256').update(salt).update(secret).digest();
  return createHmac('sha256', key).update(value).digest();
}

function isEqual(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function unpack(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const isCompressed = text.startsWith('.');
    const bytes = Buffer.from(isCompressed ? text.slice(1) : text, 'base64url');
    const json = isCompressed ? inflateSync(bytes, { maxOutputLength: MAX_UNPACKED }) : bytes;
    const values: unknown = JSON.parse(json.toString('latin1'));
    if (typeof values !== 'object' || values === null || Array.isArray(values)) return undefined;
    return values as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
