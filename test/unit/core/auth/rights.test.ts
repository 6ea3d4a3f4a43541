import { describe, expect, it } from 'vitest';
import { hasLost, rightsOf } from '../../../../src/core/auth/rights.ts';
import type { AuthResult } from '../../../../src/ports/auth.ts';

type User = AuthResult & { kind: 'user' };

function user(changes: { id?: string; f?: object; permissions?: string[]; groups?: string[] | undefined } = {}): User {
  const { id = '1', f = {}, permissions = ['shop.view'] } = changes;
  const groups = 'groups' in changes ? changes.groups : ['sellers'];
  const snapshot = {
    m: 'auth.user',
    id,
    b: 'b',
    h: 'h',
    f: { is_active: true, is_staff: true, is_superuser: true, ...f },
  };
  return { kind: 'user', user: snapshot, permissions, at: 0, ...(groups !== undefined && { groups }) };
}

describe('a user has lost something', () => {
  it.each<[string, boolean, User | { kind: 'anonymous'; at: number }]>([
    ['nothing new', false, user()],
    ['another name', false, user({ f: { first_name: 'Ann' } })],
    ['more than before', false, user({ permissions: ['shop.view', 'shop.sell'], groups: ['sellers', 'buyers'] })],
    ['nobody', true, { kind: 'anonymous', at: 0 }],
    ['somebody else', true, user({ id: '2' })],
    ['no staff', true, user({ f: { is_staff: false } })],
    ['no superuser', true, user({ f: { is_superuser: false } })],
    ['a permission less', true, user({ permissions: [] })],
    ['a group less', true, user({ groups: ['buyers'] })],
    ['groups that nobody tells', false, user({ groups: undefined })],
  ])('when there is %s: %s', (_, lost, now) => {
    expect(hasLost(rightsOf(user()), now, ['shop.view'])).toBe(lost);
  });

  it('but not by a permission that was not looked for this time', () => {
    expect(hasLost(rightsOf(user()), user({ permissions: [] }), ['shop.sell'])).toBe(false);
  });

  it('but not by becoming more', () => {
    const before = rightsOf(user({ f: { is_staff: false, is_superuser: false }, groups: undefined }));
    expect(hasLost(before, user(), ['shop.view'])).toBe(false);
  });
});
