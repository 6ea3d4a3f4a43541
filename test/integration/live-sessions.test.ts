import { afterEach, describe, expect, it } from 'vitest';
import type { Change } from '../../src/protocol/change.ts';
import { LinkFrame } from '../../src/protocol/link.ts';
import { eventually } from '../support/eventually.ts';
import { LIVE_HANDLER, type LinkWorker, type LinkWorkerSession } from '../support/link-worker.ts';
import { linkAs } from '../support/linked-stage.ts';
import { change, event, LiveStand, subscribe, type Tab } from '../support/live-stand.ts';
import { ManualClock } from '../support/manual-clock.ts';

const stand = new LiveStand();
afterEach(() => stand.end());

const pks = (session: LinkWorkerSession): (number | string)[] =>
  session.live.flatMap(({ changes }) => changes.map(({ pk }) => pk));

/** A session whose link was lost amid its live event `n`; the worker that has it again goes on with `open` of that. */
async function resumedAmid(open: (n: number) => number[]) {
  const clock = new ManualClock();
  const sidecar = await stand.sidecar({ live: { coalesceMs: 0 } }, { clock });
  const before = await stand.worker(sidecar, 'one');
  const { there } = await stand.subscribed(sidecar, [before]);
  before.finishes = false;
  await sidecar.running.live.bus.publish([change(1)]);
  await eventually(() => pks(there)).toEqual([1]);
  const n = there.live[0]?.n ?? 0;
  before.client.end();
  const again = await linkAs(sidecar, 'one');
  again.onAttach = () => ({ kind: 'attached', received: n, sent: there.sent, open: open(n) });
  return { clock, sidecar, n, resumed: await again.session() };
}

describe('a change', () => {
  it('starts the handler of every session that subscribed to it, and of no other', async () => {
    const sidecar = await stand.sidecar();
    const worker = await stand.worker(sidecar, 'one');
    const [all, keyed, acme, orders] = [
      await stand.subscribed(sidecar, [worker]),
      await stand.subscribed(sidecar, [worker], { pks: [7] }),
      await stand.subscribed(sidecar, [worker], { tags: ['tenant:acme'] }),
      await stand.subscribed(sidecar, [worker], { model: 'shop.order' }),
    ];
    await sidecar.running.live.bus.publish([change(1, 'created', { tags: ['tenant:acme'] })]);
    await eventually(() => [pks(all.there), pks(acme.there)]).toEqual([[1], [1]]);
    await sidecar.running.live.bus.publish([change(7, 'deleted', { tags: ['tenant:other'] })]);
    await eventually(() => pks(all.there)).toEqual([1, 7]);
    await eventually(() => [pks(keyed.there), pks(acme.there), pks(orders.there)]).toEqual([[7], [1], []]);
    expect(all.there.packets.find(({ kind }) => kind === 'inject')).toMatchObject({
      name: LIVE_HANDLER,
      payload: {
        live: {
          subscription: 'list',
          changes: [{ model: 'shop.product', action: 'created', pk: 1 }],
          reload: false,
        },
      },
      background: false,
    });
    expect(sidecar.metrics.snapshot().events).toEqual({ none: 0, auth_only: 0, full: 0, worker: 0 });
  });

  it('finds one event of a session under way at most; what comes meanwhile is merged', async () => {
    const sidecar = await stand.sidecar({ live: { coalesceMs: 0 } });
    const worker = await stand.worker(sidecar, 'one');
    const { there } = await stand.subscribed(sidecar, [worker]);
    worker.finishes = false;
    const { bus } = sidecar.running.live;
    await bus.publish([change(1)]);
    await eventually(() => pks(there)).toEqual([1]);
    await bus.publish([change(2, 'created'), change(3), change(2)]);
    await bus.publish([change(3, 'deleted')]);
    await eventually(() => sidecar.metrics.liveQueueBytes).toBeGreaterThan(0);
    expect(there.live).toHaveLength(1);
    there.done(there.live[0]?.n ?? 0);
    await eventually(() => there.live).toHaveLength(2);
    expect(there.live[1]?.changes.map(({ action, pk }) => `${action} ${pk}`)).toEqual(['created 2', 'deleted 3']);
  });

  it('waits behind what the user does', async () => {
    const clock = new ManualClock();
    const sidecar = await stand.sidecar({ limits: { eventsPerSecond: 0 } }, { clock });
    const worker = await stand.worker(sidecar, 'one', { capacity: 1 });
    const { client, there } = await stand.subscribed(sidecar, [worker]);
    const other = await stand.subscribed(sidecar, [worker]);
    worker.finishes = false;
    client.send(event(1));
    const first = await there.packet(2);
    for (const n of [2, 3]) client.send(event(n));
    await eventually(() => sidecar.running.operator.sessions(10).some(({ queued }) => queued.upstream > 0)).toBe(true);
    await sidecar.running.live.bus.publish([change(1)]);
    there.done(first.n);
    there.done((await there.packet(3)).n);
    there.done((await there.packet(4)).n);
    await eventually(() => [...pks(there), ...pks(other.there)]).toEqual([1]);
    const session = pks(there).length > 0 ? there : other.there;
    expect(there.texts.map((text) => /"n":(\d)/.exec(text)?.[1])).toEqual([undefined, '1', '2', '3']);
    session.done(session.live[0]?.n ?? 0);
    await eventually(() => {
      clock.advance(50);
      return [pks(there), pks(other.there)];
    }).toEqual([[1], [1]]);
  });

  it('that was missed has every list of its model read anew', async () => {
    const sidecar = await stand.sidecar();
    const worker = await stand.worker(sidecar, 'one');
    const { there } = await stand.subscribed(sidecar, [worker]);
    await sidecar.running.live.bus.publishGap({ reason: 'reported', model: 'shop.product' });
    await eventually(() => there.live).toMatchObject([{ subscription: 'list', changes: [], reload: true }]);
  });
});

