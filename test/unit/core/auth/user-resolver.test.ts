import { beforeEach, describe, expect, it } from 'vitest';
import { Figures } from '../../../../src/adapters/metrics/figures.ts';
import { UserResolver } from '../../../../src/core/auth/user-resolver.ts';
import type { AuthAnswer, AuthResult, Invalidation, SharedUserCache } from '../../../../src/ports/auth.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const TTL = 60_000;
const MODEL = 'auth.user';

/** A source that a test holds back, and a Redis that it looks into. */
class Stand {
  readonly clock = new ManualClock();
  readonly metrics = new Figures();
  permissions: readonly string[] = [];
  /** Users by cookie; others are anonymous. */
  readonly users = new Map<string, string>();
  readonly asked: string[] = [];
  /** Questions that the source has not answered. */
  open = 0;
  mostOpen = 0;
  /** While it is set, the source answers when `release` is called. */
  holds = false;
  asks: readonly string[] | undefined;
  readonly #held: (() => void)[] = [];
  /** What lies in Redis, and every call in order. */
  readonly stored = new Map<string, AuthAnswer>();
  readonly calls: string[] = [];
  fills = Promise.resolve();
  readonly shared: SharedUserCache = {
    get: (session) => {
      this.calls.push(`get ${session}`);
      return Promise.resolve(this.stored.get(session));
    },
    mark: (session) => {
      this.calls.push(`mark ${session}`);
      return Promise.resolve(`mark of ${session}`);
    },
    set: (session, answer, mark, ttl) => {
      this.calls.push(`set ${session} ${mark} ${ttl}`);
      this.stored.set(session, answer);
      return this.fills;
    },
    invalidate: (what) => {
      this.calls.push(`invalidate ${JSON.stringify(what)}`);
      return Promise.resolve();
    },
  };

