import { afterEach, describe, expect, it } from 'vitest';
import type { Composed } from '../support/composed.ts';
import type { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import type { LinkWorker, LinkWorkerSession } from '../support/link-worker.ts';
import { cutOff, event, LinkedStage, linkAs, NAMESPACE, numbers, toasts, upTo } from '../support/linked-stage.ts';
import { ManualClock } from '../support/manual-clock.ts';

const stage = new LinkedStage();
afterEach(() => stage.end());

describe('a session on a link', () => {
  it('carries both ways, with the handshake as a direct connection has it', async () => {
    const sidecar = await stage.sidecar();
    const worker = await stage.worker(sidecar, 'one');
    const client = await stage.client(sidecar, 'tab', {
      headers: { Cookie: 'sessionid=abc' },
      protocols: ['0.10.1'],
    });
    await client.connect();
    const session = await worker.session();
    expect(session.request).toMatchObject({ protocol: '0.10.1', takeover: false, force: false });
    expect(new URL(session.request.target, 'http://worker').searchParams.get('token')).toBe('tab');
    expect(Object.fromEntries(session.request.headers)).toMatchObject({ cookie: 'sessionid=abc' });
    for (const n of upTo(20)) client.send(event(n));
    await eventually(() => numbers(session)).toEqual(upTo(20));
    session.send(`42${NAMESPACE},["event",{"delta":{"a":NaN}}]`);
    await client.until(() => client.messages.some((text) => text.includes('NaN')), 'the update');
    client.send('41/_event,');
    client.socket.close(1000);
    expect(await session.untilDetached()).toBe('closed');
  });

  it('gets to a backend of its own where no worker takes sessions, and to a worker as soon as one does', async () => {
    const sidecar = await stage.sidecar();
    const client = await stage.client(sidecar, 'early');
    client.send(`40${NAMESPACE},`);
    const worker = await stage.worker(sidecar, 'late');
    await client.until(() => client.messages.some((text) => text.startsWith(`0${NAMESPACE},`)), 'CONNECT');
    expect(worker.open).toBe(1);
  });

  it('waits in line where a worker has enough to do, one event of each session a turn', async () => {
    // No event is at work for so long that its place is given away.
    const sidecar = await stage.sidecar({ limits: { eventsPerSecond: 0 } }, { clock: new ManualClock() });
    const worker = await stage.worker(sidecar, 'one', { capacity: 2 });
    const busy = await stage.enter(sidecar, 'busy');
    const other = await stage.enter(sidecar, 'other');
    worker.finishes = false;
    const [first, second] = [await worker.session(1), await worker.session(2)];
    for (const n of upTo(10)) busy.send(event(n));
    await eventually(() => numbers(first)).toEqual([0, 1]);
    for (const n of upTo(3)) other.send(event(n));
    await eventually(() => sidecar.running.operator.sessions(10).every(({ queued }) => queued.upstream > 0)).toBe(true);
    const finish = async (session: LinkWorkerSession, n: number): Promise<void> => {
      const packets = session.packets.filter(
        (packet) => packet.kind === 'client' && String(packet.frame).includes(`"n":${n}}`),
      );
      expect(packets).toHaveLength(1);
      session.done(packets[0]?.n ?? 0);
    };
    await finish(first, 0);
    await eventually(() => numbers(first)).toEqual([0, 1, 2]);
    await finish(first, 1);
    await eventually(() => numbers(second)).toEqual([0]);
    await finish(first, 2);
    await eventually(() => numbers(first)).toEqual([0, 1, 2, 3]);
  });
});

describe('many sessions that end at once', () => {
  it('leave their worker a few at a time, so that it serves the others meanwhile', async () => {
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const worker = await stage.worker(sidecar, 'one');
    const clients: EngineClient[] = [];
    for (const n of upTo(12)) clients.push(await stage.enter(sidecar, `tab-${n}`));
    worker.detaches = false;
    const leaving = (): LinkWorkerSession[] => worker.sessions.filter(({ detached }) => detached !== undefined);
    for (const client of clients.slice(1)) client.socket.close(1000);
    await eventually(() => leaving().length).toBe(8);
    clients[0]?.send(event(1));
    await eventually(() => numbers(worker.sessions[0] as LinkWorkerSession)).toEqual([1]);
    expect(leaving()).toHaveLength(8);
    for (const session of leaving()) session.end('closed');
    await eventually(() => leaving().length).toBe(11);
  });
});

describe('a second sidecar', () => {
  it('is warned of where live changes go over the memory of one', async () => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({}, { clock });
    const worker = await stage.worker(sidecar, 'one');
    worker.stats({ sessions: 0, inFlight: 0, lagMs: 0, rss: 0, links: 2 });
    await eventually(() => {
      clock.advance(5_000);
      return sidecar.log();
    }).toContain('several sidecars');
  });
});

