import { LRUCache } from 'lru-cache';
import {
  userKey,
  type AuthAnswer,
  type AuthResult,
  type AuthSource,
  type Invalidation,
  type SharedUserCache,
} from '../../ports/auth.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Metrics } from '../../ports/metrics.ts';
import { Invalidations } from './invalidations.ts';
import { Turns } from './turns.ts';

export interface UserResolverOptions {
  /** How long an answer holds, from when it was made; 0 turns every cache off. Milliseconds. */
  readonly ttl: number;
  /** Entries in memory. */
  readonly max: number;
  /** The permissions that the access rules in force name. */
  readonly permissions: () => readonly string[];
}

/** An anonymous answer holds at most this long: a login elsewhere must show soon. Milliseconds. */
const NEGATIVE_TTL = 5_000;
/** A bus that was lost cannot tell of invalidations: answers hold this long until it is back. Milliseconds. */
const BLIND_TTL = 5_000;
/** A source answers within this or is unavailable. Milliseconds. */
const SOURCE_TIMEOUT = 2_500;
/** Answers that were overtaken by an invalidation are asked for again so many times. */
const MAX_TRIES = 3;
/** Questions to the source at a time, as many as a worker takes: after everybody was forgotten there are thousands. */
const MAX_QUESTIONS = 64;

/** What a flight found, and where invalidations stood then. */
export interface Found {
  readonly result: AuthResult;
  readonly mark: number;
}

interface Entry {
  readonly answer: AuthAnswer;
  readonly user: string | undefined;
}

/**
 * Who a session belongs to: memory, then Redis, then the source; one flight for each session. TTLs are absolute, counted
 * from when the source began to read, and never slide. What is in flight when an invalidation comes fills nothing.
 */
export class UserResolver {
  readonly #source: AuthSource;
  readonly #shared: SharedUserCache | undefined;
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #entries: LRUCache<string, Entry> | undefined;
  readonly #sessionsOf = new Map<string, Set<string>>();
  readonly #flights = new Map<string, Promise<Found>>();
  readonly #invalidations: Invalidations;
  readonly #turns = new Turns(MAX_QUESTIONS);
  readonly #permissions: () => readonly string[];
  readonly #ttl: number;
  #blind = false;

  constructor(
    options: UserResolverOptions,
    parts: { source: AuthSource; shared: SharedUserCache | undefined; clock: Clock; metrics: Metrics },
  ) {
    this.#ttl = options.ttl;
    this.#permissions = options.permissions;
    this.#invalidations = new Invalidations(parts.clock);
    this.#source = parts.source;
    this.#shared = parts.shared;
    this.#clock = parts.clock;
    this.#metrics = parts.metrics;
    if (options.ttl > 0 && options.max > 0) {
      this.#entries = new LRUCache({ max: options.max, dispose: ({ user }, session) => this.#unindex(user, session) });
    }
  }

  /** Those that answers must tell of. */
  get permissions(): readonly string[] {
    return this.#permissions();
  }

  /** The answer in memory, if it still holds. No I/O: for the path of an event. */
  peek(session: string): AuthAnswer | undefined {
    const entry = this.#entries?.get(session);
    if (entry === undefined) return undefined;
    if (this.#holds(entry.answer)) {
      this.#metrics.authLookup('memory');
      return entry.answer;
    }
    this.#entries?.delete(session);
    return undefined;
  }

  /**
   * Finds out; never rejects, bounded by the source's timeout. Who looks at it later then asks `overtaken`. Whoever joins a flight
   * that began before an invalidation gets nothing that it forbids: a flight looks for that at its end, and asks again.
   */
  find(session: string, cookie: string): Promise<Found> {
    const known = this.#flights.get(session);
    if (known !== undefined) return known;
    const flight = this.#fly(session, cookie).finally(() => this.#flights.delete(session));
    this.#flights.set(session, flight);
    return flight;
  }

  /** Whether an invalidation came after the answer that concerns it. */
  overtaken({ result, mark }: Found, session: string): boolean {
    return this.#invalidations.since(mark, session, nameOf(result));
  }

  /** Forgets, here and in Redis; flights under way fill nothing and ask again. */
  invalidate(what: Invalidation): void {
    this.forget(what);
    void this.#shared?.invalidate(what);
  }

