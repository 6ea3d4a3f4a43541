import { randomBytes } from 'node:crypto';
import type { SessionId } from '../../protocol/brand.ts';
import type { RelaySession } from '../relay/relay-session.ts';

/** Every open session by its id. Ids begin with this process's own prefix, so that a neighbour knows whose they are. */
export class SessionRegistry {
  readonly #sessions = new Map<SessionId, RelaySession>();
  readonly #prefix = randomBytes(6).toString('base64url');

  get size(): number {
    return this.#sessions.size;
  }

  newId(): SessionId {
    return (this.#prefix + randomBytes(12).toString('base64url')) as SessionId;
  }

  add(session: RelaySession): void {
    this.#sessions.set(session.engine.id, session);
  }

  remove(session: RelaySession): void {
    this.#sessions.delete(session.engine.id);
  }

  find(id: string): RelaySession | undefined {
    return this.#sessions.get(id as SessionId);
  }

  values(): IterableIterator<RelaySession> {
    return this.#sessions.values();
  }
}
