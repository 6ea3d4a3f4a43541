import { userKey, type AuthResult } from '../../ports/auth.ts';

/** What a user was last known to be and to have. */
export interface Rights {
  /** As `userKey` writes it. */
  readonly user: string;
  readonly staff: boolean;
  readonly superuser: boolean;
  readonly permissions: readonly string[];
  /** undefined: the source cannot tell. */
  readonly groups: readonly string[] | undefined;
}

const known = new WeakMap<AuthResult & { kind: 'user' }, Rights>();

/** The same object for the same answer: every tab of a user shares it. */
export function rightsOf(answer: AuthResult & { kind: 'user' }): Rights {
  const before = known.get(answer);
  if (before !== undefined) return before;
  const { user, permissions, groups } = answer;
  const { is_staff: staff, is_superuser: superuser } = user.f;
  const rights = { user: userKey(user), staff: staff === true, superuser: superuser === true, permissions, groups };
  known.set(answer, rights);
  return rights;
}

/**
 * Whether somebody has lost what they had: the session leads to nobody or somebody else, or the user has less. `asked`: the
 * permissions that were looked for this time; of others nothing is known.
 */
export function hasLost(
  before: Rights,
  result: Exclude<AuthResult, { kind: 'unavailable' }>,
  asked: readonly string[],
): boolean {
  if (result.kind === 'anonymous') return true;
  const now = rightsOf(result);
  if (now.user !== before.user) return true;
  if ((before.staff && !now.staff) || (before.superuser && !now.superuser)) return true;
  if (before.permissions.some((name) => asked.includes(name) && !now.permissions.includes(name))) return true;
  return now.groups !== undefined && before.groups?.some((name) => now.groups?.includes(name) === false) === true;
}
