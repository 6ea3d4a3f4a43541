import { describe, expect, it, vi } from 'vitest';
import { Figures } from '../../../../src/adapters/metrics/figures.ts';
import { Pushes, type PushRules, type PushSession } from '../../../../src/core/live/pushes.ts';
import type { AuthAnswer, AuthResult } from '../../../../src/ports/auth.ts';
import type { PushDelivery } from '../../../../src/ports/live-metrics.ts';
import type { HandlerCall } from '../../../../src/ports/virtual-session.ts';
import type { PushAction, PushTarget } from '../../../../src/protocol/push.ts';
import { systemClock, type Clock } from '../../../../src/ports/clock.ts';
import { eventually } from '../../../support/eventually.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const TOAST: PushAction = { kind: 'toast', text: 'Hello', level: 'info' };

function userAnswer(id: string, groups?: readonly string[], m = 'auth.user'): AuthAnswer {
  const user = { m, id, b: 'backend', h: 'hash', f: {} };
  return { kind: 'user', user, permissions: [], at: 0, ...(groups !== undefined && { groups }) };
}

/** A session that a test makes up. `slow`: who it is must be found out. */
class Tab implements PushSession {
  readonly frames: string[] = [];
  readonly calls: HandlerCall[] = [];
  user: string | undefined;
  finds = 0;
  readonly path: string;
  readonly who: AuthResult;
  readonly slow: boolean;
  result: PushDelivery = 'sent';
  static finding = 0;
  static mostFinding = 0;

  constructor(who: AuthResult = { kind: 'anonymous', at: 0 }, options: { path?: string; slow?: boolean } = {}) {
    this.who = who;
    this.path = options.path ?? '';
    this.slow = options.slow ?? false;
  }

  known(): AuthResult | undefined {
    return this.slow ? undefined : this.who;
  }

  async find(): Promise<AuthResult> {
    this.finds++;
    Tab.mostFinding = Math.max(Tab.mostFinding, ++Tab.finding);
    await new Promise((resolve) => setImmediate(resolve));
    Tab.finding--;
    return this.who;
  }

  tell(frame: Buffer): PushDelivery {
    this.frames.push(frame.toString());
    return this.result;
  }

  run(call: HandlerCall): PushDelivery {
    this.calls.push(call);
    return 'queued';
  }
}

function make(tabs: Readonly<Record<string, Tab>>, rules: Partial<PushRules> = {}, clock: Clock = systemClock) {
  const metrics = new Figures();
  const lines: string[] = [];
  const log = (_: object, message: string): void => void lines.push(message);
  const pushes = new Pushes({
    sessions: {
      all: () => Object.values(tabs),
      named: (id) => (tabs[id] === undefined ? [] : [tabs[id]]),
    },
    namespace: '/_event',
    rules: () => ({ allows: () => true, scripts: true, ...rules }),
    fullName: (handler) => (handler === 'shop.cart.Cart.add' ? 'root.cart.add' : undefined),
    clock,
    metrics,
    logger: { debug: log, info: log, warn: log, error: log },
  });
  let ids = 0;
  const push = (to: PushTarget, what: PushAction = TOAST): void =>
    pushes.push({ id: `push-${++ids}`, at: 0, to, what });
  const reached = (): string[] =>
    Object.entries(tabs).flatMap(([name, { frames, calls }]) => (frames.length + calls.length > 0 ? [name] : []));
  return { metrics, lines, push, reached };
}

