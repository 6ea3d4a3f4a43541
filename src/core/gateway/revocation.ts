import type { AuthResult, Invalidation } from '../../ports/auth.ts';
import type { Clock } from '../../ports/clock.ts';
import type { SessionCloseReason } from '../../ports/metrics.ts';
import { CloseCode } from '../../protocol/close-code.ts';
import { hasLost, type Rights } from '../auth/rights.ts';
import type { UserSource } from '../relay/relay-context.ts';

/** A session, as far as it can lose its user's rights. */
export interface Revocable {
  /** Whether an invalidation is about its session or user. */
  concerns(what: Invalidation, cookieName: string): boolean;
  /** What its user was last known to have; undefined where it was never known. */
  readonly rights: Rights | undefined;
  /** Asks who it is now. Never rejects. */
  find(): Promise<AuthResult>;
  close(reason: SessionCloseReason, code: number): void;
}

export interface RevocationParts {
  readonly sessions: () => Iterable<Revocable>;
  readonly users: () => UserSource | undefined;
  readonly clock: Clock;
}

/** Sessions that are asked about at a time: users of events come first at whoever answers. */
const LANES = 16;
/** A lane closes so many milliseconds after its last: 500 a second, since clients come back at once and each costs a hydrate. */
const PAUSE = 32;
/** Where nobody can say who it is, it is asked again after so long, so often. Milliseconds. */
const RETRY_DELAY = 5_000;
const MAX_RETRIES = 6;

interface Case {
  /** What it had when the first invalidation came. */
  readonly before: Rights;
  /** Counts the invalidations: an answer from before the last says nothing. */
  turn: number;
  retries: number;
}

/**
 * Closes the transports of those who lost access: they come back at once and hydrate as who they are now. An invalidation alone says
 * nothing of that (a profile was saved, a worker could not be heard), so each session that it concerns is asked about, a few at a
 * time, and compared with what it was.
 */
export class Revocation {
  readonly #parts: RevocationParts;
  /** Every session that is being looked into. */
  readonly #cases = new Map<Revocable, Case>();
  readonly #waiting = new Set<Revocable>();
  #lanes = 0;

  constructor(parts: RevocationParts) {
    this.#parts = parts;
  }

  invalidated(what: Invalidation): void {
    const cookie = this.#parts.users()?.cookie;
    if (cookie === undefined) return;
    for (const session of this.#parts.sessions()) {
      const { rights: before } = session;
      if (before === undefined || !session.concerns(what, cookie)) continue;
      const about = this.#cases.get(session);
      if (about === undefined) this.#cases.set(session, { before, turn: 0, retries: 0 });
      else about.turn++;
      this.#ask(session);
    }
  }

  #ask(session: Revocable): void {
    this.#waiting.add(session);
    if (this.#lanes < LANES) void this.#lane();
  }

  async #lane(): Promise<void> {
    this.#lanes++;
    for (const session of this.#waiting) {
      this.#waiting.delete(session);
      if (await this.#isRevoked(session)) {
        session.close('revoked', CloseCode.serviceRestart);
        await new Promise<void>((resolve) => void this.#parts.clock.setTimeout(resolve, PAUSE));
      }
    }
    this.#lanes--;
  }

  async #isRevoked(session: Revocable): Promise<boolean> {
    const about = this.#cases.get(session);
    if (about === undefined) return false;
    const { turn } = about;
    const result = await session.find();
    if (about.turn !== turn) return false;
    if (result.kind === 'unavailable' && about.retries++ < MAX_RETRIES) {
      this.#parts.clock.setTimeout(() => this.#ask(session), RETRY_DELAY);
      return false;
    }
    this.#cases.delete(session);
    // A handler of its own has logged the tab in or out. Of whom nobody can tell, events are held to the rules one by one.
    if (session.rights === undefined || result.kind === 'unavailable') return false;
    return hasLost(about.before, result, this.#asked(result));
  }

  #asked(result: AuthResult): readonly string[] {
    const asked = result.kind === 'user' ? result.asked : undefined;
    return asked ?? this.#parts.users()?.resolver.permissions ?? [];
  }
}
