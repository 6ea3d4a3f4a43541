/** `v1.<kid>.<payload>.<mac>`: how annotations and what sidecars tell each other are signed (docs/PROTOCOL.md, "Annotation"). */
import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Key, Keyring } from './keys.ts';

const VERSION = 'v1';
/** Longer payloads are refused unread. Characters. */
const MAX_PAYLOAD = 8_192;

export type NoteFault = 'malformed' | 'version' | 'kid' | 'mac' | 'claims';

export type OpenedNote =
  | { readonly valid: true; readonly claims: Readonly<Record<string, unknown>> }
  | { readonly valid: false; readonly reason: NoteFault };

const invalid = (reason: NoteFault): OpenedNote => ({ valid: false, reason });

export function signNote(claims: object, key: Key): string {
  const payload = Buffer.from(JSON.stringify(claims)).toString('base64url');
  const signed = `${VERSION}.${key.id}.${payload}`;
  return `${signed}.${mac(key, signed).toString('base64url')}`;
}

/** The claims of a note that was signed with a known secret; what they say is the caller's to check. Never throws. */
export function openNote(value: unknown, keys: Keyring): OpenedNote {
  if (typeof value !== 'string') return invalid('malformed');
  const parts = value.split('.');
  const [version, kid, payload, signature] = parts;
  if (parts.length !== 4 || !kid || !payload || !signature) return invalid('malformed');
  if (payload.length > MAX_PAYLOAD || !isBase64url(payload) || !isBase64url(signature)) return invalid('malformed');
  if (version !== VERSION) return invalid('version');
  const key = keys.find(kid);
  if (key === undefined) return invalid('kid');
  // As text: another base64 spelling of the same bytes is not what was signed.
  const expected = Buffer.from(mac(key, `${version}.${kid}.${payload}`).toString('base64url'));
  const actual = Buffer.from(signature);
  if (actual.length !== expected.length || !timingSafeEqual(actual, expected)) return invalid('mac');
  return readObject(payload);
}

function mac(key: Key, signed: string): Buffer {
  return createHmac('sha256', key.secret).update(signed).digest();
}

function isBase64url(text: string): boolean {
  return /^[A-Za-z0-9_-]+$/.test(text);
}

function readObject(payload: string): OpenedNote {
  try {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    const value: unknown = JSON.parse(decoder.decode(Buffer.from(payload, 'base64url')));
    if (typeof value !== 'object' || value === null) return invalid('claims');
    return { valid: true, claims: value as Record<string, unknown> };
  } catch {
    return invalid('claims');
  }
}
