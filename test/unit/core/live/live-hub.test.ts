import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Figures } from '../../../../src/adapters/metrics/figures.ts';
import { LiveHub, type LiveHubOptions, type Watchers } from '../../../../src/core/live/live-hub.ts';
import type { LiveSession } from '../../../../src/core/live/live-session.ts';
import type { Change, ChangeAction, Gap } from '../../../../src/protocol/change.ts';
import { MAX_LIVE_ROWS, MAX_SUBSCRIPTIONS, type Subscription } from '../../../../src/protocol/link-live.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

interface Told {
  readonly subscription: string;
  readonly changes: readonly { readonly model: string; readonly action: ChangeAction; readonly pk: number | string }[];
  readonly reload: boolean;
}

let ids = 0;
function change(pk: number | string, action: ChangeAction = 'updated', rest: Partial<Change> = {}): Change {
  return { id: String(++ids), model: 'shop.product', action, pk, at: Date.UTC(2030, 0, 1), ...rest };
}

const LIST: Subscription = { id: 'list', model: 'shop.product', pks: null, tags: null, handler: 'root.list.apply' };

function make(options: Partial<LiveHubOptions> & { watchers?: Watchers } = {}) {
  const clock = new ManualClock();
  const metrics = new Figures();
  const { watchers, ...own } = options;
  const hub = new LiveHub({ coalesceMs: 0, ...own }, { clock, metrics, watchers });
  const open = (...subscriptions: Partial<Subscription>[]): LiveSession => {
    const session = hub.open(() => undefined);
    for (const one of subscriptions) session.subscribe({ ...LIST, ...one });
    return session;
  };
  return { clock, metrics, hub, open };
}

function take(session: LiveSession): Told | undefined {
  return (session.take()?.payload as { live: Told } | undefined)?.live;
}

/** Everything there is to be told, each event ended. */
function drain(session: LiveSession): Told[] {
  const all: Told[] = [];
  for (let told = take(session); told !== undefined; told = take(session)) {
    all.push(told);
    session.done('ended');
  }
  return all;
}

const pks = (session: LiveSession): (number | string)[] =>
  drain(session).flatMap(({ changes }) => changes.map(({ pk }) => pk));

describe('a subscription', () => {
  it('hears of its model alone, in the words of the protocol', () => {
    const { hub, open } = make();
    const session = open({});
    hub.changes([change(1, 'created'), change(2, 'updated', { model: 'shop.order' }), change('a', 'deleted')]);
    expect(session.take()).toEqual({
      name: 'root.list.apply',
      payload: {
        live: {
          subscription: 'list',
          changes: [
            { model: 'shop.product', action: 'created', pk: 1 },
            { model: 'shop.product', action: 'deleted', pk: 'a' },
          ],
          reload: false,
        },
      },
    });
  });

  it('is narrowed by primary keys, whether they came as numbers or texts', () => {
    const { hub, open } = make();
    const session = open({ pks: [1, '2', 'x'] });
    hub.changes([change('1'), change(2), change(3), change('x')]);
    expect(pks(session)).toEqual(['1', 2, 'x']);
    expect(pks(open({ pks: [] }))).toEqual([]);
  });

  it('is narrowed by tags; a change without tags concerns everybody', () => {
    const { hub, open } = make();
    const [acme, both, keyed] = [
      open({ tags: ['tenant:acme'] }),
      open({ tags: ['tenant:acme', 'tenant:other'] }),
      open({ pks: [1, 2, 3], tags: ['tenant:acme'] }),
    ];
    const none = open({ tags: [] });
    hub.changes([
      change(1, 'updated', { tags: ['tenant:acme'] }),
      change(2, 'updated', { tags: ['tenant:other', 'user:1'] }),
      change(3),
      change(4, 'updated', { tags: ['user:1'] }),
    ]);
    expect([acme, both, keyed, none].map(pks)).toEqual([[1, 3], [1, 2, 3], [1, 3], [3]]);
  });

  it('ends when it is given up, and with its session', () => {
    const { hub, open, metrics } = make();
    const session = open({}, { id: 'other' });
    expect(metrics.subscriptions).toBe(2);
    session.unsubscribe('list');
    session.unsubscribe('never');
    hub.changes([change(1)]);
    expect(drain(session).map(({ subscription }) => subscription)).toEqual(['other']);
    hub.changes([change(2)]);
    session.close();
    expect([session.take(), metrics.subscriptions, metrics.liveQueueBytes]).toEqual([undefined, 0, 0]);
  });

  it('is replaced by one of the same id, which is not owed less', () => {
    const { hub, open } = make();
    const session = open({});
    hub.changes([change(1)]);
    session.subscribe({ ...LIST, pks: [7] });
    expect(drain(session)).toEqual([{ subscription: 'list', changes: [], reload: true }]);
    hub.changes([change(1), change(7)]);
    expect(pks(session)).toEqual([7]);
  });

  it('is one of 64 at most', () => {
    const { hub } = make();
    const session = hub.open(() => undefined);
    for (let n = 0; n < MAX_SUBSCRIPTIONS; n++) expect(session.subscribe({ ...LIST, id: String(n) })).toBe(true);
    expect(session.subscribe({ ...LIST, id: 'more' })).toBe(false);
    expect(session.subscribe({ ...LIST, id: '0' })).toBe(true);
  });
});

