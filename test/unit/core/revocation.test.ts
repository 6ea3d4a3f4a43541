import { describe, expect, it } from 'vitest';
import { Figures } from '../../../src/adapters/metrics/figures.ts';
import { rightsOf, type Rights } from '../../../src/core/auth/rights.ts';
import { UserResolver } from '../../../src/core/auth/user-resolver.ts';
import { Revocation, type Revocable } from '../../../src/core/gateway/revocation.ts';
import type { AuthResult, Invalidation } from '../../../src/ports/auth.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const GONE: AuthResult = { kind: 'anonymous', at: 0 };
const UNAVAILABLE: AuthResult = { kind: 'unavailable', cause: 'test' };

function user(name: string, staff = true): AuthResult & { kind: 'user' } {
  const snapshot = { m: 'auth.user', id: name, b: 'b', h: 'h', f: { is_active: true, is_staff: staff } };
  return { kind: 'user', user: snapshot, permissions: [], at: 0 };
}

class Tab implements Revocable {
  rights: Rights | undefined;
  now: AuthResult;
  readonly name: string;
  closedAt: number | undefined;
  asked = 0;
  readonly #clock: ManualClock;
  readonly #load: { open: number; most: number };

  constructor(name: string, clock: ManualClock, load: { open: number; most: number }) {
    this.name = name;
    this.now = user(name);
    this.rights = rightsOf(user(name));
    this.#clock = clock;
    this.#load = load;
  }

  concerns(what: Invalidation): boolean {
    return 'all' in what || ('user' in what && what.user === `auth.user:${this.name}`);
  }

  async find(): Promise<AuthResult> {
    this.asked++;
    this.#load.most = Math.max(this.#load.most, ++this.#load.open);
    await Promise.resolve();
    this.#load.open--;
    return this.now;
  }

  close(): void {
    this.closedAt = this.#clock.monotonic();
  }
}

function stand(count: number): {
  clock: ManualClock;
  tabs: Tab[];
  load: { open: number; most: number };
  revocation: Revocation;
} {
  const clock = new ManualClock();
  const load = { open: 0, most: 0 };
  const tabs = Array.from({ length: count }, (_, n) => new Tab(`u${n}`, clock, load));
  const source = { resolve: () => Promise.resolve(UNAVAILABLE) };
  const parts = { source, shared: undefined, clock, metrics: new Figures() };
  const resolver = new UserResolver({ ttl: 0, max: 0, permissions: () => [] }, parts);
  const users = (): { resolver: UserResolver; cookie: string } => ({ resolver, cookie: 'sessionid' });
  return { clock, tabs, load, revocation: new Revocation({ sessions: () => tabs, users, clock }) };
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Lets so much time pass in small steps. */
async function pass(clock: ManualClock, milliseconds: number): Promise<void> {
  for (let step = 0; step < milliseconds; step += 8) {
    clock.advance(8);
    await settled();
  }
}

const closed = (tabs: readonly Tab[]): number[] =>
  tabs.flatMap(({ closedAt }, n) => (closedAt === undefined ? [] : [n]));

describe('the revocation of sessions', () => {
  it('closes those whose user is gone or may do less, and nobody else', async () => {
    const { tabs, revocation } = stand(4);
    Object.assign(tabs[1] ?? {}, { now: GONE });
    Object.assign(tabs[2] ?? {}, { now: user('u2', false) });
    // Never known to be anybody.
    Object.assign(tabs[3] ?? {}, { now: GONE, rights: undefined });
    revocation.invalidated({ user: 'auth.user:u1' });
    await settled();
    expect(closed(tabs)).toEqual([1]);
    revocation.invalidated({ all: true });
    await settled();
    expect(closed(tabs)).toEqual([1, 2]);
    expect(tabs[3]?.asked).toBe(0);
  });

  it('compares with what was before the first of several invalidations', async () => {
    const { tabs, revocation } = stand(1);
    const [tab] = tabs;
    Object.assign(tab ?? {}, { now: user('u0', false) });
    revocation.invalidated({ user: 'auth.user:u0' });
    // An event of the tab has learned it meanwhile.
    Object.assign(tab ?? {}, { rights: rightsOf(user('u0', false)) });
    revocation.invalidated({ user: 'auth.user:u0' });
    await settled();
    expect(closed(tabs)).toEqual([0]);
  });

  it('waits for the answer to the last of several, whichever comes first', async () => {
    const { clock, tabs, revocation } = stand(1);
    const [tab] = tabs;
    const answers: ((result: AuthResult) => void)[] = [];
    Object.assign(tab ?? {}, { find: () => new Promise<AuthResult>((resolve) => void answers.push(resolve)) });
    revocation.invalidated({ all: true });
    revocation.invalidated({ all: true });
    await settled();
    expect(answers).toHaveLength(2);
    answers[0]?.(user('u0'));
    await settled();
    answers[1]?.(UNAVAILABLE);
    await pass(clock, 5_100);
    answers[2]?.(GONE);
    await settled();
    expect(closed(tabs)).toEqual([0]);
  });

  it('leaves a tab that logged itself out', async () => {
    const { tabs, revocation } = stand(1);
    Object.assign(tabs[0] ?? {}, { now: GONE });
    revocation.invalidated({ all: true });
    Object.assign(tabs[0] ?? {}, { rights: undefined });
    await settled();
    expect(closed(tabs)).toEqual([]);
  });

  it('asks about a few at a time, and lets at most 500 go each second', async () => {
    const { clock, tabs, load, revocation } = stand(2_000);
    for (const tab of tabs) tab.now = GONE;
    revocation.invalidated({ all: true });
    await pass(clock, 1_000);
    expect(load.most).toBeLessThanOrEqual(16);
    expect(closed(tabs).length).toBeGreaterThan(400);
    expect(closed(tabs).length).toBeLessThanOrEqual(520);
    await pass(clock, 4_000);
    expect(closed(tabs)).toHaveLength(2_000);
    expect(tabs.every(({ asked }) => asked === 1)).toBe(true);
    await pass(clock, 100);
    expect(clock.timers).toBe(0);
  });

  it('asks again where nobody can tell, for half a minute', async () => {
    const { clock, tabs, revocation } = stand(2);
    for (const tab of tabs) tab.now = UNAVAILABLE;
    revocation.invalidated({ all: true });
    await pass(clock, 20_000);
    expect(closed(tabs)).toEqual([]);
    Object.assign(tabs[0] ?? {}, { now: GONE });
    await pass(clock, 20_000);
    expect(closed(tabs)).toEqual([0]);
    expect([tabs[1]?.asked, clock.timers]).toEqual([7, 0]);
  });
});