describe('a worker that stops', () => {
  it('has its sessions moved: what it has is finished, what comes meanwhile waits, nothing is lost or run twice', async () => {
    const sidecar = await stage.sidecar();
    const [old, next] = [await stage.worker(sidecar, 'old'), await stage.worker(sidecar, 'next')];
    old.finishes = next.finishes = true;
    const client = await stage.enter(sidecar);
    const [from, to] = old.open === 1 ? [old, next] : [next, old];
    from.finishes = false;
    from.cancelled = [{ name: 'root.note.watch', payload: { every: 1 } }];
    const session = await from.session();
    client.send(event(0));
    await eventually(() => numbers(session)).toEqual([0]);
    from.drain(10);
    await eventually(() => sidecar.log()).toContain('a worker stops');
    for (const n of [1, 2, 3]) client.send(event(n));
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.queued.upstream ?? 0).toBeGreaterThan(0);
    expect(session.detached).toBeUndefined();
    session.send(`42${NAMESPACE},["event",{"delta":{"late":1}}]`);
    session.done((await session.packet(2)).n);
    expect(await session.untilDetached()).toBe('move');
    const moved = await to.session();
    expect(moved.request).toMatchObject({ takeover: true, session: session.request.session });
    await eventually(() => numbers(moved)).toEqual([1, 2, 3]);
    expect(moved.texts[0]).toBe(`40${NAMESPACE},{}`);
    expect(moved.packets.filter(({ kind }) => kind === 'inject')).toMatchObject([
      { name: 'root.note.watch', payload: { every: 1 }, background: true },
    ]);
    expect(moved.packets.some(({ kind }) => kind === 'resync')).toBe(false);
    expect(client.messages.filter((text) => text.startsWith(`0${NAMESPACE},`))).toHaveLength(1);
    expect(client.messages.some((text) => text.includes('"late":1'))).toBe(true);
    expect(toasts(client)).toEqual([]);
    expect(client.closed).toBeUndefined();
    expect(sidecar.metrics.moves.count('drained')).toBe(1);
  });

  it('gives back what it has not begun when its time is over, and the client is told of what it has', async () => {
    const sidecar = await stage.sidecar();
    const [one, two] = [await stage.worker(sidecar, 'one'), await stage.worker(sidecar, 'two')];
    const client = await stage.enter(sidecar);
    const [from, to] = one.open === 1 ? [one, two] : [two, one];
    from.finishes = false;
    from.detaches = false;
    for (const n of [0, 1]) client.send(event(n));
    const session = await from.session();
    await eventually(() => numbers(session)).toEqual([0, 1]);
    from.drain(1);
    expect(await session.untilDetached()).toBe('move');
    session.end('move', [], [3]);
    const moved = await to.session();
    await eventually(() => numbers(moved)).toEqual([1]);
    await eventually(() => toasts(client)).toHaveLength(1);
    expect(moved.packets.some(({ kind }) => kind === 'resync')).toBe(true);
  });

  it('gives up a few sessions at a time, each of them only when the one before is elsewhere; the others are served', async () => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({}, { clock });
    const old = await stage.worker(sidecar, 'old');
    const clients: EngineClient[] = [];
    for (const n of upTo(12)) clients.push(await stage.enter(sidecar, `tab-${n}`));
    const next = await stage.worker(sidecar, 'next');
    next.onAttach = () => undefined;
    const leaving = (): number => old.sessions.filter(({ detached }) => detached !== undefined).length;
    old.drain(10);
    await eventually(() => next.sessions.length).toBe(8);
    for (const client of clients) client.send(event(1));
    const stayed = old.sessions.filter(({ detached }) => detached === undefined);
    expect(stayed).toHaveLength(4);
    await eventually(() => stayed.every((session) => numbers(session).length === 1)).toBe(true);
    next.sessions[0]?.answer({ kind: 'attached', received: 0, sent: 0 });
    await eventually(leaving).toBe(9);
    // Half of the time is over: whoever is left goes at once.
    clock.advance(5_000);
    await eventually(leaving).toBe(12);
  });

  it('keeps its sessions waiting where there is no other, for the one that comes', async () => {
    const sidecar = await stage.sidecar();
    const old = await stage.worker(sidecar, 'old');
    const client = await stage.enter(sidecar);
    old.drain(10);
    expect(await (await old.session()).untilDetached()).toBe('move');
    old.leave();
    client.send(event(7));
    const next = await stage.worker(sidecar, 'next');
    const session = await next.session();
    await eventually(() => numbers(session)).toEqual([7]);
    expect(client.closed).toBeUndefined();
  });
});

