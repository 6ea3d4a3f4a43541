import { afterEach, describe, expect, it } from 'vitest';
import { tokenHash } from '../../src/protocol/keys.ts';
import { eventually } from '../support/eventually.ts';
import type { LinkWorkerSession } from '../support/link-worker.ts';
import { event, LinkedStage, NAMESPACE, numbers, toasts, upTo } from '../support/linked-stage.ts';
import { ManualClock } from '../support/manual-clock.ts';

const stage = new LinkedStage();
afterEach(() => stage.end());

describe('a tab that a handler logged in or out', () => {
  const cookiesOf = (session: LinkWorkerSession): string[] =>
    session.request.headers.flatMap(([name, value]) => (name === 'cookie' ? [value] : []));

  it.each([
    ['in', 'the-new-session', ['theme=dark; sessionid=the-new-session']],
    ['out', null, ['theme=dark']],
  ])('is that to the worker it comes to, too: logged %s', async (_how, cookie, expected) => {
    const sidecar = await stage.sidecar();
    const worker = await stage.worker(sidecar, 'one');
    const client = await stage.client(sidecar, 'tab', { headers: { cookie: 'sessionid=the-first; theme=dark' } });
    await client.connect();
    expect(cookiesOf(await worker.session())).toEqual(['sessionid=the-first; theme=dark']);
    worker.client.session({ t: tokenHash('tab'), session: (await worker.session()).request.session, cookie });
    // What comes behind it on the link shows that it has come.
    (await worker.session()).send(`42${NAMESPACE},["event",{"delta":{"n":1}}]`);
    await client.until(() => client.messages.some((text) => text.includes('"n":1')), 'the delta');
    const next = await stage.worker(sidecar, 'two');
    worker.cut();
    expect(cookiesOf(await next.session())).toEqual(expected);
    expect(client.closed).toBeUndefined();
  });
});

describe('a worker that stops', () => {
  it('and whose state goes with it finishes what it has, and has its clients begin anew', async () => {
    const sidecar = await stage.sidecar();
    const worker = await stage.worker(sidecar, 'one', { persistent: false });
    const client = await stage.enter(sidecar);
    worker.finishes = false;
    client.send(event(0));
    const session = await worker.session();
    await eventually(() => numbers(session)).toEqual([0]);
    worker.drain(10);
    await eventually(() => sidecar.log()).toContain('a worker stops');
    const next = await stage.worker(sidecar, 'two', { persistent: false });
    session.done((await session.packet(2)).n);
    await client.untilClosed();
    expect([session.detached, next.sessions, toasts(client)]).toEqual(['move', [], []]);
  });

  it('and does not say what became of a session may run what it has yet to read: nothing of it is sent twice', async () => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({}, { clock });
    const worker = await stage.worker(sidecar, 'one');
    const client = await stage.enter(sidecar);
    const session = await worker.session();
    session.background('b1', { name: 'root.note.watch', payload: { every: 1 } });
    worker.receives = worker.detaches = false;
    client.send(event(0));
    await eventually(() => numbers(session)).toEqual([0]);
    worker.drain(2);
    await eventually(() => sidecar.log()).toContain('a worker stops');
    client.send(event(1));
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.queued.upstream ?? 0).toBeGreaterThan(0);
    clock.advance(1_000);
    expect(await session.untilDetached()).toBe('move');
    const next = await stage.worker(sidecar, 'two');
    // It still shows that it lives.
    for (const second of upTo(5)) {
      session.send(`42${NAMESPACE},["event",{"delta":{"second":${second}}}]`);
      await client.until(() => client.messages.some((text) => text.includes(`"second":${second}`)), 'a sign of life');
      clock.advance(1_000);
    }
    const moved = await next.session();
    await eventually(() => numbers(moved)).toEqual([1]);
    await eventually(() => toasts(client)).toHaveLength(1);
    expect(moved.packets.filter(({ kind }) => kind !== 'client')).toMatchObject([
      { kind: 'inject', name: 'root.note.watch', background: true },
      { kind: 'resync' },
    ]);
    expect(client.closed).toBeUndefined();
  });
});
