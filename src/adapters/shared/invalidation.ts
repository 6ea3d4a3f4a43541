import type { Invalidation } from '../../ports/auth.ts';

const MAX_TEXT = 512;

/** Reads whom an INVALIDATE message concerns; undefined where it names nobody. */
export function readInvalidation(message: Readonly<Record<string, unknown>>): Invalidation | undefined {
  const { user, session, all } = message;
  if (all === true) return { all: true };
  if (typeof user === 'string' && user.length <= MAX_TEXT) return { user };
  return typeof session === 'string' && session.length <= MAX_TEXT ? { session } : undefined;
}