describe('a push', () => {
  it('reaches all, or the one session it names', async () => {
    const tabs = { a: new Tab(), b: new Tab() };
    const { push, reached, metrics } = make(tabs);
    push({ kind: 'session', id: 'b' });
    push({ kind: 'session', id: 'nobody' });
    await eventually(reached).toEqual(['b']);
    push({ kind: 'all' });
    await eventually(reached).toEqual(['a', 'b']);
    await eventually(() => tabs.b.frames.length).toBe(2);
    expect(metrics.pushDeliveries.count('sent')).toBe(3);
    expect(tabs.a.frames[0]).toMatch(/^42\/_event,\["event",\{"delta":\{\},"events":\[\{"name":"_call_function"/);
  });

  it('reaches whoever shows a page, and nobody whose page is not known', async () => {
    const { push, reached } = make({
      orders: new Tab(undefined, { path: '/orders' }),
      order: new Tab(undefined, { path: '/orders/[id]' }),
      home: new Tab(undefined, { path: '/' }),
      unknown: new Tab(),
    });
    push({ kind: 'path', pattern: '/orders*' });
    await eventually(reached).toEqual(['orders', 'order']);
    push({ kind: 'path', pattern: '*' });
    await eventually(reached).toEqual(['orders', 'order', 'home']);
  });

  it('reaches the sessions of a user, of one model or any, and asks who that is where nobody knows', async () => {
    const tabs = {
      known: new Tab(userAnswer('42')),
      slow: new Tab(userAnswer('42'), { slow: true }),
      member: new Tab(userAnswer('42', undefined, 'members.person')),
      other: new Tab(userAnswer('7')),
      otherSlow: new Tab(userAnswer('7'), { slow: true }),
      anonymous: new Tab(),
      nobodyKnows: new Tab({ kind: 'unavailable', cause: 'test' }, { slow: true }),
    };
    const { push, reached } = make(tabs);
    push({ kind: 'user', id: '42', model: 'auth.user' });
    await eventually(reached).toEqual(['known', 'slow']);
    push({ kind: 'user', id: '42' });
    await eventually(reached).toEqual(['known', 'slow', 'member']);
    await eventually(() => tabs.slow.frames.length).toBe(2);
    expect(tabs.otherSlow.frames).toEqual([]);
  });

  it('asks nobody about sessions of others, and asks again about those of the user', async () => {
    const tabs = {
      mine: new Tab({ kind: 'anonymous', at: 0 }, { slow: true }),
      other: new Tab(userAnswer('7'), { slow: true }),
    };
    // It was theirs, and they have logged out elsewhere meanwhile.
    tabs.mine.user = 'auth.user:42';
    tabs.other.user = 'auth.user:7';
    const { push, reached } = make(tabs);
    push({ kind: 'user', id: '42' });
    await eventually(() => tabs.mine.finds).toBe(1);
    expect([tabs.other.finds, reached()]).toEqual([0, []]);
  });

  it('reaches the sessions of a group, as far as the source of users knows groups', async () => {
    const { push, reached, lines } = make({
      editor: new Tab(userAnswer('1', ['editors', 'staff'])),
      slowEditor: new Tab(userAnswer('2', ['editors']), { slow: true }),
      reader: new Tab(userAnswer('3', [])),
      untold: new Tab(userAnswer('4')),
    });
    push({ kind: 'group', name: 'editors' });
    await eventually(reached).toEqual(['editor', 'slowEditor']);
    expect(lines).toEqual(['a group was pushed to, and the source of users tells no groups (said once)']);
  });

  it('asks about few sessions at a time, however many there are', async () => {
    const tabs = Object.fromEntries(
      Array.from({ length: 2_000 }, (_, n) => [`tab${n}`, new Tab(userAnswer(String(n % 2)), { slow: true })]),
    );
    Tab.mostFinding = 0;
    const { push, metrics } = make(tabs);
    push({ kind: 'user', id: '1' });
    await eventually(() => metrics.pushDeliveries.count('sent')).toBe(1_000);
    expect(Tab.mostFinding).toBeLessThanOrEqual(16);
  });

  it('starts a handler by its name in Reflex, if it is allowed here and there', async () => {
    const tabs = { a: new Tab() };
    const { push, metrics } = make(tabs, { allows: (handler) => handler.startsWith('shop.cart.') });
    push({ kind: 'all' }, { kind: 'event', name: 'shop.orders.Orders.refund', payload: {} });
    push({ kind: 'all' }, { kind: 'event', name: 'shop.cart.Cart.clear', payload: {} });
    push({ kind: 'all' }, { kind: 'event', name: 'shop.cart.Cart.add', payload: { pk: 42 } });
    await eventually(() => tabs.a.calls).toEqual([{ name: 'root.cart.add', payload: { pk: 42 } }]);
    const { counts } = metrics.pushDeliveries;
    expect([counts.get('refused'), counts.get('unknown'), counts.get('queued')]).toEqual([1, 1, 1]);
  });

  it('runs no script where none may run, whoever put it on the bus', async () => {
    const tabs = { a: new Tab() };
    const { push, metrics, lines } = make(tabs, { scripts: false });
    push({ kind: 'all' }, { kind: 'script', code: 'alert(1)' });
    push({ kind: 'all' }, { kind: 'redirect', path: '/orders' });
    await eventually(() => tabs.a.frames.length).toBe(1);
    expect(tabs.a.frames[0]).toContain('"path":"/orders","external":false');
    expect(metrics.pushDeliveries.count('refused')).toBe(1);
    expect(lines).toEqual(['a script was pushed and live.scripts is false here (said once)']);
  });

  it('counts what became of it', async () => {
    const tabs = { ok: new Tab(), slow: new Tab(), away: new Tab() };
    tabs.slow.result = 'slow';
    tabs.away.result = 'away';
    const { push, metrics } = make(tabs);
    push({ kind: 'all' });
    await eventually(() => metrics.pushDeliveries.total()).toBe(3);
    const { counts } = metrics.pushDeliveries;
    expect([counts.get('sent'), counts.get('slow'), counts.get('away')]).toEqual([1, 1, 1]);
  });

  it('is counted where nobody can tell whose session it is, or not in time', async () => {
    const clock = new ManualClock();
    const unknown = { kind: 'unavailable', cause: 'test' } as const;
    // More than are asked about at a time, at a source that takes its time.
    const tabs = Object.fromEntries(
      Array.from({ length: 20 }, (_, n) => [`tab${n}`, new Tab(unknown, { slow: true })]),
    );
    const { push, metrics, reached } = make({ ...tabs, atHand: new Tab(unknown) }, {}, clock);
    push({ kind: 'user', id: '42' });
    clock.advance(30_000);
    await eventually(() => metrics.pushDeliveries.total()).toBe(21);
    const { counts } = metrics.pushDeliveries;
    expect([counts.get('unavailable'), counts.get('expired'), reached()]).toEqual([17, 4, []]);
  });

  it('comes in its order, and lets everybody else have a turn between sessions', async () => {
    const tabs = Object.fromEntries(Array.from({ length: 1_200 }, (_, n) => [`tab${n}`, new Tab()]));
    const { push, metrics } = make(tabs);
    for (let n = 0; n < 5; n++) push({ kind: 'all' }, { ...TOAST, text: `number ${n}` });
    let turns = 0;
    const count = (): void => {
      turns++;
      if (metrics.pushDeliveries.count('sent') < 6_000) setImmediate(count);
    };
    setImmediate(count);
    await eventually(() => metrics.pushDeliveries.count('sent')).toBe(6_000);
    expect(turns).toBeGreaterThanOrEqual(10);
    for (const { frames } of Object.values(tabs)) {
      expect(frames.map((frame) => /number (\d)/.exec(frame)?.[1])).toEqual(['0', '1', '2', '3', '4']);
    }
  });

  it('is dropped and counted where they come faster than anybody could bring them', async () => {
    const tabs = Object.fromEntries(Array.from({ length: 130 }, (_, n) => [`tab${n}`, new Tab()]));
    const told = Object.values(tabs).map((tab) => vi.spyOn(tab, 'tell').mockReturnValue('sent'));
    const { push, metrics, lines } = make(tabs);
    for (let n = 0; n < 10_005; n++) push({ kind: 'all' });
    const dropped = metrics.pushDeliveries.count('full');
    expect(dropped).toBe(5);
    expect(lines).toHaveLength(1);
    await eventually(() => metrics.pushDeliveries.count('sent')).toBe(130 * 10_000);
    for (const { mock } of told) expect(mock.calls).toHaveLength(10_000);
  });

  it('comes to a session it names behind those that came before it', async () => {
    const tabs = Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`tab${n}`, new Tab()]));
    const { push } = make(tabs);
    push({ kind: 'all' }, { ...TOAST, text: 'first' });
    expect(tabs['tab199']?.frames).toEqual([]);
    push({ kind: 'session', id: 'tab199' }, { ...TOAST, text: 'second' });
    const texts = (): unknown => tabs['tab199']?.frames.map((frame) => /first|second/.exec(frame)?.[0]);
    expect(texts()).toEqual(['first', 'second']);
    await eventually(() => tabs['tab150']?.frames.length).toBe(1);
    expect(texts()).toEqual(['first', 'second']);
  });
});
