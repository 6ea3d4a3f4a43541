import { randomBytes } from 'node:crypto';
import type { ClientToken, SessionId } from '../../protocol/brand.ts';
import { tokenHash } from '../../protocol/keys.ts';
import type { RelaySession } from '../relay/relay-session.ts';

const PREFIX_BYTES = 6;
const ID_BYTES = 12;
const SID = /^([\w-]{8})[\w-]{16}$/;

/** The prefix of the process that gave this sid out; undefined for one that none did. */
export function sidPrefix(sid: string): string | undefined {
  return SID.exec(sid)?.[1];
}

/** Every open session by its id. Ids begin with this process's own prefix, so that a neighbour knows whose they are. */
export class SessionRegistry {
  readonly #sessions = new Map<SessionId, RelaySession>();
  /**
   * Sessions of each tab by its token's hash, the youngest last: more than one where tabs share a token, or while one takes over from
   * another.
   */
  readonly #ofToken = new Map<string, RelaySession[]>();
  readonly prefix = randomBytes(PREFIX_BYTES).toString('base64url');

  get size(): number {
    return this.#sessions.size;
  }

  newId(): SessionId {
    return (this.prefix + randomBytes(ID_BYTES).toString('base64url')) as SessionId;
  }

  add(session: RelaySession): void {
    this.#sessions.set(session.engine.id, session);
    this.#addToken(session);
  }

  remove(session: RelaySession): void {
    this.#sessions.delete(session.engine.id);
    this.#removeToken(session);
  }

  /** Those that had its token before it, the youngest first. */
  predecessors(session: RelaySession): readonly RelaySession[] {
    const all = this.ofToken(tokenHash(session.token));
    return all.slice(0, Math.max(0, all.indexOf(session))).toReversed();
  }

  /** Whether the youngest session of this token waits for its client. */
  isExpected(token: ClientToken): boolean {
    return this.ofToken(tokenHash(token)).at(-1)?.isAway ?? false;
  }

  /** The worker gave the session's tab another token. */
  rename(session: RelaySession, token: ClientToken): void {
    this.#removeToken(session);
    session.rename(token);
    if (this.#sessions.has(session.engine.id)) this.#addToken(session);
  }

  #addToken(session: RelaySession): void {
    if (session.token === '') return;
    const hash = tokenHash(session.token);
    const others = this.#ofToken.get(hash);
    if (others === undefined) this.#ofToken.set(hash, [session]);
    else others.push(session);
  }

  #removeToken(session: RelaySession): void {
    const hash = tokenHash(session.token);
    const others = this.ofToken(hash).filter((other) => other !== session);
    if (others.length === 0) this.#ofToken.delete(hash);
    else this.#ofToken.set(hash, others);
  }

  find(id: string): RelaySession | undefined {
    return this.#sessions.get(id as SessionId);
  }

  /** Those of the token with this hash. */
  ofToken(hash: string): readonly RelaySession[] {
    return this.#ofToken.get(hash) ?? [];
  }

  /** By id, or by the token of its tab. */
  named(id: string): readonly RelaySession[] {
    const session = this.find(id);
    return session === undefined ? this.ofToken(tokenHash(id)) : [session];
  }

  values(): IterableIterator<RelaySession> {
    return this.#sessions.values();
  }
}
