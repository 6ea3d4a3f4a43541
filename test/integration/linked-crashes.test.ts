import { afterEach, describe, expect, it } from 'vitest';
import type { Composed } from '../support/composed.ts';
import { eventually } from '../support/eventually.ts';
import type { LinkWorkerSession, WorkerPacket } from '../support/link-worker.ts';
import { cutOff, event, LinkedStage, linkAs, NAMESPACE, numbers, toasts } from '../support/linked-stage.ts';
import { ManualClock } from '../support/manual-clock.ts';

const stage = new LinkedStage();
afterEach(() => stage.end());

const WATCH = { name: 'root.note.watch', payload: { every: 1 } };
const BOOT = '{"event":{"name":"root.hydrate_and_load","payload":{},"router_data":{}}}';

const unlinked = (sidecar: Composed, left: number): Promise<void> =>
  eventually(() => sidecar.running.operator.stats().links).toHaveLength(left);

const restored = ({ packets }: LinkWorkerSession): WorkerPacket[] => packets.filter(({ kind }) => kind !== 'client');

describe('a client that comes back while the link of its worker is lost', () => {
  it('is told of the event that may have run, once', async () => {
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const one = await stage.worker(sidecar, 'one');
    const first = await stage.enter(sidecar);
    const session = await one.session();
    one.finishes = false;
    first.send(event(0));
    await eventually(() => numbers(session)).toEqual([0]);
    const two = await stage.worker(sidecar, 'two');
    one.client.socket.resetAndDestroy();
    await unlinked(sidecar, 1);
    await cutOff(sidecar, first);
    const second = await stage.enter(sidecar);
    await eventually(() => toasts(second)).toHaveLength(1);
    expect(numbers(await two.session())).toEqual([]);
    expect(sidecar.metrics.losses.count('upstream_lost')).toBe(1);
  });

  it('has the event run that its worker had not received', async () => {
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const one = await stage.worker(sidecar, 'one');
    const first = await stage.enter(sidecar);
    const session = await one.session();
    one.receives = false;
    first.send(event(0));
    first.send(event(1));
    await eventually(() => numbers(session)).toEqual([0, 1]);
    const two = await stage.worker(sidecar, 'two');
    one.cut();
    await unlinked(sidecar, 1);
    await cutOff(sidecar, first);
    first.end();
    const second = await stage.enter(sidecar);
    const next = await two.session();
    await eventually(() => numbers(next)).toEqual([0, 1]);
    expect(toasts(second)).toEqual([]);
    expect(sidecar.metrics.losses.count('upstream_lost')).toBe(0);
  });

  it('is told as well where the link is lost while its worker lets go', async () => {
    const sidecar = await stage.sidecar();
    const one = await stage.worker(sidecar, 'one');
    const first = await stage.enter(sidecar);
    const session = await one.session();
    one.finishes = one.detaches = false;
    first.send(event(0));
    await eventually(() => numbers(session)).toEqual([0]);
    await stage.worker(sidecar, 'two');
    await cutOff(sidecar, first);
    const second = await stage.client(sidecar);
    second.send(`40${NAMESPACE},`);
    expect(await session.untilDetached()).toBe('takeover');
    one.cut();
    await eventually(() => toasts(second)).toHaveLength(1);
    expect(sidecar.metrics.losses.count('upstream_lost')).toBe(1);
  });

  it('has its background handlers started again, but for those that its page starts itself', async () => {
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const one = await stage.worker(sidecar, 'one');
    const first = await stage.enter(sidecar);
    const session = await one.session();
    session.background('b1', WATCH);
    session.background('b2', { name: 'root.note.on_load', payload: {} });
    session.send(`42${NAMESPACE},["event",{"delta":{}}]`);
    await first.until(() => first.messages.some((text) => text.includes('"delta"')));
    const two = await stage.worker(sidecar, 'two');
    one.cut();
    await unlinked(sidecar, 1);
    await cutOff(sidecar, first);
    two.finishes = false;
    const second = await stage.client(sidecar);
    await second.connect(NAMESPACE, BOOT);
    const next = await two.session();
    expect(restored(next)).toEqual([]);
    next.background('b3', { name: 'root.note.on_load', payload: {} });
    next.done(1);
    await eventually(() => restored(next)).toMatchObject([{ kind: 'inject', ...WATCH }]);
    expect(toasts(second)).toEqual([]);
  });

  it('never: what its worker had and nobody can tell of is counted', async () => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({ sessionRetention: 1 }, { clock });
    const one = await stage.worker(sidecar, 'one');
    const first = await stage.enter(sidecar);
    const session = await one.session();
    one.finishes = one.detaches = false;
    first.send(event(0));
    await eventually(() => numbers(session)).toEqual([0]);
    await cutOff(sidecar, first);
    clock.advance(1_000);
    expect(await session.untilDetached()).toBe('lost');
    one.cut();
    await eventually(() => sidecar.metrics.losses.count('upstream_lost')).toBe(1);
  });
});

