import type { AuthResult } from '../../ports/auth.ts';
import type { Access } from '../../ports/tiers.ts';

/** `login`: nobody is logged in. `forbidden`: somebody is, who may not. `unknown`: nobody can say who it is. */
export type Verdict = 'allow' | 'login' | 'forbidden' | 'unknown';

const ROOT = 'reflex___state____state';
const ON_LOAD = `${ROOT}.reflex___state____on_load_internal_state`;
/**
 * Reflex's own events that make a page, under its exact names: refused, there would be no page to say why, and the login page itself
 * would lead to the login page. App code that they start is asked in the worker, which leaves out the same (`bridgehead/access.py`).
 */
const PAGE_EVENTS: ReadonlySet<string> = new Set([
  `${ROOT}.hydrate`,
  `${ROOT}.hydrate_and_load`,
  `${ROOT}.set_is_hydrated`,
  `${ON_LOAD}.on_load_internal`,
  `${ON_LOAD}.set_is_hydrated`,
]);

/** What is asked of the user for this event. */
export function askedOf(eventName: string, access: readonly Access[]): readonly Access[] {
  return PAGE_EVENTS.has(eventName) ? [] : access;
}

/** Whether a user may do what the rules ask for. Everything that is no clear yes is a no. */
export function checkAccess(access: readonly Access[], result: AuthResult): Verdict {
  if (access.length === 0) return 'allow';
  if (result.kind === 'unavailable') return 'unknown';
  if (result.kind === 'anonymous') return 'login';
  const refusing = access.filter((rule) => !allows(rule, result));
  if (refusing.length === 0) return 'allow';
  return refusing.every((rule) => isUnasked(rule, result)) ? 'unknown' : 'forbidden';
}

/** Whether nobody has looked for this permission: whoever answered had other rules. */
function isUnasked(rule: Access, { user, asked }: AuthResult & { kind: 'user' }): boolean {
  if (typeof rule !== 'object' || user.f['is_active'] === false) return false;
  return asked !== undefined && !asked.includes(rule.permission);
}

function allows(rule: Access, { user, permissions }: AuthResult & { kind: 'user' }): boolean {
  // Django's own answer for an inactive user is no, whatever else it is.
  if (user.f['is_active'] === false) return false;
  if (rule === 'required') return true;
  if (rule === 'staff') return user.f['is_staff'] === true;
  return permissions.includes(rule.permission);
}
