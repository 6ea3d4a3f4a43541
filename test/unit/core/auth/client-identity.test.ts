import { describe, expect, it } from 'vitest';
import { Figures } from '../../../../src/adapters/metrics/figures.ts';
import { ClientIdentity } from '../../../../src/core/auth/client-identity.ts';
import { UserResolver } from '../../../../src/core/auth/user-resolver.ts';
import type { AuthResult } from '../../../../src/ports/auth.ts';
import { sessionHash } from '../../../../src/protocol/keys.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const COOKIE = 'shopsession';

/** A resolver whose source knows the users of cookies by what `says` gives. */
function stand(ttl = 60_000): {
  clock: ManualClock;
  users: UserResolver;
  asked: string[];
  says: Map<string, string | undefined>;
} {
  const clock = new ManualClock();
  const asked: string[] = [];
  const says = new Map<string, string | undefined>();
  const source = {
    resolve(cookie: string): Promise<AuthResult> {
      asked.push(cookie);
      const id = says.get(cookie);
      const at = clock.now();
      if (id === undefined) return Promise.resolve({ kind: 'anonymous', at });
      const user = { m: 'members.member', id, b: 'b', h: 'h', f: { is_active: true } };
      return Promise.resolve({ kind: 'user', user, permissions: [], at });
    },
  };
  const parts = { source, shared: undefined, clock, metrics: new Figures() };
  return { clock, users: new UserResolver({ ttl, max: 100, permissions: () => [] }, parts), asked, says };
}

describe("a tab's identity", () => {
  it('is anonymous without the cookie, and asks nobody', async () => {
    const { clock, users, asked } = stand();
    for (const header of [undefined, '', 'other=1', `${COOKIE}=`, `x${COOKIE}=1`]) {
      const tab = new ClientIdentity(header);
      expect(tab.session(COOKIE)).toBe('');
      expect(tab.known(users, COOKIE, clock)?.kind).toBe('anonymous');
      await tab.find(users, COOKIE, clock);
      expect((await tab.ask(users, COOKIE, clock)).kind).toBe('anonymous');
    }
    expect(asked).toEqual([]);
  });

  it('reads the session from a cookie of any name, also when the name changes', () => {
    const tab = new ClientIdentity('sessionid=a; shopsession=b');
    expect(tab.session('sessionid')).toBe(sessionHash('a'));
    expect(tab.session(COOKIE)).toBe(sessionHash('b'));
    expect(tab.session('sessionid')).toBe(sessionHash('a'));
  });

  it('knows a user with a key that is text once it was asked for', async () => {
    const { clock, users, says } = stand();
    says.set('b', 'ä:b@example.test');
    const tab = new ClientIdentity(`${COOKIE}=b`);
    expect(tab.known(users, COOKIE, clock)).toBeUndefined();
    expect(tab.user).toBeUndefined();
    await tab.find(users, COOKIE, clock);
    expect(tab.known(users, COOKIE, clock)?.kind).toBe('user');
    expect(tab.user).toBe('members.member:ä:b@example.test');
  });

  it('has the answer for the event that waited, where no cache keeps it, and for that one alone', async () => {
    const { clock, users, says } = stand(0);
    says.set('b', '1');
    const tab = new ClientIdentity(`${COOKIE}=b`);
    await tab.find(users, COOKIE, clock);
    expect(tab.known(users, COOKIE, clock)?.kind).toBe('user');
    expect(tab.known(users, COOKIE, clock)).toBeUndefined();
    await tab.find(users, COOKIE, clock);
    clock.advance(2_000);
    expect(tab.known(users, COOKIE, clock)).toBeUndefined();
  });

  it.each([{ session: sessionHash('b') }, { user: 'members.member:1' }, { all: true as const }])(
    'gives no answer that was overtaken by the invalidation of %o before anybody looked',
    async (what) => {
      for (const ttl of [0, 60_000]) {
        const { clock, users, says } = stand(ttl);
        says.set('b', '1');
        const tab = new ClientIdentity(`${COOKIE}=b`);
        await tab.find(users, COOKIE, clock);
        clock.advance(1_500);
        users.invalidate(what);
        expect(tab.known(users, COOKIE, clock)).toBeUndefined();
        says.delete('b');
        await tab.find(users, COOKIE, clock);
        expect(tab.known(users, COOKIE, clock)?.kind).toBe('anonymous');
      }
    },
  );

  it('keeps an answer that an invalidation does not concern', async () => {
    const { clock, users, says } = stand(0);
    says.set('b', '1');
    const tab = new ClientIdentity(`${COOKIE}=b`);
    await tab.find(users, COOKIE, clock);
    users.invalidate({ user: 'members.member:2' });
    users.invalidate({ session: sessionHash('c') });
    expect(tab.known(users, COOKIE, clock)?.kind).toBe('user');
  });

  it('is another one from a login or logout in a handler on', async () => {
    const { clock, users, says } = stand();
    says.set('b', '1');
    says.set('c', '2');
    const tab = new ClientIdentity(`${COOKIE}=b`);
    await tab.find(users, COOKIE, clock);
    const asking = tab.ask(users, COOKIE, clock);
    tab.setSession('c');
    expect(tab.user).toBeUndefined();
    expect(await asking).toEqual({ kind: 'unavailable', cause: 'overtaken' });
    expect(tab.known(users, COOKIE, clock)).toBeUndefined();
    await tab.find(users, COOKIE, clock);
    tab.known(users, COOKIE, clock);
    expect(tab.user).toBe('members.member:2');
    tab.setSession(null);
    expect(tab.known(users, COOKIE, clock)?.kind).toBe('anonymous');
  });

  it('is concerned by its session, its user and everybody, and by nothing without a session', async () => {
    const { clock, users, says } = stand();
    says.set('b', '1');
    const tab = new ClientIdentity(`${COOKIE}=b`);
    expect(tab.concerns({ user: 'members.member:1' }, COOKIE)).toBe(false);
    await tab.ask(users, COOKIE, clock);
    expect(tab.concerns({ user: 'members.member:1' }, COOKIE)).toBe(true);
    expect(tab.concerns({ user: 'members.member:2' }, COOKIE)).toBe(false);
    expect(tab.concerns({ session: sessionHash('b') }, COOKIE)).toBe(true);
    expect(tab.concerns({ session: sessionHash('c') }, COOKIE)).toBe(false);
    expect(tab.concerns({ all: true }, COOKIE)).toBe(true);
    expect(new ClientIdentity(undefined).concerns({ all: true }, COOKIE)).toBe(false);
  });
});