describe('a worker that is killed', () => {
  it('leaves its sessions to another: what it had not received is sent again, what it had is told', async () => {
    const sidecar = await stage.sidecar({
      tiers: { rules: [{ state: 'shop.note.Note', handler: 'save', tier: 'none' }] },
    });
    const [one, two] = [await stage.worker(sidecar, 'one'), await stage.worker(sidecar, 'two')];
    const client = await stage.enter(sidecar);
    const [from, to] = one.open === 1 ? [one, two] : [two, one];
    const session = await from.session();
    from.receives = false;
    session.background('b1', { name: 'root.note.watch', payload: { every: 1 } });
    session.background('b2', { name: 'root.note.once', payload: {} });
    session.background('b2', 'ended');
    for (const n of [0, 1, 2]) client.send(event(n));
    await eventually(() => numbers(session)).toEqual([0, 1, 2]);
    session.received(2);
    from.cut();
    const moved = await to.session();
    expect(moved.request.takeover).toBe(true);
    await eventually(() => numbers(moved)).toEqual([1, 2]);
    await eventually(() => toasts(client)).toHaveLength(1);
    expect(toasts(client)[0]).toContain('interrupted');
    expect(moved.packets.filter(({ kind }) => kind !== 'client')).toMatchObject([
      { kind: 'inject', name: 'root.note.watch', background: true },
      { kind: 'resync' },
    ]);
    expect(client.closed).toBeUndefined();
    expect(sidecar.metrics.losses.count('upstream_lost')).toBe(1);
  });

  it('leaves many sessions to another: those whose users wait come first', async () => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({}, { clock });
    const killed = await stage.worker(sidecar, 'killed');
    const clients: EngineClient[] = [];
    for (const n of upTo(12)) clients.push(await stage.enter(sidecar, `tab-${n}`));
    const next = await stage.worker(sidecar, 'next');
    next.onAttach = () => undefined;
    killed.cut();
    await eventually(() => sidecar.running.operator.stats().links.length).toBe(1);
    clock.advance(500);
    await eventually(() => next.sessions.length).toBe(8);
    const attached = (): (string | null)[] =>
      next.sessions.map(({ request }) => new URL(request.target, 'http://worker').searchParams.get('token'));
    const idle = upTo(12).filter((n) => !attached().includes(`tab-${n}`));
    const last = idle.at(-1) as number;
    clients[last]?.send(event(1));
    await eventually(() => sidecar.running.operator.sessions(20).some(({ queued }) => queued.upstream > 0)).toBe(true);
    next.sessions[0]?.answer({ kind: 'attached', received: 0, sent: 0 });
    await eventually(() => attached().length).toBe(9);
    expect(attached()[8]).toBe(`tab-${last}`);
  });

  it('has events repeated that a rule calls safe, in their order', async () => {
    const sidecar = await stage.sidecar({ tiers: { rules: [{ state: 'shop.note.Note', retry: 'safe' }] } });
    const [one, two] = [await stage.worker(sidecar, 'one'), await stage.worker(sidecar, 'two')];
    const client = await stage.enter(sidecar);
    const [from, to] = one.open === 1 ? [one, two] : [two, one];
    from.finishes = false;
    for (const n of [0, 1, 2]) client.send(event(n));
    const session = await from.session();
    await eventually(() => numbers(session)).toEqual([0, 1, 2]);
    from.cut();
    const moved = await to.session();
    await eventually(() => numbers(moved)).toEqual([0, 1, 2]);
    expect(toasts(client)).toEqual([]);
  });

  it('while a page loads leaves the load to another', async () => {
    const sidecar = await stage.sidecar();
    const [one, two] = [await stage.worker(sidecar, 'one'), await stage.worker(sidecar, 'two')];
    one.receives = two.receives = false;
    one.connects = two.connects = false;
    const client = await stage.client(sidecar, 'tab');
    client.send(`40${NAMESPACE},{"event":{"name":"root.hydrate","payload":{},"router_data":{}},"state_schema":"s1"}`);
    await eventually(() => one.sessions.length + two.sessions.length).toBe(1);
    const [from, to] = one.sessions.length === 1 ? [one, two] : [two, one];
    const session = await from.session();
    await eventually(() => session.texts).toHaveLength(1);
    session.received(1);
    to.connects = true;
    from.cut();
    const moved = await to.session();
    await eventually(() => moved.texts).toHaveLength(1);
    expect(moved.texts[0]).toContain('root.hydrate');
    await client.until(() => client.messages.some((text) => text.startsWith(`0${NAMESPACE},`)), 'CONNECT');
    expect(moved.packets.some(({ kind }) => kind === 'resync')).toBe(false);
  });

  it('and whose state is gone with it has its clients begin anew', async () => {
    const sidecar = await stage.sidecar();
    const worker = await stage.worker(sidecar, 'one', { persistent: false });
    const client = await stage.enter(sidecar);
    worker.cut();
    await client.untilClosed();
    expect(sidecar.metrics.closed.count('upstream_closed')).toBe(1);
  });

  it('makes a client wait no longer than upstream.waitSeconds, and tells it', async () => {
    const sidecar = await stage.sidecar({ upstream: { waitSeconds: 1 } });
    const worker = await stage.worker(sidecar, 'one');
    const client = await stage.enter(sidecar);
    worker.cut();
    client.send(event(1));
    await client.untilClosed();
    expect(toasts(client)[0]).toContain('were not carried out');
    expect(sidecar.metrics.losses.count('upstream_unavailable')).toBe(1);
  });
});