  /** Forgets here alone: another sidecar has seen to Redis. */
  forget(what: Invalidation): void {
    this.#invalidations.add(what);
    if ('all' in what) {
      this.#entries?.clear();
      return;
    }
    const sessions = 'session' in what ? [what.session] : [...(this.#sessionsOf.get(what.user) ?? [])];
    for (const session of sessions) this.#entries?.delete(session);
  }

  /** Other permissions are named than before: what was found about the former ones says nothing of them. */
  permissionsChanged(): void {
    this.forget({ all: true });
  }

  /** Whether invalidations may be missed: then memory is emptied and answers hold only shortly, until they come again. */
  setBlind(blind: boolean): void {
    if (blind === this.#blind) return;
    this.#blind = blind;
    this.forget({ all: true });
  }

  async #fly(session: string, cookie: string): Promise<Found> {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const { mark } = this.#invalidations;
      const { result, fill } = await this.#ask(session, cookie);
      const user = nameOf(result);
      if (result.kind !== 'unavailable' && this.#invalidations.since(mark, session, user)) continue;
      if (result.kind !== 'unavailable') this.#keep(session, result, user);
      // An event waits for the answer, not for Redis.
      void fill?.();
      return { result, mark: this.#invalidations.mark };
    }
    return { result: { kind: 'unavailable', cause: 'overtaken by invalidations' }, mark: this.#invalidations.mark };
  }

  async #ask(session: string, cookie: string): Promise<{ result: AuthResult; fill?: () => Promise<void> }> {
    const shared = this.#ttl > 0 && !this.#blind ? this.#shared : undefined;
    const cached = await shared?.get(session);
    if (cached !== undefined && this.#believes(cached, session)) {
      this.#metrics.authLookup('redis');
      return { result: cached };
    }
    const mark = await shared?.mark(session);
    const result = await this.#askSource(cookie);
    this.#metrics.authLookup(result.kind === 'unavailable' ? 'unavailable' : 'source');
    if (shared === undefined || mark === undefined || result.kind === 'unavailable') return { result };
    return { result, fill: () => shared.set(session, this.#complete(result), mark, this.#ttlOf(result)) };
  }

  /** Redis may be older than what was heard here (a failover, a writer), and another sidecar may have other rules. */
  #believes(answer: AuthAnswer, session: string): boolean {
    if (!this.#holds(answer) || this.#invalidations.sinceMade(answer.at, session, nameOf(answer))) return false;
    if (answer.kind === 'anonymous') return true;
    const { asked = [] } = answer;
    return this.#permissions().every((name) => asked.includes(name));
  }

  /** With the permissions that were looked for, for a sidecar that may have other rules. */
  #complete(answer: AuthAnswer): AuthAnswer {
    return answer.kind === 'user' ? { ...answer, asked: answer.asked ?? this.#permissions() } : answer;
  }

  async #askSource(cookie: string): Promise<AuthResult> {
    const timeout = new AbortController();
    const timer = this.#clock.setTimeout(() => timeout.abort(), SOURCE_TIMEOUT);
    const late = new Promise<AuthResult>((resolve) => {
      timeout.signal.addEventListener('abort', () => resolve({ kind: 'unavailable', cause: 'timeout' }), {
        once: true,
      });
    });
    try {
      if (!(await this.#turns.take(timeout.signal))) return { kind: 'unavailable', cause: 'timeout' };
      try {
        return await Promise.race([this.#source.resolve(cookie, timeout.signal), late]);
      } finally {
        this.#turns.give();
      }
    } finally {
      timer.cancel();
    }
  }

  #keep(session: string, answer: AuthAnswer, user: string | undefined): void {
    if (this.#entries === undefined || !this.#holds(answer)) return;
    this.#entries.set(session, { answer, user });
    if (user === undefined) return;
    const sessions = this.#sessionsOf.get(user);
    if (sessions === undefined) this.#sessionsOf.set(user, new Set([session]));
    else sessions.add(session);
  }

  #unindex(user: string | undefined, session: string): void {
    if (user === undefined) return;
    const sessions = this.#sessionsOf.get(user);
    sessions?.delete(session);
    if (sessions?.size === 0) this.#sessionsOf.delete(user);
  }

  #holds(answer: AuthAnswer): boolean {
    const now = this.#clock.now();
    if (answer.kind === 'user' && answer.expires !== undefined && now >= answer.expires) return false;
    const age = now - answer.at;
    // A clock that is ahead must not make an answer live longer than its time.
    return age < this.#ttlOf(answer) && age > -this.#ttl;
  }

  #ttlOf(answer: AuthAnswer): number {
    const most = this.#blind ? Math.min(this.#ttl, BLIND_TTL) : this.#ttl;
    return answer.kind === 'anonymous' ? Math.min(most, NEGATIVE_TTL) : most;
  }
}

function nameOf(result: AuthResult): string | undefined {
  return result.kind === 'user' ? userKey(result.user) : undefined;
}
