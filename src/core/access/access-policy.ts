import type { AuthResult } from '../../ports/auth.ts';
import type { Access } from '../../ports/tiers.ts';

/** `login`: nobody is logged in. `forbidden`: somebody is, who may not. `unknown`: nobody can say who it is. */
export type Verdict = 'allow' | 'login' | 'forbidden' | 'unknown';

/** Whether a user may do what the rules ask for. Everything that is no clear yes is a no. */
export function checkAccess(access: readonly Access[], result: AuthResult): Verdict {
  if (access.length === 0) return 'allow';
  if (result.kind === 'unavailable') return 'unknown';
  if (result.kind === 'anonymous') return 'login';
  return access.every((rule) => allows(rule, result)) ? 'allow' : 'forbidden';
}

function allows(rule: Access, { user, permissions }: AuthResult & { kind: 'user' }): boolean {
  // Django's own answer for an inactive user is no, whatever else it is.
  if (user.f['is_active'] === false) return false;
  if (rule === 'required') return true;
  if (rule === 'staff') return user.f['is_staff'] === true;
  return permissions.includes(rule.permission);
}