describe('a link that is lost while its worker lives', () => {
  it('is taken up again: the worker tells what it received, nothing runs twice, and what came meanwhile waits its turn', async () => {
    // The worker is back in time, however slow the machine is.
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const other = await stage.worker(sidecar, 'other', { capacity: 1_000 });
    const before = await stage.worker(sidecar, 'one', { capacity: 100_000 });
    const client = await stage.enter(sidecar);
    expect([before.open, other.open]).toEqual([1, 0]);
    const session = await before.session();
    before.receives = false;
    for (const n of [0, 1, 2]) client.send(event(n));
    await eventually(() => numbers(session)).toEqual([0, 1, 2]);
    before.client.end();
    await eventually(() => sidecar.running.operator.stats().links).toHaveLength(1);
    client.send(event(3));
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.queued.upstream ?? 0).toBeGreaterThan(0);
    const again = await linkAs(sidecar, 'one', { capacity: 100_000 });
    again.onAttach = () => ({ kind: 'attached', received: 3, sent: session.sent + 1 });
    const resumed = await again.session();
    expect(resumed.request).toMatchObject({ session: session.request.session, resume: true, seen: session.sent });
    await eventually(() => numbers(resumed)).toEqual([2, 3]);
    expect(resumed.packets.filter(({ kind }) => kind === 'resync')).toHaveLength(1);
    expect(other.sessions).toHaveLength(0);
    expect(toasts(client)).toEqual([]);
    expect(sidecar.metrics.moves.count('resumed')).toBe(1);
  });
});