  resolver(options: { ttl?: number; max?: number; redis?: boolean } = {}): UserResolver {
    const { ttl = TTL, max = 10_000, redis = false } = options;
    const resolver = new UserResolver(
      { ttl, max, permissions: () => this.permissions },
      {
        source: { resolve: (cookie, signal) => this.#answer(cookie, signal) },
        shared: redis ? this.shared : undefined,
        clock: this.clock,
        metrics: this.metrics,
      },
    );
    // What another sidecar made before the start is not believed.
    this.clock.advance(TTL);
    return resolver;
  }

  answer(id: string | undefined, at = this.clock.now()): AuthAnswer {
    if (id === undefined) return { kind: 'anonymous', at };
    const user = { m: MODEL, id, b: 'b', h: 'h', f: { is_active: true } };
    const asked = this.asks === undefined ? {} : { asked: this.asks };
    return { kind: 'user', user, permissions: [], ...asked, at };
  }

  release(): void {
    for (const one of this.#held.splice(0)) one();
  }

  async #answer(cookie: string, signal: AbortSignal): Promise<AuthResult> {
    this.asked.push(cookie);
    const answer = this.answer(this.users.get(cookie));
    this.mostOpen = Math.max(this.mostOpen, ++this.open);
    if (this.holds) {
      await new Promise<void>((resolve) => {
        this.#held.push(resolve);
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
    }
    this.open--;
    return answer;
  }
}

/** Everything that can go on without time has gone on. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('the user resolver', () => {
  let stand: Stand;
  beforeEach(() => {
    stand = new Stand();
    stand.users.set('c1', '1');
  });

  const kindOf = async (users: UserResolver): Promise<string> => (await users.find('s1', 'c1')).result.kind;

  it('asks once for however many tabs of one session', async () => {
    const users = stand.resolver();
    stand.holds = true;
    const tabs = Array.from({ length: 100 }, () => users.find('s1', 'c1'));
    await settled();
    stand.release();
    const found = await Promise.all(tabs);
    expect(stand.asked).toEqual(['c1']);
    expect(new Set(found.map(({ result }) => result.kind))).toEqual(new Set(['user']));
    expect(users.peek('s1')?.kind).toBe('user');
  });

  it('asks memory, then Redis, then the source', async () => {
    const users = stand.resolver({ redis: true });
    await users.find('s1', 'c1');
    expect(stand.calls).toEqual(['get s1', 'mark s1', `set s1 mark of s1 ${TTL}`]);
    expect(users.peek('s1')?.kind).toBe('user');
    expect(stand.calls).toHaveLength(3);
    stand.stored.set('s2', { ...stand.answer('2'), asked: [] } as AuthAnswer);
    expect((await users.find('s2', 'c2')).result).toMatchObject({ kind: 'user', user: { id: '2' } });
    expect(stand.asked).toEqual(['c1']);
    const { authLookups } = stand.metrics;
    expect((['memory', 'redis', 'source'] as const).map((where) => authLookups.count(where))).toEqual([1, 1, 1]);
  });

  it('holds an answer from when it was made, however often it is used', async () => {
    const users = stand.resolver();
    await users.find('s1', 'c1');
    for (let second = 0; second < 59; second++) {
      stand.clock.advance(1_000);
      expect(users.peek('s1')?.kind).toBe('user');
    }
    stand.clock.advance(1_000);
    expect(users.peek('s1')).toBeUndefined();
  });

  it('holds an anonymous answer for five seconds, in Redis too', async () => {
    const users = stand.resolver({ redis: true });
    await users.find('s2', 'nobody');
    expect(stand.calls.at(-1)).toBe('set s2 mark of s2 5000');
    stand.clock.advance(4_999);
    expect(users.peek('s2')?.kind).toBe('anonymous');
    stand.clock.advance(1);
    expect(users.peek('s2')).toBeUndefined();
  });

  it('keeps nothing with a TTL of 0, and asks Redis nothing', async () => {
    const users = stand.resolver({ ttl: 0, redis: true });
    for (let n = 0; n < 3; n++) expect(await kindOf(users)).toBe('user');
    expect(users.peek('s1')).toBeUndefined();
    expect([stand.asked.length, stand.calls]).toEqual([3, []]);
  });

  it('keeps so many and no more', async () => {
    const users = stand.resolver({ max: 2 });
    for (const n of [1, 2, 3]) await users.find(`s${n}`, `c${n}`);
    expect([1, 2, 3].map((n) => users.peek(`s${n}`) !== undefined)).toEqual([false, true, true]);
  });

  it('is unavailable where the source takes too long, and keeps nothing of it', async () => {
    const users = stand.resolver();
    stand.holds = true;
    const finding = users.find('s1', 'c1');
    await settled();
    stand.clock.advance(2_500);
    expect((await finding).result).toEqual({ kind: 'unavailable', cause: 'timeout' });
    expect(users.peek('s1')).toBeUndefined();
    expect(stand.clock.timers).toBe(0);
  });

  it('does not wait for Redis to be filled', async () => {
    const users = stand.resolver({ redis: true });
    stand.fills = new Promise(() => undefined);
    expect(await kindOf(users)).toBe('user');
  });

  it.each<Invalidation>([{ session: 's1' }, { user: `${MODEL}:1` }, { all: true }])(
    'fills nothing with a flight that began before the invalidation of %o, and asks again',
    async (what) => {
      const users = stand.resolver({ redis: true });
      stand.holds = true;
      const finding = users.find('s1', 'c1');
      await settled();
      stand.users.delete('c1');
      users.invalidate(what);
      stand.release();
      await settled();
      expect([users.peek('s1'), stand.stored.size]).toEqual([undefined, 0]);
      // Whoever comes after it joins, and gets the newer answer too.
      const joining = users.find('s1', 'c1');
      stand.release();
      expect([(await finding).result.kind, (await joining).result.kind]).toEqual(['anonymous', 'anonymous']);
      expect(stand.asked).toHaveLength(2);
    },
  );

  it('goes on with a flight that an invalidation does not concern', async () => {
    const users = stand.resolver();
    stand.holds = true;
    const finding = users.find('s1', 'c1');
    await settled();
    users.invalidate({ user: `${MODEL}:2` });
    const joining = users.find('s1', 'c1');
    stand.release();
    expect([(await finding).result.kind, (await joining).result.kind]).toEqual(['user', 'user']);
    expect(stand.asked).toHaveLength(1);
  });

  it('gives up where every answer is overtaken', async () => {
    const users = stand.resolver();
    stand.holds = true;
    const finding = users.find('s1', 'c1');
    for (let n = 0; n < 3; n++) {
      await settled();
      users.invalidate({ all: true });
      stand.release();
    }
    expect((await finding).result.kind).toBe('unavailable');
  });

  it('forgets every session of a user, and no other', async () => {
    const users = stand.resolver();
    for (const [n, id] of ['1', '1', '2'].entries()) {
      stand.users.set(`c${n}`, id);
      await users.find(`s${n}`, `c${n}`);
    }
    users.invalidate({ user: `${MODEL}:1` });
    expect([0, 1, 2].map((n) => users.peek(`s${n}`) !== undefined)).toEqual([false, false, true]);
  });

  it('asks for thousands after everybody was forgotten, a few at a time and each once', async () => {
    const users = stand.resolver();
    const all = Array.from({ length: 5_000 }, (_, n) => n);
    await Promise.all(all.map((n) => users.find(`s${n}`, `c${n}`)));
    users.invalidate({ all: true });
    stand.asked.length = 0;
    stand.holds = true;
    const finding = Promise.all(all.flatMap((n) => [users.find(`s${n}`, `c${n}`), users.find(`s${n}`, `c${n}`)]));
    await settled();
    expect(stand.open).toBe(64);
    const done = new AbortController();
    void finding.then(() => done.abort());
    while (!done.signal.aborted) {
      stand.release();
      await settled();
    }
    expect(stand.mostOpen).toBe(64);
    expect(stand.asked).toHaveLength(5_000);
    expect(stand.clock.timers).toBe(0);
  });

  it('leaves to the worker whoever waited too long for a turn', async () => {
    const users = stand.resolver();
    stand.holds = true;
    const finding = Promise.all(Array.from({ length: 200 }, (_, n) => users.find(`s${n}`, `c${n}`)));
    await settled();
    stand.clock.advance(2_500);
    expect(new Set((await finding).map(({ result }) => result.kind))).toEqual(new Set(['unavailable']));
    expect(stand.asked).toHaveLength(64);
    stand.holds = false;
    expect(await kindOf(users)).toBe('user');
  });

  describe('while blind', () => {
    it('forgets everything, uses no Redis, and holds answers for five seconds', async () => {
      const users = stand.resolver({ redis: true });
      await users.find('s1', 'c1');
      users.setBlind(true);
      expect(users.peek('s1')).toBeUndefined();
      stand.calls.length = 0;
      await users.find('s1', 'c1');
      expect(stand.calls).toEqual([]);
      stand.clock.advance(4_999);
      expect(users.peek('s1')?.kind).toBe('user');
      stand.clock.advance(1);
      expect(users.peek('s1')).toBeUndefined();
    });

    it('believes no answer in Redis from then once it sees again', async () => {
      const users = stand.resolver({ redis: true });
      users.setBlind(true);
      stand.clock.advance(10_000);
      stand.stored.set('s1', { ...stand.answer('1'), asked: [] } as AuthAnswer);
      users.setBlind(false);
      stand.users.delete('c1');
      expect(await kindOf(users)).toBe('anonymous');
    });
  });

  describe('and Redis', () => {
    const old = (): AuthAnswer => ({ ...stand.answer('1'), asked: [] }) as AuthAnswer;

    it.each<Invalidation>([{ session: 's1' }, { user: `${MODEL}:1` }, { all: true }])(
      'that brings back what was there before the invalidation of %o',
      async (what) => {
        const users = stand.resolver({ redis: true });
        const answer = old();
        stand.stored.set('s1', answer);
        expect(await kindOf(users)).toBe('user');
        expect(stand.asked).toEqual([]);
        stand.clock.advance(1_000);
        stand.users.delete('c1');
        users.invalidate(what);
        // A failover to a replica that lags behind, or a writer.
        stand.stored.set('s1', answer);
        expect(await kindOf(users)).toBe('anonymous');
      },
    );

    it('that has answers from before the start', async () => {
      const answer = { ...old(), at: stand.clock.now() };
      const users = stand.resolver({ ttl: 10 * TTL, redis: true });
      stand.stored.set('s1', answer);
      stand.users.delete('c1');
      expect(await kindOf(users)).toBe('anonymous');
    });

    it('that has an answer of a sidecar with other rules', async () => {
      stand.permissions = ['shop.view'];
      const users = stand.resolver({ redis: true });
      stand.stored.set('s1', { ...stand.answer('1'), asked: ['shop.sell'] } as AuthAnswer);
      await users.find('s1', 'c1');
      expect(stand.asked).toEqual(['c1']);
      expect(stand.stored.get('s1')).toMatchObject({ asked: ['shop.view'] });
      stand.stored.set('s2', { ...stand.answer('2'), asked: ['shop.sell', 'shop.view'] } as AuthAnswer);
      await users.find('s2', 'c2');
      expect(stand.asked).toEqual(['c1']);
    });

    it("that is filled with the permissions the source looked for, where those are not the sidecar's", async () => {
      stand.permissions = ['shop.view'];
      stand.asks = ['shop.sell'];
      const users = stand.resolver({ redis: true });
      await users.find('s1', 'c1');
      expect(stand.stored.get('s1')).toMatchObject({ asked: ['shop.sell'] });
    });
  });

  it('forgets what it knew when the rules name other permissions', async () => {
    const users = stand.resolver();
    await users.find('s1', 'c1');
    stand.permissions = ['shop.view'];
    users.permissionsChanged();
    expect(users.peek('s1')).toBeUndefined();
  });
});