describe('a live event', () => {
  it('is alone until it ends; what comes meanwhile is merged', () => {
    const { hub, open } = make();
    const session = open({});
    hub.changes([change(1, 'created')]);
    expect(take(session)?.changes).toHaveLength(1);
    hub.changes([change(2, 'created'), change(2), change(1, 'deleted'), change(1, 'created')]);
    expect(take(session)).toBeUndefined();
    session.done('ended');
    expect(take(session)?.changes.map(({ action, pk }) => `${action} ${pk}`)).toEqual(['created 2', 'updated 1']);
  });

  it('with more than 200 rows is a reload', () => {
    const { clock, hub, open, metrics } = make();
    const session = open({});
    const rows = (count: number): void => {
      for (let pk = 0; pk < count; pk++) {
        hub.changes([change(pk)]);
        clock.advance(2);
      }
    };
    rows(MAX_LIVE_ROWS);
    expect(take(session)?.changes).toHaveLength(MAX_LIVE_ROWS);
    rows(MAX_LIVE_ROWS + 1);
    session.done('ended');
    expect(drain(session)).toEqual([{ subscription: 'list', changes: [], reload: true }]);
    expect([...metrics.liveEvents.counts]).toEqual([
      ['rows', 1],
      ['reload', 1],
    ]);
  });

  it('that may be lost comes again as a reload, unless nobody wants it any more', () => {
    const { hub, open } = make();
    const session = open({}, { id: 'other', pks: [] });
    hub.changes([change(1)]);
    take(session);
    session.lost();
    expect(drain(session)).toEqual([{ subscription: 'list', changes: [], reload: true }]);
    hub.changes([change(1)]);
    take(session);
    session.unsubscribe('list');
    session.lost();
    expect(drain(session)).toEqual([]);
  });

  it('whose handler fails comes again as a reload until it is right, later each time, at most half a minute', () => {
    const { clock, hub, metrics } = make();
    const session = hub.open(() => undefined);
    session.subscribe(LIST);
    hub.changes([change(1)]);
    expect(take(session)?.reload).toBe(false);
    for (const least of [1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]) {
      session.done('failed');
      clock.advance(least - 1);
      expect(take(session)).toBeUndefined();
      clock.advance(least + 1);
      expect(take(session)?.reload).toBe(true);
    }
    expect(metrics.liveFailures).toBe(7);
    session.done('ended');
    expect(clock.timers).toBe(0);
    hub.changes([change(2)]);
    expect(take(session)?.changes).toHaveLength(1);
    // It was right in between: the first wait again.
    session.done('failed');
    clock.advance(2_000);
    expect(take(session)?.reload).toBe(true);
  });

  it('whose handler fails is not repeated once nobody wants it', () => {
    const { clock, hub, open } = make();
    const session = open({});
    hub.changes([change(1)]);
    take(session);
    session.done('failed');
    session.unsubscribe('list');
    expect(clock.timers).toBe(0);
  });

  it('does not come back together with all others that failed', () => {
    const { clock, hub, open } = make();
    const sessions = Array.from({ length: 50 }, () => open({}));
    hub.changes([change(1)]);
    for (const session of sessions) {
      take(session);
      session.done('failed');
    }
    clock.advance(1_500);
    const back = sessions.filter((session) => take(session) !== undefined).length;
    expect(back).toBeGreaterThan(0);
    expect(back).toBeLessThan(50);
  });

  it('tells how long the oldest of its changes waited', () => {
    const { clock, hub, open, metrics } = make();
    const session = open({});
    hub.changes([change(1)]);
    clock.advance(300);
    hub.changes([change(2, 'updated', { at: clock.now() })]);
    take(session);
    expect(metrics.liveLags.sum).toBeCloseTo(0.3);
  });
});

