import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Key, Keyring } from '../../protocol/keys.ts';

/**
 * `<kid>.<payload>.<mac>` (docs/PROTOCOL.md, "Invalidation"): what lies in Redis is believed only if it was made with the secret.
 * `context` is signed along but not written: a text that is moved elsewhere does not verify. Empty for messages of the bus.
 */
export function signText(body: object, keys: Keyring, context = ''): string {
  const message = `${keys.current.id}.${Buffer.from(JSON.stringify(body)).toString('base64url')}`;
  return `${message}.${mac(keys.current, context, message)}`;
}

/** The body of a text that was signed with a known secret for this context; undefined for everything else. */
export function readSigned(text: string, keys: Keyring, context = ''): Readonly<Record<string, unknown>> | undefined {
  const [kid, payload, signature, rest] = text.split('.', 4);
  if (kid === undefined || payload === undefined || signature === undefined || rest !== undefined) return undefined;
  const key = keys.find(kid);
  if (key === undefined) return undefined;
  const expected = Buffer.from(mac(key, context, `${kid}.${payload}`));
  const actual = Buffer.from(signature);
  if (actual.length !== expected.length || !timingSafeEqual(actual, expected)) return undefined;
  try {
    const body: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString());
    return typeof body === 'object' && body !== null && !Array.isArray(body)
      ? (body as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

function mac(key: Key, context: string, message: string): string {
  // No kid holds a line feed: a text with a context is never one without.
  const signed = context === '' ? message : `${context}\n${message}`;
  return createHmac('sha256', key.secret).update(signed).digest('base64url');
}