describe('a link that is lost again before its worker could be asked', () => {
  // A reset: what the worker received, nobody knows. In order: it had not received it by then.
  const reset = ({ client }: LinkWorker): unknown => client.socket.resetAndDestroy();
  const inOrder = ({ client }: LinkWorker): unknown => client.end();

  const cutTwice = async (
    cut: (worker: LinkWorker) => unknown,
  ): Promise<{ sidecar: Composed; client: EngineClient; clock: ManualClock }> => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({}, { clock });
    const worker = await stage.worker(sidecar, 'one');
    const client = await stage.enter(sidecar);
    const session = await worker.session();
    worker.receives = false;
    client.send(event(0));
    await eventually(() => numbers(session)).toEqual([0]);
    cut(worker);
    await eventually(() => sidecar.running.operator.stats().links).toEqual([]);
    const again = await linkAs(sidecar, 'one');
    again.onAttach = () => undefined;
    expect((await again.session()).request.resume).toBe(true);
    cut(again);
    await eventually(() => sidecar.running.operator.stats().links).toEqual([]);
    return { sidecar, client, clock };
  };

  it('is taken up again all the same', async () => {
    const { sidecar, client } = await cutTwice(reset);
    const last = await linkAs(sidecar, 'one');
    last.onAttach = () => ({ kind: 'attached', received: 2, sent: 1 });
    expect((await last.session()).request.resume).toBe(true);
    client.send(event(1));
    await eventually(() => numbers(last.sessions[0] as LinkWorkerSession)).toEqual([1]);
    expect(toasts(client)).toEqual([]);
  });

  it.each([
    ['by a reset', reset],
    ['in order, though it may have gone on with the session meanwhile', inOrder],
  ])('%s and stays away: what nobody knows of is told, and not run again', async (_, cut) => {
    const { sidecar, client, clock } = await cutTwice(cut);
    const other = await stage.worker(sidecar, 'other');
    // Another worker is there, and the first had its moment.
    await eventually(() => {
      clock.advance(100);
      return other.open;
    }).toBe(1);
    client.send(event(1));
    await eventually(() => numbers(other.sessions[0] as LinkWorkerSession)).toEqual([1]);
    expect(toasts(client)).toHaveLength(1);
  });
});