describe('a worker that dies before it has brought a session back', () => {
  it('leaves the whole state and the background handlers to the next one', async () => {
    const sidecar = await stage.sidecar();
    const one = await stage.worker(sidecar, 'one');
    const client = await stage.enter(sidecar);
    const session = await one.session();
    session.background('b1', WATCH);
    one.finishes = false;
    client.send(event(0));
    await eventually(() => numbers(session)).toEqual([0]);
    const two = await stage.worker(sidecar, 'two');
    two.finishes = false;
    one.cut();
    const moved = await two.session();
    await eventually(() => restored(moved)).toHaveLength(2);
    expect(sidecar.running.operator.sessions(1)[0]?.work).toBe('busy');
    const three = await stage.worker(sidecar, 'three');
    two.cut();
    const again = await three.session();
    await eventually(() => restored(again)).toMatchObject([{ kind: 'inject', ...WATCH }, { kind: 'resync' }]);
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.work).toBe('idle');
    expect(toasts(client)).toHaveLength(1);
  });

  it('and has begun a background handler already: it is started once more, not twice', async () => {
    const sidecar = await stage.sidecar();
    const one = await stage.worker(sidecar, 'one');
    const client = await stage.enter(sidecar);
    (await one.session()).background('b1', WATCH);
    const two = await stage.worker(sidecar, 'two');
    two.finishes = false;
    await eventually(() => sidecar.running.operator.stats().links).toHaveLength(2);
    one.cut();
    const moved = await two.session();
    await eventually(() => restored(moved)).toHaveLength(2);
    moved.background('b2', WATCH);
    moved.send(`42${NAMESPACE},["event",{"delta":{}}]`);
    await client.until(() => client.messages.some((text) => text.includes('"delta"')));
    const three = await stage.worker(sidecar, 'three');
    two.cut();
    const again = await three.session();
    await eventually(() => restored(again)).toMatchObject([{ kind: 'inject', ...WATCH }, { kind: 'resync' }]);
  });

  it('leaves it to itself where its link is back: what it had not received comes again', async () => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({}, { clock });
    const one = await stage.worker(sidecar, 'one');
    await stage.enter(sidecar);
    (await one.session()).background('b1', WATCH);
    const two = await stage.worker(sidecar, 'two');
    two.receives = false;
    one.client.socket.resetAndDestroy();
    await unlinked(sidecar, 1);
    clock.advance(500);
    const moved = await two.session();
    await eventually(() => restored(moved)).toHaveLength(2);
    const [connect] = moved.packets;
    two.client.socket.resetAndDestroy();
    await unlinked(sidecar, 0);
    const back = await linkAs(sidecar, 'two');
    back.onAttach = () => ({ kind: 'attached', received: connect?.n ?? 0, sent: moved.sent });
    const resumed = await back.session();
    await eventually(() => restored(resumed)).toMatchObject([{ kind: 'inject', ...WATCH }, { kind: 'resync' }]);
  });
});
