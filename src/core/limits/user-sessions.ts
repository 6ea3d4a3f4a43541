import type { ClientToken } from '../../protocol/brand.ts';
import { toastUpdate } from '../../protocol/reflex-update.ts';
import { encodeDisconnect } from '../../protocol/socket-io.ts';

/** A session as it is counted for its user. */
export interface CountedSession {
  readonly token: ClientToken;
  /** Ends it for good, and tells the client why. */
  dismiss(): void;
}

/**
 * The sessions of each user in this sidecar, oldest first. The newest always stays: who opens a page is at it, and a session
 * whose client is gone unnoticed keeps nobody out.
 */
export class UserSessions {
  readonly #sessions = new Map<string, Set<CountedSession>>();
  readonly #limit: () => number;

  /** `limit`: sessions of one user, 0 for no limit; what is over it after a change goes when the user opens another. */
  constructor(limit: () => number) {
    this.#limit = limit;
  }

  /** The session's user is another than before, or is known now. False while there is no limit: then nothing is counted. */
  count(session: CountedSession, before: string | undefined, user: string | undefined): boolean {
    const limit = this.#limit();
    if (limit === 0) return false;
    if (before !== undefined) this.leave(session, before);
    if (user === undefined) return true;
    const sessions = this.#sessions.get(user) ?? new Set();
    this.#sessions.set(user, sessions);
    while (sessions.size >= limit) dismissOne(sessions, session.token);
    sessions.add(session);
    return true;
  }

  leave(session: CountedSession, user: string): void {
    const sessions = this.#sessions.get(user);
    if (sessions?.delete(session) === true && sessions.size === 0) this.#sessions.delete(user);
  }
}

/** A tab that comes back has lost the session it had before; otherwise the oldest goes. */
function dismissOne(sessions: Set<CountedSession>, token: ClientToken): void {
  const all = [...sessions];
  const gone = all.find((session) => token !== '' && session.token === token) ?? all[0];
  if (gone === undefined) return;
  sessions.delete(gone);
  gone.dismiss();
}

/** What a dismissed client gets. After a DISCONNECT Reflex's client stays away until its page is looked at again. */
export function farewell(namespace: string): string[] {
  const text =
    'This page is open in too many places, so it was disconnected here. It connects again when you come back to it.';
  return [toastUpdate(namespace, { id: 'bridgehead-sessions', level: 'warning', text }), encodeDisconnect(namespace)];
}