describe('a token', () => {
  it('that another worker holds leads there', async () => {
    const sidecar = await stage.sidecar();
    const [one, two] = [await stage.worker(sidecar, 'one'), await stage.worker(sidecar, 'two')];
    const elsewhere = (holder: string) => () =>
      ({ kind: 'refused', error: 'elsewhere', instance: holder, message: '' }) as const;
    one.onAttach = elsewhere('tokens-of-two');
    await stage.enter(sidecar, 'a');
    await stage.enter(sidecar, 'b');
    await stage.enter(sidecar, 'c');
    expect(two.open).toBe(3);
  });

  it('whose holder nobody knows any more is taken over', async () => {
    const sidecar = await stage.sidecar();
    const worker = await stage.worker(sidecar, 'one');
    worker.onAttach = ({ takeover }) =>
      takeover
        ? { kind: 'attached', received: 0, sent: 0 }
        : { kind: 'refused', error: 'elsewhere', instance: 'tokens-of-a-dead-one', message: '' };
    await stage.enter(sidecar);
    expect(worker.sessions.map(({ request }) => request.takeover)).toEqual([false, true]);
  });

  it('that comes again after its connection was cut takes the session over, with what was said meanwhile', async () => {
    const sidecar = await stage.sidecar();
    const worker = await stage.worker(sidecar, 'one');
    const lost = await stage.enter(sidecar);
    const session = await worker.session();
    await cutOff(sidecar, lost);
    const said = (n: number): string => `42${NAMESPACE},["event",{"delta":{"said":${n}}}]`;
    for (const n of upTo(3)) session.send(said(n));
    const client = await stage.client(sidecar, 'tab');
    client.send(`40${NAMESPACE},{"event":{"name":"root.hydrate","payload":{},"router_data":{}}}`);
    expect(await session.untilDetached()).toBe('takeover');
    const next = await worker.session(2);
    expect(next.request).toMatchObject({ takeover: true });
    await client.until(() => client.messages.some((text) => text.includes('"said":2')), 'what was said');
    const order = client.messages.map((text) => /"said":(\d)/.exec(text)?.[1] ?? text.slice(0, 1));
    expect(order).toEqual(['0', '0', '1', '2']);
  });

  it('that a living client holds is shared, for the worker to say who gets another', async () => {
    const sidecar = await stage.sidecar();
    const worker = await stage.worker(sidecar, 'one');
    const first = await stage.enter(sidecar);
    worker.connects = false;
    const second = await stage.client(sidecar, 'tab');
    second.send(`40${NAMESPACE},`);
    const session = await worker.session(2);
    expect(session.request).toMatchObject({ takeover: false, force: true });
    session.send(`42${NAMESPACE},["new_token","fresh"]`);
    session.send(`40${NAMESPACE},{"sid":"x"}`);
    await second.until(() => second.messages.some((text) => text.includes('fresh')), 'new_token');
    expect(first.closed).toBeUndefined();
    // The first is the only one of its token again.
    second.end();
    worker.connects = true;
    first.raw.destroy();
    await eventually(() => first.closed).toBeDefined();
    await stage.enter(sidecar);
    expect((await worker.session(3)).request.takeover).toBe(true);
  });

  it('is held for another sidecar: the worker asks whether its client lives', async () => {
    const sidecar = await stage.sidecar();
    const worker = await stage.worker(sidecar, 'one');
    const client = await stage.enter(sidecar);
    const session = await worker.session();
    session.probe();
    await eventually(() => session.probed).toEqual(expect.objectContaining({ alive: true }));
    await cutOff(sidecar, client);
    session.send(`42${NAMESPACE},["event",{"delta":{"kept":1}}]`);
    session.probed = undefined;
    session.probe();
    await eventually(() => session.probed).toBeDefined();
    expect(session.probed).toMatchObject({ alive: false, kept: [`42${NAMESPACE},["event",{"delta":{"kept":1}}]`] });
    expect(session.probed).toMatchObject({ seen: 0 });
    session.end('closed');
    await eventually(() => sidecar.running.operator.stats().sessions).toBe(0);
    expect(sidecar.metrics.messagesMissed).toBe(0);
  });

  it('is given to another sidecar with all that it had until the answer, binary frames too, and is told what did not go', async () => {
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const worker = await stage.worker(sidecar, 'one', { capacity: 1 });
    const client = await stage.enter(sidecar);
    const session = await worker.session();
    worker.finishes = false;
    client.send(event(0));
    client.send(event(1));
    client.send(event(2));
    const waiting = (): number => sidecar.running.operator.sessions(1)[0]?.queued.upstream ?? 0;
    await eventually(() => [numbers(session), waiting() > 0]).toEqual([[0], true]);
    await cutOff(sidecar, client);
    session.send('42["before"]');
    // In one piece with the question, and before and behind it.
    session.probe();
    session.send('451-["b",{"_placeholder":true,"num":0}]');
    session.send(Buffer.of(1));
    await eventually(() => session.probed).toBeDefined();
    const { kept = [], seen = 0 } = session.probed ?? {};
    const said = ['42["before"]', '451-["b",{"_placeholder":true,"num":0}]', 'bAQ=='];
    const toast = kept.at(-1) ?? '';
    expect(toast).toContain('was interrupted');
    // Each message is the sidecar's to tell or the worker's, and nobody else's.
    expect(kept.slice(0, -1)).toEqual(said.slice(0, 1 + seen));
    expect(sidecar.metrics.losses.count('session_closed')).toBe(2);
    session.send('42["after"]');
    session.end('takeover');
    await eventually(() => sidecar.running.operator.stats().sessions).toBe(0);
    expect(sidecar.metrics.messagesMissed).toBe(0);
    expect(numbers(session)).toEqual([0]);
  });
});