describe('a gap', () => {
  it('reloads the lists of its model, or all', () => {
    const { hub, open } = make();
    const [products, orders] = [open({}), open({ model: 'shop.order', pks: [1] })];
    hub.gap({ reason: 'reported', model: 'shop.product' });
    expect([drain(products).map(({ reload }) => reload), drain(orders)]).toEqual([[true], []]);
    hub.gap({ reason: 'reconnect' });
    expect([products, orders].map((one) => drain(one).map(({ reload }) => reload))).toEqual([[true], [true]]);
  });
});

describe('the hub', () => {
  it('gives watching workers every change as it came, before anything is merged', () => {
    const heard: (readonly Change[] | Gap)[] = [];
    const { hub } = make({
      coalesceMs: 50,
      watchers: { tell: (all) => heard.push(all), tellGap: (gap) => heard.push(gap) },
    });
    const batch = [change(1), change(1), change(1, 'deleted')];
    hub.changes(batch);
    hub.gap({ reason: 'trimmed' });
    expect(heard).toEqual([batch, { reason: 'trimmed' }]);
  });

  it('does no work for models that nobody subscribed to', () => {
    const { hub, clock } = make({ coalesceMs: 50 });
    hub.changes([change(1)]);
    expect(clock.timers).toBe(0);
  });

  it('lets slow sessions read anew rather than hold more than the budget', () => {
    const { clock, hub, open, metrics } = make({ budget: 100_000 });
    const sessions = Array.from({ length: 20 }, () => open({}));
    for (let pk = 0; pk < 150; pk++) {
      hub.changes([change(pk)]);
      clock.advance(2);
    }
    expect(metrics.liveQueueBytes).toBeLessThanOrEqual(100_000);
    const told = sessions.map((session) => drain(session));
    expect(told.every((events) => events.length === 1)).toBe(true);
    expect(told.some(([event]) => event?.reload === true)).toBe(true);
    expect(metrics.liveQueueBytes).toBe(0);
  });
});

/** A table, and who shows it. Rows are read when an event's handler runs, as the companion does. */
class Shown {
  readonly rows = new Map<number, number>();

  apply({ changes, reload }: Told, table: ReadonlyMap<number, number>): void {
    if (reload) {
      this.rows.clear();
      for (const [pk, version] of table) this.rows.set(pk, version);
      return;
    }
    for (const { action, pk } of changes) {
      const version = action === 'deleted' ? undefined : table.get(Number(pk));
      if (version === undefined) this.rows.delete(Number(pk));
      else this.rows.set(Number(pk), version);
    }
  }
}

describe('amid a bulk write', () => {
  const bulk = (first: number): Change[] => Array.from({ length: 100 }, (_, index) => change(first + index));

  function watch() {
    const made = make();
    let woken = 0;
    const session = made.hub.open(() => void woken++);
    session.subscribe(LIST);
    return { ...made, session, woken: () => woken };
  }

  it('a list waits until its rows have come, and is read once', () => {
    const { clock, hub, session, woken } = watch();
    for (let first = 0; first < 500; first += 100) {
      hub.changes(bulk(first));
      expect([woken(), session.ready, take(session)]).toEqual([0, false, undefined]);
      clock.advance(99);
    }
    clock.advance(1);
    expect([woken(), session.ready]).toEqual([1, true]);
    expect(drain(session)).toEqual([{ subscription: 'list', changes: [], reload: true }]);
    clock.advance(60_000);
    expect([woken(), clock.timers]).toEqual([1, 0]);
  });

  it('that does not end a list is read every other second', () => {
    const { clock, hub, session, woken } = watch();
    const reads: number[] = [];
    for (let time = 0; time < 6_000; time += 50) {
      hub.changes(bulk(time));
      if (take(session) !== undefined) {
        session.done('ended');
        reads.push(time);
      }
      clock.advance(50);
    }
    expect(woken()).toBeGreaterThan(2);
    expect(reads.slice(0, 2)).toEqual([1_000, 1_050]);
    for (const start of [0, 2_000, 4_000]) {
      expect(reads.filter((time) => time >= start && time < start + 2_000).length).toBeGreaterThan(5);
      expect(reads.filter((time) => time > start + 50 && time < start + 950)).toEqual([]);
    }
  });

  it('whoever asked for one row, and lists of another model, hear at once', () => {
    const { clock, hub, open } = make();
    const row = open({ pks: [7] });
    const other = open({ model: 'shop.order' });
    hub.changes([...bulk(0), change(1, 'created', { model: 'shop.order' })]);
    expect([pks(row), pks(other)]).toEqual([[7], [1]]);
    clock.advance(50);
    hub.changes([change(7)]);
    expect(pks(row)).toEqual([7]);
  });

  it('a list with two models is told of the other', () => {
    const { clock, hub, open } = make();
    const session = open({}, { id: 'orders', model: 'shop.order' });
    hub.changes(bulk(0));
    hub.changes([change(1, 'created', { model: 'shop.order' })]);
    expect(drain(session).map(({ subscription }) => subscription)).toEqual(['orders']);
    clock.advance(100);
    expect(drain(session).map(({ subscription }) => subscription)).toEqual(['list']);
  });

  it('many lists go on a few at a time, and those that are gone are forgotten', () => {
    const { clock, hub } = make();
    const woken: number[] = [];
    const sessions = Array.from({ length: 100 }, (_, index) => {
      const session = hub.open(() => void woken.push(index));
      session.subscribe(LIST);
      return session;
    });
    hub.changes(bulk(0));
    for (const session of sessions.slice(50)) session.close();
    clock.advance(100);
    expect(woken).toHaveLength(5);
    clock.advance(25);
    expect(woken).toHaveLength(10);
    clock.advance(1_000);
    expect(woken).toEqual(Array.from({ length: 50 }, (_, index) => index));
    hub.changes(bulk(0));
    hub.close();
    expect(clock.timers).toBe(0);
  });
});