describe('ten thousand changes at once', () => {
  it('cost two hundred lists an event each, few at a time, and hold no user up', async () => {
    // No event is at work for so long that its place is given away.
    const clock = new ManualClock();
    const sidecar = await stand.sidecar({}, { clock });
    const worker = await stand.worker(sidecar, 'one');
    const tabs: Tab[] = [];
    for (let n = 0; n < 200; n++) tabs.push(await stand.subscribed(sidecar, [worker]));
    worker.finishes = false;
    const { bus } = sidecar.running.live;
    for (let batch = 0; batch < 10; batch++) {
      await bus.publish(Array.from({ length: 1_000 }, (_, n) => change(batch * 1_000 + n, 'created')));
    }
    const begun = (): number => tabs.reduce((sum, { there }) => sum + there.live.length, 0);
    // Its end is awaited, and the users have been quiet for a second.
    expect(begun()).toBe(0);
    clock.advance(1_000);
    await eventually(begun).toBe(2);
    // All are told to read anew, which takes no memory.
    expect(sidecar.metrics.liveQueueBytes).toBeLessThan(50_000);
    const user = tabs[150];
    user?.client.send(event(1));
    await eventually(() => user?.there.texts).toHaveLength(2);
    user?.there.done(2);
    expect(begun()).toBe(2);
    worker.finishes = true;
    for (const { there } of tabs) for (const { n } of there.live) there.done(n);
    await eventually(() => {
      clock.advance(50);
      return tabs.every(({ there }) => there.live.at(-1)?.reload === true);
    }).toBe(true);
    expect(begun()).toBe(200);
    expect(sidecar.metrics.liveQueueBytes).toBe(0);
  });
});

describe('subscriptions', () => {
  it('go with their session to another worker, which begins what is new when the old one has ended what it had', async () => {
    const sidecar = await stand.sidecar();
    const [one, two] = [await stand.worker(sidecar, 'one'), await stand.worker(sidecar, 'two')];
    const { there } = await stand.subscribed(sidecar, [one, two]);
    const [from, to] = one.open === 1 ? [one, two] : [two, one];
    from.finishes = false;
    const { bus } = sidecar.running.live;
    await bus.publish([change(1)]);
    await eventually(() => pks(there)).toEqual([1]);
    from.drain(10);
    await eventually(() => sidecar.log()).toContain('a worker stops');
    await bus.publish([change(2)]);
    expect(there.detached).toBeUndefined();
    there.done(there.live[0]?.n ?? 0);
    const moved = await to.session();
    await eventually(() => pks(moved)).toEqual([2]);
    expect(pks(there)).toEqual([1]);
  });

  it('outlive a crash: an event that may be lost comes again as a reload', async () => {
    const sidecar = await stand.sidecar();
    const [one, two] = [await stand.worker(sidecar, 'one'), await stand.worker(sidecar, 'two')];
    const { client, there } = await stand.subscribed(sidecar, [one, two]);
    const [from, to] = one.open === 1 ? [one, two] : [two, one];
    from.finishes = false;
    await sidecar.running.live.bus.publish([change(1)]);
    await eventually(() => pks(there)).toEqual([1]);
    from.cut();
    const moved = await to.session();
    await eventually(() => moved.live).toMatchObject([{ subscription: 'list', changes: [], reload: true }]);
    await sidecar.running.live.bus.publish([change(2)]);
    await eventually(() => pks(moved)).toEqual([2]);
    expect(client.messages.filter((text) => text.includes('__toast'))).toEqual([]);
  });

  it('outlive a lost link: what the worker goes on with is not begun again', async () => {
    const { clock, sidecar, n, resumed } = await resumedAmid((number) => [number]);
    await sidecar.running.live.bus.publish([change(2)]);
    await eventually(() => sidecar.metrics.liveQueueBytes).toBeGreaterThan(0);
    expect(resumed.live).toEqual([]);
    resumed.done(n);
    await eventually(() => {
      clock.advance(50);
      return resumed.live;
    }).toMatchObject([{ changes: [{ pk: 2 }], reload: false }]);
  });

  it('read their lists anew where the end of an event was lost with the link: it may have failed', async () => {
    const { clock, resumed } = await resumedAmid(() => []);
    await eventually(() => {
      clock.advance(50);
      return resumed.live;
    }).toMatchObject([{ changes: [], reload: true }]);
  });

  it('end when the client is cut off, and a connection that takes over begins without', async () => {
    const sidecar = await stand.sidecar();
    const worker = await stand.worker(sidecar, 'one');
    const tab = await stand.tab(sidecar, [worker], { token: 'kept' });
    await subscribe(sidecar, tab);
    tab.client.raw.destroy();
    await eventually(() => sidecar.metrics.subscriptions).toBe(0);
    // The worker may still subscribe for a session whose client is gone.
    tab.there.subscribe({ id: 'late' });
    await sidecar.running.live.bus.publish([change(1)]);
    const back = await stand.tab(sidecar, [worker], { token: 'kept' });
    await subscribe(sidecar, back, { id: 'new' });
    await sidecar.running.live.bus.publish([change(2)]);
    await eventually(() => back.there.live).toMatchObject([{ subscription: 'new', changes: [{ pk: 2 }] }]);
    expect(tab.there.live).toEqual([]);
    expect(sidecar.metrics.subscriptions).toBe(1);
  });

  it('are bounded, and what is too much is counted', async () => {
    const sidecar = await stand.sidecar();
    const worker = await stand.worker(sidecar, 'one');
    const { there } = await stand.tab(sidecar, [worker]);
    for (let n = 0; n < 70; n++) there.subscribe({ id: `list-${n}` });
    await eventually(() => sidecar.metrics.subscriptionsRefused).toBe(6);
    expect(sidecar.metrics.subscriptions).toBe(64);
  });
});

