/** A user as it travels (docs/PROTOCOL.md, "The user"): enough for a worker to set `request.user` without asking Django. */
export interface UserSnapshot {
  /** The user model's label, `auth.user`. */
  readonly m: string;
  /** The primary key as text. */
  readonly id: string;
  /** The backend that logged the user in. */
  readonly b: string;
  /** Hash of the session's auth hash: changes with the password. */
  readonly h: string;
  readonly f: Readonly<Record<string, unknown>>;
}

/** Who a session cookie belongs to. Unix milliseconds: `at` when the source began to read, `expires` when the session ends. */
export type AuthAnswer =
  | {
      readonly kind: 'user';
      readonly user: UserSnapshot;
      readonly permissions: readonly string[];
      /** The permissions that were looked for: of others nothing is known. undefined: those of the rules in force. */
      readonly asked?: readonly string[];
      /** Names of Django groups, at most 100; undefined: the source cannot tell. */
      readonly groups?: readonly string[];
      readonly at: number;
      readonly expires?: number;
    }
  | { readonly kind: 'anonymous'; readonly at: number };

export type AuthResult =
  | AuthAnswer
  /** Nobody can say: the worker decides with Django's own code. */
  | { readonly kind: 'unavailable'; readonly cause: string };

/** Asks Django, or Django's database, who a session belongs to. */
export interface AuthSource {
  /**
   * `cookie` is the session cookie's value. MUST answer `user` only for what Django itself would accept: a live session,
   * an active user, a matching auth hash. MUST NOT reject and MUST heed `signal`: trouble is `unavailable`.
   */
  resolve(cookie: string, signal: AbortSignal): Promise<AuthResult>;
}

/** Whom an invalidation concerns. */
export type Invalidation =
  | { readonly user: string }
  /** A session hash. */
  | { readonly session: string }
  | { readonly all: true };

/** The second cache tier, shared by every sidecar. Trouble is a miss; nothing here may hold an event up. */
export interface SharedUserCache {
  get(session: string): Promise<AuthAnswer | undefined>;
  /** Remembers where invalidations stand, for a later `set`: one that came in between makes the `set` do nothing. */
  mark(session: string): Promise<string>;
  set(session: string, answer: AuthAnswer, mark: string, ttl: number): Promise<void>;
  invalidate(what: Invalidation): Promise<void>;
}

/** `model label:primary key`, as invalidations name a user. */
export function userKey(user: Pick<UserSnapshot, 'm' | 'id'>): string {
  return `${user.m}:${user.id}`;
}
