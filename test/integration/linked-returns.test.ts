import { afterEach, describe, expect, it } from 'vitest';
import type { Composed } from '../support/composed.ts';
import { eventually } from '../support/eventually.ts';
import type { LinkWorker } from '../support/link-worker.ts';
import { cutOff, event, LinkedStage, linkAs, NAMESPACE, numbers, toasts, upTo } from '../support/linked-stage.ts';
import { ManualClock } from '../support/manual-clock.ts';

const stage = new LinkedStage();
afterEach(() => stage.end());

const BOOT = '{"event":{"name":"root.hydrate_and_load","payload":{},"router_data":{}}}';
const WATCH = { name: 'root.note.watch', payload: { every: 1 } };

/** Its link is lost, and the sidecar knows. */
async function lose(sidecar: Composed, worker: LinkWorker): Promise<void> {
  const { length } = sidecar.running.operator.stats().links;
  worker.client.end();
  await eventually(() => sidecar.running.operator.stats().links).toHaveLength(length - 1);
}

/** The worker links again; the test answers what it is asked. */
async function relink(sidecar: Composed): Promise<LinkWorker> {
  const again = await linkAs(sidecar, 'one');
  again.onAttach = () => undefined;
  return again;
}

describe('a worker whose link comes back', () => {
  it.each([
    ['one of them left', 1, async (_: Composed, leave: () => void) => leave()],
    ['another worker came', 2, async (sidecar: Composed) => void (await stage.worker(sidecar, 'another'))],
  ])('gets its sessions again though meanwhile %s', async (_, left, meanwhile) => {
    // Nobody is given up by time.
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const worker = await stage.worker(sidecar, 'one');
    const clients = [await stage.enter(sidecar, 'a'), await stage.enter(sidecar, 'b')];
    await lose(sidecar, worker);
    await meanwhile(sidecar, () => clients[1]?.send('1'));
    await eventually(() => sidecar.running.operator.sessions(9).length).toBe(left);
    const again = await relink(sidecar);
    expect((await again.session()).request).toMatchObject({
      session: worker.sessions[0]?.request.session,
      resume: true,
    });
  });

  it('is asked for the whole state where messages were lost with the second link, too', async () => {
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const worker = await stage.worker(sidecar, 'one');
    const client = await stage.enter(sidecar);
    const first = await worker.session();
    for (const n of upTo(5)) first.send(event(n));
    await client.until(() => client.messages.some((text) => text.includes('"n":4')));
    await lose(sidecar, worker);
    const second = await relink(sidecar);
    const resumed = await second.session();
    expect(resumed.request.seen).toBe(first.sent);
    resumed.answer({ kind: 'attached', received: 1, sent: first.sent });
    resumed.send(event(5));
    await client.until(() => client.messages.some((text) => text.includes('"n":5')));
    expect(resumed.packets).toEqual([]);
    await lose(sidecar, second);
    const third = await relink(sidecar);
    const last = await third.session();
    expect(last.request.seen).toBe(1);
    last.answer({ kind: 'attached', received: 1, sent: 2 });
    await eventually(() => last.packets).toMatchObject([{ kind: 'resync' }]);
  });

  it('is asked for the whole state where the link between was lost with the answer to it', async () => {
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const worker = await stage.worker(sidecar, 'one');
    await stage.enter(sidecar);
    const { sent } = await worker.session();
    await lose(sidecar, worker);
    const second = await relink(sidecar);
    await second.session();
    await lose(sidecar, second);
    const third = await relink(sidecar);
    const last = await third.session();
    last.answer({ kind: 'attached', received: 1, sent });
    await eventually(() => last.packets).toMatchObject([{ kind: 'resync' }]);
  });

  it('connects a client anew where the acknowledgement of its CONNECT was lost with the link', async () => {
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const worker = await stage.worker(sidecar, 'one');
    worker.connects = worker.finishes = false;
    const client = await stage.client(sidecar);
    client.send(`40${NAMESPACE},`);
    await eventually(() => worker.sessions[0]?.texts).toEqual([`40${NAMESPACE},`]);
    await lose(sidecar, worker);
    const again = await relink(sidecar);
    const resumed = await again.session();
    resumed.answer({ kind: 'attached', received: 1, sent: 1, open: [1] });
    const anew = await again.session(2);
    expect(await resumed.untilDetached()).toBe('move');
    expect(anew.request).toMatchObject({ takeover: true, resume: false });
    anew.answer({ kind: 'attached', received: 0, sent: 0 });
    await client.until(() => client.messages.some((text) => text.includes('"sid"')));
    expect(anew.texts).toEqual([`40${NAMESPACE},`]);
    expect(toasts(client)).toEqual([]);
  });

  it('and which is about to stop gets all of them again, and then gives them up', async () => {
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const worker = await stage.worker(sidecar, 'one');
    // More than are attached at a time.
    for (const n of upTo(9)) await stage.enter(sidecar, `tab-${n}`);
    const other = await stage.worker(sidecar, 'other');
    await lose(sidecar, worker);
    const again = await relink(sidecar);
    await again.session(8);
    again.drain(10);
    await eventually(() =>
      sidecar.running.operator.stats().links.find(({ instance }) => instance === 'one'),
    ).toMatchObject({
      draining: true,
    });
    for (const session of again.sessions) session.answer({ kind: 'attached', received: 1, sent: 1 });
    const last = await again.session(9);
    expect(last.request.resume).toBe(true);
    last.answer({ kind: 'attached', received: 1, sent: 1 });
    await eventually(() => again.sessions.map(({ detached }) => detached)).toEqual(upTo(9).map(() => 'move'));
    await eventually(() => other.open).toBe(9);
  });
});

describe('a tab that comes again while its session moves', () => {
  it('has what the worker stopped started again, and what has not run sent again', async () => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({}, { clock });
    const one = await stage.worker(sidecar, 'one');
    const first = await stage.enter(sidecar);
    const session = await one.session();
    session.background('b1', WATCH);
    const two = await stage.worker(sidecar, 'two');
    one.detaches = one.finishes = false;
    first.send(event(0));
    await eventually(() => numbers(session)).toEqual([0]);
    // No time to finish anything.
    one.drain(0.5);
    await eventually(() => {
      clock.advance(1);
      return session.detached;
    }).toBe('move');
    await cutOff(sidecar, first);
    const second = await stage.client(sidecar);
    second.send(`40${NAMESPACE},${BOOT}`);
    await eventually(() => sidecar.running.operator.sessions(9).length).toBe(2);
    session.end('move', [WATCH], [2]);
    const next = await two.session();
    await eventually(() => numbers(next)).toEqual([0]);
    await eventually(() => next.packets.find(({ kind }) => kind === 'inject')).toMatchObject({
      ...WATCH,
      background: true,
    });
    expect(toasts(second)).toEqual([]);
  });
});
