import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import type { LinkWorker, LinkWorkerSession } from '../support/link-worker.ts';
import { cutOff, event, LinkedStage, NAMESPACE, numbers, upTo } from '../support/linked-stage.ts';
import { ManualClock } from '../support/manual-clock.ts';

const stage = new LinkedStage();
afterEach(() => stage.end());

const tokenOf = ({ request }: LinkWorkerSession): string | null =>
  new URL(request.target, 'http://worker').searchParams.get('token');

/** The worker that has sessions, and the other one. */
const ordered = (one: LinkWorker, two: LinkWorker): [LinkWorker, LinkWorker] =>
  one.open > 0 ? [one, two] : [two, one];

describe('a tab that got a token of its own', () => {
  it('is moved with that one, and leaves the other tab what it has', async () => {
    const sidecar = await stage.sidecar();
    const workers = [await stage.worker(sidecar, 'one'), await stage.worker(sidecar, 'two')] as const;
    const first = await stage.enter(sidecar);
    const [from, to] = ordered(...workers);
    from.connects = false;
    const second = await stage.client(sidecar);
    second.send(`40${NAMESPACE},`);
    const shared = await from.session(2);
    shared.send(`42${NAMESPACE},["new_token","fresh"]`);
    shared.send(`40${NAMESPACE},{"sid":"x"}`);
    await second.until(() => second.messages.some((text) => text.includes('fresh')), 'new_token');
    from.cut();
    await to.session(2);
    const taken = to.sessions.map((session) => [tokenOf(session), session.request.takeover] as const);
    expect(new Map(taken)).toEqual(
      new Map([
        ['fresh', true],
        ['tab', true],
      ]),
    );
    expect([first.closed, second.closed]).toEqual([undefined, undefined]);
  });
});