describe('a worker', () => {
  const changesOf = (worker: LinkWorker): Change[] =>
    worker.client.of(LinkFrame.changes).flatMap(({ body }) => body['changes'] as Change[]);

  it('publishes, is told when the bus has it, and hears of what it watches', async () => {
    const sidecar = await stand.sidecar();
    const [one, two] = [await stand.worker(sidecar, 'one'), await stand.worker(sidecar, 'two')];
    const { there } = await stand.subscribed(sidecar, [one, two]);
    two.client.send(LinkFrame.watch, { models: ['shop.product'] });
    const [product, order] = [
      change(1, 'created', { tags: ['user:1'] }),
      change(2, 'updated', { model: 'shop.order' }),
    ];
    // Frames of one link are read in order, those of two are not.
    two.client.send(LinkFrame.changes, { n: 1, changes: [product, order] });
    expect((await two.client.until(LinkFrame.changed)).body).toEqual({ n: 1, ok: true });
    await eventually(() => changesOf(two)).toEqual([product]);
    await eventually(() => pks(there)).toEqual([1]);
    two.client.send(LinkFrame.gap, { n: 2, model: 'shop.product' });
    expect((await two.client.until(LinkFrame.changed, 2)).body).toEqual({ n: 2, ok: true });
    expect((await two.client.until(LinkFrame.gap)).body).toEqual({ model: 'shop.product' });
    await eventually(() => there.live.at(-1)?.reload).toBe(true);
    two.client.send(LinkFrame.watch, { models: [] });
    two.client.send(LinkFrame.changes, { n: 3, changes: [change(3)] });
    await two.client.until(LinkFrame.changed, 3);
    expect([changesOf(two), changesOf(one)]).toEqual([[product], []]);
  });

  it('is told where the bus has not taken it', async () => {
    const sidecar = await stand.sidecar({ live: { bus: 'redis' }, redis: { url: 'redis://127.0.0.1:9' } });
    const worker = await stand.worker(sidecar, 'one');
    worker.client.send(LinkFrame.changes, { n: 7, changes: [change(1)] });
    expect((await worker.client.until(LinkFrame.changed)).body).toEqual({ n: 7, ok: false });
  });

  it('that breaks the protocol of changes loses its link', async () => {
    const sidecar = await stand.sidecar();
    const worker = await stand.worker(sidecar, 'one');
    worker.client.send(LinkFrame.changes, { n: 0, changes: [] });
    expect(await worker.client.untilClosed()).toBe('FRAME');
  });
});

describe('a worker that is killed before it has handed its changes over', () => {
  it('is one gap: every list is read anew; one that leaves in order is none', async () => {
    const sidecar = await stand.sidecar();
    const [orderly, killed] = [
      await stand.worker(sidecar, 'orderly', { publishes: true }),
      await stand.worker(sidecar, 'killed', { publishes: true }),
    ];
    const staying = await stand.worker(sidecar, 'staying');
    orderly.client.send(LinkFrame.goaway, { reason: 'shutdown' });
    await eventually(() => sidecar.running.operator.stats().links).toHaveLength(2);
    orderly.client.end();
    await stand.subscribed(sidecar, [staying, killed]);
    killed.client.end();
    await eventually(() => sidecar.metrics.gaps.count('reported')).toBe(1);
    await eventually(() => [...staying.sessions].some((one) => one.live.some(({ reload }) => reload))).toBe(true);
  });
});
