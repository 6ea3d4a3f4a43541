import type { AuthAnswer, AuthResult, Invalidation } from '../../ports/auth.ts';
import type { Clock } from '../../ports/clock.ts';
import { sessionHash } from '../../protocol/keys.ts';
import { cookieValue, withCookie } from '../http/cookies.ts';
import { rightsOf, type Rights } from './rights.ts';
import type { Found, UserResolver } from './user-resolver.ts';

/** How long an answer that no cache keeps may be used for the event that asked for it. Milliseconds. */
const FRESH = 2_000;

/** Who one tab belongs to, by its session cookie: the handshake's, until a handler logs it in or out. */
export class ClientIdentity {
  readonly #header: string | undefined;
  #override: { readonly cookie: string | undefined } | undefined;
  #current: { readonly name: string; readonly cookie: string | undefined; readonly hash: string } | undefined;
  #rights: Rights | undefined;
  #fresh: { readonly hash: string; readonly found: Found; readonly until: number } | undefined;

  /** `header`: the Cookie header of the handshake. */
  constructor(header: string | undefined) {
    this.#header = header;
  }

  /** Hash of the session cookie of this name; empty where the client has none. */
  session(cookieName: string): string {
    return this.#read(cookieName).hash;
  }

  /** A handler logged this tab in, or out (null): from the next event on that is who it is. */
  setSession(cookie: string | null): void {
    this.#override = { cookie: cookie ?? undefined };
    this.#rights = undefined;
    this.#current = undefined;
    this.#fresh = undefined;
  }

  /** The Cookie header as the tab would send it, had its browser been told of the session that a handler gave it. */
  header(cookieName: string | null): string | undefined {
    if (this.#override === undefined || cookieName === null) return this.#header;
    return withCookie(this.#header, cookieName, this.#override.cookie);
  }

  /** The user it was last known to be, as `userKey` writes it. */
  get user(): string | undefined {
    return this.#rights?.user;
  }

  /** What that user had. */
  get rights(): Rights | undefined {
    return this.#rights;
  }

  /** Whether an invalidation is about this session, or the user it was last known to be. */
  concerns(what: Invalidation, cookieName: string): boolean {
    const { hash } = this.#read(cookieName);
    if (hash === '') return false;
    if ('all' in what) return true;
    return 'session' in what ? what.session === hash : what.user === this.user;
  }

  /** The answer if it is at hand, else undefined: then `find` gets it. */
  known(users: UserResolver, cookieName: string, clock: Clock): AuthResult | undefined {
    const { cookie, hash } = this.#read(cookieName);
    if (cookie === undefined) return anonymous(clock);
    const fresh = this.#fresh;
    if (fresh?.hash === hash && clock.monotonic() < fresh.until) {
      this.#fresh = undefined;
      if (!users.overtaken(fresh.found, hash)) return this.#remember(fresh.found.result);
    }
    return this.#remember(users.peek(hash));
  }

  /** Asks; the next `known` has the answer. Never rejects. */
  async find(users: UserResolver, cookieName: string, clock: Clock): Promise<void> {
    const { cookie, hash } = this.#read(cookieName);
    if (cookie === undefined) return;
    const found = await users.find(hash, cookie);
    this.#fresh = { hash, found, until: clock.monotonic() + FRESH };
  }

  /** Asks beside the path of events. Never rejects. */
  async ask(users: UserResolver, cookieName: string, clock: Clock): Promise<AuthResult> {
    const { cookie, hash } = this.#read(cookieName);
    if (cookie === undefined) return anonymous(clock);
    const found = await users.find(hash, cookie);
    // A handler may have logged the tab in or out meanwhile, or an invalidation has come.
    const isOvertaken = this.#read(cookieName).hash !== hash || users.overtaken(found, hash);
    return isOvertaken ? { kind: 'unavailable', cause: 'overtaken' } : this.#remember(found.result);
  }

  #remember<T extends AuthResult | undefined>(result: T): T {
    if (result?.kind === 'user') this.#rights = rightsOf(result);
    return result;
  }

  #read(name: string): { readonly cookie: string | undefined; readonly hash: string } {
    if (this.#current?.name === name) return this.#current;
    const found = this.#override === undefined ? cookieValue(this.#header, name) : this.#override.cookie;
    const cookie = found === '' ? undefined : found;
    this.#current = { name, cookie, hash: sessionHash(cookie) };
    return this.#current;
  }
}

function anonymous(clock: Clock): AuthAnswer {
  return { kind: 'anonymous', at: clock.now() };
}