describe('what a subscriber knows', () => {
  it('is the truth once all is delivered, whatever was merged, lost, missed or too much', () => {
    const step = fc.oneof(
      {
        weight: 20,
        arbitrary: fc.record({ kind: fc.constant('write' as const), pk: fc.nat(6), remove: fc.boolean() }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ kind: fc.constant('bulk' as const), count: fc.integer({ min: 150, max: 260 }) }),
      },
      { weight: 10, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(80) }) },
      { weight: 10, arbitrary: fc.constant({ kind: 'begin' as const }) },
      {
        weight: 10,
        arbitrary: fc.constantFrom({ kind: 'end' as const }, { kind: 'lose' as const }, { kind: 'fail' as const }),
      },
      { weight: 2, arbitrary: fc.constant({ kind: 'miss' as const }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.constantFrom(0, 50), (steps, coalesceMs) => {
        const { clock, hub, open, metrics } = make({ coalesceMs, budget: 40_000 });
        const session = open({});
        const table = new Map<number, number>();
        const shown = new Shown();
        let version = 0;
        let begun: Told | undefined;
        const write = (pk: number, remove: boolean): Change => {
          const had = table.has(pk);
          if (remove) table.delete(pk);
          else table.set(pk, ++version);
          return change(pk, remove ? 'deleted' : had ? 'updated' : 'created');
        };
        const end = (how: 'end' | 'lose' | 'fail'): void => {
          if (begun === undefined) return;
          // A handler that is lost or fails may have run or not.
          if (how === 'end' || version % 2 === 0) shown.apply(begun, table);
          begun = undefined;
          if (how === 'lose') session.lost();
          else session.done(how === 'end' ? 'ended' : 'failed');
        };
        for (const one of steps) {
          switch (one.kind) {
            case 'write':
              hub.changes([write(one.pk, one.remove)]);
              break;
            case 'bulk':
              hub.changes(Array.from({ length: one.count }, (_, pk) => write(pk, false)));
              break;
            case 'miss':
              write(3, version % 2 === 0);
              hub.gap({ reason: 'reconnect' });
              break;
            case 'wait':
              clock.advance(one.ms);
              break;
            case 'begin':
              begun ??= take(session);
              break;
            case 'end':
            case 'lose':
            case 'fail':
              end(one.kind);
          }
        }
        end('end');
        for (let turn = 0; turn < 5; turn++) {
          clock.advance(5_000);
          for (let told = take(session); told !== undefined; told = take(session)) {
            shown.apply(told, table);
            session.done('ended');
          }
        }
        // Three failures one after the other are the end of it: somebody must look at that handler.
        if (metrics.liveFailures <= 3) expect(Object.fromEntries(shown.rows)).toEqual(Object.fromEntries(table));
        expect(metrics.liveQueueBytes).toBe(0);
      }),
      { numRuns: 300 },
    );
  });
});
