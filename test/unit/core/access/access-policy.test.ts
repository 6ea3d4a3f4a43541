import { describe, expect, it } from 'vitest';
import { checkAccess } from '../../../../src/core/access/access-policy.ts';
import type { AuthResult } from '../../../../src/ports/auth.ts';
import type { Access } from '../../../../src/ports/tiers.ts';

const VIEW: Access = { permission: 'shop.view' };
const SELL: Access = { permission: 'shop.sell' };
const ANONYMOUS: AuthResult = { kind: 'anonymous', at: 0 };
const UNAVAILABLE: AuthResult = { kind: 'unavailable', cause: 'test' };

function user(f: object, permissions: readonly string[] = [], asked?: readonly string[]): AuthResult {
  const snapshot = { m: 'auth.user', id: '1', b: 'b', h: 'h', f: { is_active: true, ...f } };
  return { kind: 'user', user: snapshot, permissions, at: 0, ...(asked !== undefined && { asked }) };
}

describe('access', () => {
  it.each<[string, readonly Access[], AuthResult, string]>([
    ['nothing is asked', [], UNAVAILABLE, 'allow'],
    ['nobody can tell', ['required'], UNAVAILABLE, 'unknown'],
    ['nobody is logged in', ['required'], ANONYMOUS, 'login'],
    ['nobody is logged in where staff may', ['staff'], ANONYMOUS, 'login'],
    ['somebody is logged in', ['required'], user({}), 'allow'],
    ['a user who is not active', ['required'], user({ is_active: false }), 'forbidden'],
    [
      'a superuser who is not active',
      ['staff', VIEW],
      user({ is_active: false, is_staff: true }, ['shop.view']),
      'forbidden',
    ],
    ['a user who is no staff', ['staff'], user({}), 'forbidden'],
    ['a user whose is_staff is no boolean', ['staff'], user({ is_staff: 1 }), 'forbidden'],
    ['staff', ['staff'], user({ is_staff: true }), 'allow'],
    ['the permission', [VIEW], user({}, ['shop.view']), 'allow'],
    ['another permission', [VIEW], user({}, ['shop.sell']), 'forbidden'],
    ['one of two permissions', [VIEW, SELL], user({}, ['shop.view']), 'forbidden'],
    ['two permissions', [VIEW, SELL], user({}, ['shop.view', 'shop.sell']), 'allow'],
    ['a permission that was looked for and not found', [VIEW], user({}, [], ['shop.view']), 'forbidden'],
    ['a permission that nobody looked for', [VIEW], user({}, [], []), 'unknown'],
    ['one that nobody looked for beside one that is lacking', [VIEW, SELL], user({}, [], ['shop.sell']), 'forbidden'],
    ['one that nobody looked for, and no staff', ['staff', VIEW], user({}, [], []), 'forbidden'],
    ['one that nobody looked for, not active', [VIEW], user({ is_active: false }, [], []), 'forbidden'],
  ])('%s', (_, access, result, verdict) => {
    expect(checkAccess(access, result)).toBe(verdict);
  });
});