describe('a tab that comes again', () => {
  const hydrate = `40${NAMESPACE},{"event":{"name":"root.hydrate","payload":{},"router_data":{}}}`;
  const connects = ({ texts }: LinkWorkerSession): number => texts.filter((text) => text.startsWith('40')).length;

  it('before any worker took its first connection connects once', async () => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({}, { clock });
    const first = await stage.client(sidecar);
    first.send(hydrate);
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.queued.upstream ?? 0).toBeGreaterThan(0);
    // Half open: its sidecar hears nothing of its end.
    first.answersPings = false;
    const second = await stage.client(sidecar);
    second.send(hydrate);
    await eventually(() => sidecar.running.operator.sessions(2).every(({ queued }) => queued.upstream > 0)).toBe(true);
    clock.advance(2_000);
    await eventually(() => sidecar.running.operator.stats().sessions).toBe(1);
    const worker = await stage.worker(sidecar, 'one');
    await second.until(() => second.messages.some((text) => text.startsWith('0/')), 'CONNECT');
    second.send(event(1));
    const session = await worker.session();
    await eventually(() => numbers(session)).toEqual([1]);
    expect(connects(session)).toBe(1);
    expect(second.closed).toBeUndefined();
  });

  it('and again before the worker let go of the first has what that one had not delivered, once', async () => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({}, { clock });
    const old = await stage.worker(sidecar, 'old');
    const first = await stage.enter(sidecar);
    const session = await old.session();
    old.finishes = false;
    first.send(event(0));
    await eventually(() => numbers(session)).toEqual([0]);
    old.drain(10);
    await eventually(() => sidecar.log()).toContain('a worker stops');
    first.send(event(1));
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.queued.upstream ?? 0).toBeGreaterThan(0);
    first.raw.destroy();
    await eventually(() => first.closed).toBeDefined();
    old.detaches = false;
    const second = await stage.client(sidecar);
    second.send(hydrate);
    expect(await session.untilDetached()).toBe('takeover');
    second.answersPings = false;
    const third = await stage.client(sidecar);
    third.send(hydrate);
    await eventually(() =>
      sidecar.running.operator.sessions(9).filter(({ queued }) => queued.upstream > 0),
    ).toHaveLength(2);
    clock.advance(2_000);
    session.send(`42${NAMESPACE},["event",{"delta":{"said":1}}]`);
    session.end('takeover');
    const next = await stage.worker(sidecar, 'next');
    await third.until(() => third.messages.some((text) => text.includes('"said":1')), 'what was said');
    const taken = await next.session();
    await eventually(() => numbers(taken)).toEqual([1]);
    expect([next.sessions.length, connects(taken), taken.request.takeover]).toEqual([1, 1, true]);
    expect(third.messages.filter((text) => text.startsWith('0/'))).toHaveLength(1);
    await second.untilClosed();
  });

  it('after its DISCONNECT begins anew, however its transport ended', async () => {
    const sidecar = await stage.sidecar();
    const worker = await stage.worker(sidecar, 'one');
    const first = await stage.enter(sidecar);
    const session = await worker.session();
    first.send(`41${NAMESPACE},`);
    await eventually(() => session.texts).toContain(`41${NAMESPACE},`);
    first.raw.destroy();
    await eventually(() => sidecar.running.operator.stats().sessions).toBe(0);
    expect(sidecar.metrics.closed.count('client_disconnect')).toBe(1);
    expect(await session.untilDetached()).toBe('closed');
  });

  it('that disconnects and connects once more on its transport is kept as before', async () => {
    const sidecar = await stage.sidecar();
    const worker = await stage.worker(sidecar, 'one');
    const first = await stage.enter(sidecar);
    const session = await worker.session();
    for (const packet of [`41${NAMESPACE},`, `40${NAMESPACE},`]) first.send(packet);
    await eventually(() => session.texts.length).toBe(3);
    await first.until(() => first.messages.filter((text) => text.startsWith('0/')).length === 2, 'CONNECT');
    first.raw.destroy();
    await eventually(() => first.closed).toBeDefined();
    const second = await stage.enter(sidecar);
    expect((await worker.session(2)).request.takeover).toBe(true);
    second.end();
  });

  it('is let go of before sessions that only end', async () => {
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const worker = await stage.worker(sidecar, 'one');
    const first = await stage.enter(sidecar);
    const leaving = await stage.enter(sidecar, 'leaves');
    const [held, other] = [await worker.session(1), await worker.session(2)];
    // Eight attach: nobody else has a turn until one of them is refused. Whoever then is to go keeps that turn: it is not answered.
    worker.onAttach = () => undefined;
    worker.detaches = false;
    for (const n of upTo(8)) (await stage.client(sidecar, `stuck-${n}`)).send(`40${NAMESPACE},`);
    const stuck = await worker.session(10);
    leaving.send(`41${NAMESPACE},`);
    leaving.socket.close(1000);
    await eventually(() => sidecar.running.operator.stats().sessions).toBe(9);
    first.raw.destroy();
    await eventually(() => first.closed).toBeDefined();
    (await stage.client(sidecar)).send(`40${NAMESPACE},`);
    // Its CONNECT is here and waits for the former session to go.
    const comes = (): number =>
      sidecar.running.operator.sessions(20).filter(({ work, queued }) => work === 'away' && queued.upstream > 0).length;
    await eventually(comes).toBe(1);
    stuck.answer({ kind: 'refused', error: 'failed', instance: null, message: '' });
    expect(await held.untilDetached()).toBe('takeover');
    expect(other.detached).toBeUndefined();
  });

  it('finds its place again where there are as many sessions as may be, once', async () => {
    const sidecar = await stage.sidecar({ limits: { sessions: 2 } });
    await stage.worker(sidecar, 'one');
    const first = await stage.enter(sidecar);
    await stage.enter(sidecar, 'other');
    first.raw.destroy();
    await eventually(() => first.closed).toBeDefined();
    await expect(stage.client(sidecar, 'stranger')).rejects.toThrow('503');
    const opened = await stage.client(sidecar);
    await expect(stage.client(sidecar)).rejects.toThrow('503');
    await opened.connect();
    expect(sidecar.running.operator.stats().sessions).toBe(2);
  });

  it('no more leaves nothing behind, though its worker goes on talking', async () => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({ sessionRetention: 2 }, { clock });
    const worker = await stage.worker(sidecar, 'one');
    worker.detaches = false;
    const client = await stage.enter(sidecar);
    const session = await worker.session();
    await cutOff(sidecar, client);
    session.send(`42${NAMESPACE},["event",{"delta":{"kept":1}}]`);
    await eventually(() => sidecar.running.operator.stats().queuedBytes).toBeGreaterThan(0);
    clock.advance(2_000);
    expect(await session.untilDetached()).toBe('lost');
    expect(sidecar.running.operator.stats().queuedBytes).toBe(0);
    session.send(`42${NAMESPACE},["event",{"delta":{"late":1}}]`);
    const other = await stage.enter(sidecar, 'other');
    other.send(event(1));
    await eventually(() => worker.sessions[1]?.texts.length).toBe(2);
    expect(sidecar.running.operator.stats().queuedBytes).toBe(0);
  });
});

describe('a session whose worker is gone', () => {
  it('tells the next worker who had it, and ends where its tab lives in another session', async () => {
    const sidecar = await stage.sidecar();
    const one = await stage.worker(sidecar, 'one');
    const client = await stage.enter(sidecar);
    const two = await stage.worker(sidecar, 'two');
    two.onAttach = () => ({ kind: 'refused', error: 'taken', instance: null, message: '' });
    one.cut();
    const moved = await two.session();
    expect(moved.request).toMatchObject({ takeover: true, from: 'tokens-of-one' });
    await client.untilClosed();
    expect(two.sessions).toHaveLength(1);
  });
});

describe('a tab that lives at a worker that stops', () => {
  it('is asked where it goes, before another connection may take its place', async () => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({}, { clock });
    const stopping = await stage.worker(sidecar, 'stopping');
    stopping.drain(60);
    await eventually(() => sidecar.log()).toContain('a worker stops');
    const two = await stage.worker(sidecar, 'two');
    // Another sidecar has the tab there.
    two.onAttach = () => ({ kind: 'refused', error: 'elsewhere', instance: 'tokens-of-stopping', message: '' });
    const client = await stage.client(sidecar);
    client.send(`40${NAMESPACE},`);
    await two.session();
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.work).toBe('away');
    clock.advance(400);
    expect(two.sessions).toHaveLength(1);
    // It has let go meanwhile.
    two.onAttach = () => ({ kind: 'attached', received: 0, sent: 0 });
    clock.advance(100);
    expect((await two.session(2)).request.takeover).toBe(false);
    await client.until(() => client.messages.some((text) => text.startsWith('0/')), 'CONNECT');
    expect(stopping.sessions).toEqual([]);
  });
});
