import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { AttachAnswer } from '../../src/ports/virtual-session.ts';
import { LinkFrame } from '../../src/protocol/link.ts';
import { SESSION_WINDOW, type SessionMessage } from '../../src/protocol/link-session.ts';
import { eventually } from '../support/eventually.ts';
import { ATTACH, LinkStand, type Attached } from '../support/link-stand.ts';
import { LIVE_HANDLER, type LinkWorker } from '../support/link-worker.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { RecordingSink } from '../support/recording-sink.ts';
import { loadVectors } from '../support/vectors.ts';

const { invalid } = loadVectors('link-session-frames.json') as {
  readonly invalid: readonly { title: string; hex: string }[];
};
const BIG = 15 * 1024 * 1024;
const text = (bytes: number): string => `4${'x'.repeat(bytes - 1)}`;

describe.each(['TCP', 'a Unix socket'] as const)('virtual sessions over %s', (kind) => {
  let clock: ManualClock;
  let stand: LinkStand;
  let worker: LinkWorker;

  beforeEach(async () => {
    clock = new ManualClock();
    stand = await LinkStand.start(kind, clock);
    worker = await stand.worker();
  });
  afterEach(() => stand.stop());

  /** Everything sent before has been heard by the other side. */
  const settled = async (): Promise<void> => {
    const count = worker.client.of(LinkFrame.pong).length + 1;
    worker.client.send(LinkFrame.ping, { t: count });
    await worker.client.until(LinkFrame.pong, count);
  };

  describe('begin', () => {
    it('with what the worker must know of the client', async () => {
      const { sink, there } = await stand.attach(worker);
      expect(there.request).toEqual({ ...ATTACH, kind: 'attach', resume: false, seen: 0 });
      expect(sink.answer).toEqual({ kind: 'attached', received: 0, sent: 0, open: [] });
      const other = await stand.attach(worker, { takeover: true, force: true, protocol: undefined });
      expect(other.there.request).toMatchObject({ takeover: true, force: true, protocol: null });
      expect(other.there.channel).not.toBe(there.channel);
    });

    it.each<[string, Extract<SessionMessage, { kind: 'refused' }>['error'], AttachAnswer]>([
      ['another worker holds it', 'elsewhere', { kind: 'elsewhere', holder: 'tokens-2' }],
      ['the worker drains', 'draining', { kind: 'refused', code: 'draining', message: 'why' }],
      ['it failed there', 'failed', { kind: 'refused', code: 'failed', message: 'why' }],
      ['the worker has no such session', 'unknown', { kind: 'refused', code: 'unknown', message: 'why' }],
    ])('unless %s', async (_why, error, answer) => {
      worker.onAttach = () => ({
        kind: 'refused',
        error,
        message: 'why',
        instance: error === 'elsewhere' ? 'tokens-2' : null,
      });
      const { sink, session, there } = await stand.attach(worker);
      expect(sink.answer).toEqual(answer);
      expect(session.send(1, '4', false, false)).toBe('dropped');
      session.detach('closed');
      there.send('42["late"]');
      await settled();
      expect([there.packets, there.detached, sink.frames, sink.end]).toEqual([[], undefined, [], undefined]);
    });

    it('while others wait for theirs', async () => {
      worker.onAttach = () => undefined;
      const slow = new RecordingSink();
      stand.linked.attach(ATTACH, slow);
      const waiting = await worker.session();
      worker.onAttach = () => ({ kind: 'attached', received: 0, sent: 0 });
      const { sink } = await stand.attach(worker);
      expect([slow.answer, sink.answer?.kind]).toEqual([undefined, 'attached']);
      waiting.answer({ kind: 'attached', received: 0, sent: 0 });
      await eventually(() => slow.answer?.kind).toBe('attached');
    });

    it('within 30 s or not at all, and leave nothing behind in the worker', async () => {
      worker.onAttach = () => undefined;
      const sink = new RecordingSink();
      const session = stand.linked.attach(ATTACH, sink);
      const there = await worker.session();
      for (let round = 0; round < 6; round++) {
        clock.advance(5_000 - (round === 5 ? 1 : 0));
        await settled();
      }
      expect([sink.answer, session.blocked]).toEqual([undefined, true]);
      worker.detaches = false;
      clock.advance(1);
      expect(sink.answer).toMatchObject({ kind: 'refused', code: 'failed' });
      expect(await there.untilDetached()).toBe('lost');
      // The answer crosses with it.
      there.answer({ kind: 'attached', received: 0, sent: 0 });
      there.send('42["late"]');
      there.end('lost');
      await settled();
      expect([sink.frames, sink.end, session.send(1, '4', false, false)]).toEqual([[], undefined, 'dropped']);
      expect(stand.server.workers).toHaveLength(1);
    });

    it('on no worker whose manifest takes none, and refused where the worker has gone', async () => {
      const { linked } = stand;
      worker.cut();
      await eventually(() => stand.server.workers).toEqual([]);
      const sink = new RecordingSink();
      const session = linked.attach(ATTACH, sink);
      expect(sink.answer).toBeUndefined();
      await eventually(() => sink.answer).toMatchObject({ kind: 'refused', code: 'failed' });
      expect(session.send(1, '4', false, false)).toBe('dropped');
      await stand.worker({ sessions: false });
      expect(() => stand.linked.attach(ATTACH, new RecordingSink())).toThrow('takes no sessions');
    });
  });

  describe('carry', () => {
    it('messages in order both ways, texts and attachments', async () => {
      const { sink, session, there } = await stand.attach(worker);
      const binary = Buffer.from([0, 255, 52]);
      for (let n = 1; n <= 500; n++) {
        expect(session.send(n, n % 3 === 0 ? binary : `42["größer",${n}]`, n % 3 === 0, n % 2 === 0)).not.toBe(
          'dropped',
        );
        there.send(n % 3 === 0 ? binary : `42["🌷",${n}]`);
      }
      await there.packet(500);
      await eventually(() => sink.frames).toHaveLength(500);
      await settled();
      for (let n = 1; n <= 500; n++) {
        const frame = n % 3 === 0 ? binary : `42["größer",${n}]`;
        expect(there.packets[n - 1]).toEqual({ kind: 'client', n, frame, wantsDone: n % 2 === 0 });
        expect(sink.frames[n - 1]).toEqual(n % 3 === 0 ? binary : `42["🌷",${n}]`);
      }
      expect(sink.receipts).toEqual(Array.from({ length: 500 }, (_, index) => index + 1));
      expect(sink.dones).toEqual(Array.from({ length: 250 }, (_, index) => [2 * (index + 1), 'ended']));
    });

    it('handlers to run, the wish for the whole state, and what became of each', async () => {
      worker.finishes = false;
      const { sink, session, there } = await stand.attach(worker);
      session.send(1, '42["a"]', false, true);
      session.inject(2, { name: 'root.tick', payload: { every: 1 } }, true);
      session.inject(3, { name: 'root.once', payload: {} }, false);
      session.resync(4);
      await there.packet(4);
      expect(there.packets.slice(1)).toEqual([
        { kind: 'inject', n: 2, name: 'root.tick', payload: { every: 1 }, background: true },
        { kind: 'inject', n: 3, name: 'root.once', payload: {}, background: false },
        { kind: 'resync', n: 4 },
      ]);
      there.done(1, 'raised');
      there.done(4);
      there.done(2, 'cancelled');
      await eventually(() => sink.dones).toEqual([
        [1, 'raised'],
        [4, 'ended'],
        [2, 'cancelled'],
      ]);
      expect(sink.receipts).toEqual([1, 2, 3, 4]);
    });

    it('a receipt for several packets, and none twice', async () => {
      worker.receives = false;
      const { sink, session, there } = await stand.attach(worker);
      for (let n = 1; n <= 5; n++) session.send(n, '42["a"]', false, false);
      await there.packet(5);
      for (const n of [3, 2, 3, 5]) there.received(n);
      await settled();
      expect(sink.receipts).toEqual([3, 5]);
    });

    it('a message before the acknowledgements that came with it, and those before everything else', async () => {
      worker.receives = false;
      const { sink, session, there } = await stand.attach(worker);
      session.send(1, '42["go"]', false, true);
      await there.packet(1);
      const heardBefore: number[] = [];
      sink.onMessage = () => void heardBefore.push(sink.receipts.length + sink.dones.length);
      worker.client.socket.cork();
      there.received(1);
      there.send('42["first"]');
      there.done(1);
      there.send('42["second"]');
      // Nothing may be heard after this one.
      there.say({ kind: 'detached', reason: 'closed', background: [] });
      worker.client.socket.uncork();
      await eventually(() => sink.end).toBe('closed');
      expect([sink.frames, heardBefore]).toEqual([
        ['42["first"]', '42["second"]'],
        [0, 0],
      ]);
      expect([sink.receipts, sink.dones]).toEqual([[1], [[1, 'ended']]]);
    });

    it('background handlers as they begin and end, also one too large to be told', async () => {
      const { sink, there } = await stand.attach(worker);
      there.background('b1', { name: 'root.tick', payload: { every: 1 } });
      there.background('b2', { name: 'root.import', payload: null });
      there.background('b1', 'ended');
      await eventually(() => sink.backgrounds).toEqual([
        ['b1', { name: 'root.tick', payload: { every: 1 } }],
        ['b2', { name: 'root.import', payload: null }],
        ['b1', 'ended'],
      ]);
    });

    it('what a session wants to hear of', async () => {
      const { sink, there } = await stand.attach(worker);
      there.subscribe({ id: 'a', pks: [1, 'x'], tags: ['tenant:acme'] });
      there.subscribe({ id: 'b' });
      there.subscribe({ id: 'a' });
      there.unsubscribe('b');
      await eventually(() => [...sink.subscriptions]).toEqual([
        ['a', { id: 'a', model: 'shop.product', pks: null, tags: null, handler: LIVE_HANDLER }],
      ]);
    });

    it('the question whether the client lives, and its answer', async () => {
      const { sink, session, there } = await stand.attach(worker);
      there.probe();
      await eventually(() => sink.probes).toBe(1);
      session.probed(false, ['42["kept"]'], 3);
      await eventually(() => there.probed).toMatchObject({ alive: false, kept: ['42["kept"]'], seen: 3 });
    });

    it('messages of 15 MB both ways, and none that no frame can hold', async () => {
      const { sink, session, there } = await stand.attach(worker);
      const data = Buffer.alloc(BIG, 7);
      session.send(1, data, true, false);
      there.send(text(BIG));
      const packet = await there.packet(1);
      expect(packet.kind === 'client' && data.equals(packet.frame as Buffer)).toBe(true);
      await eventually(() => sink.frames[0]?.length).toBe(BIG);
      expect(session.send(2, Buffer.alloc(16 * 1024 * 1024), true, false)).toBe('dropped');
      await settled();
      expect(stand.server.workers).toHaveLength(1);
    });
  });

  describe('hold back', () => {
    it('a client that sends more than the worker takes, and no other', async () => {
      worker.receives = false;
      const busy = await stand.attach(worker);
      const other = await stand.attach(worker);
      let n = 0;
      while (!busy.session.blocked) busy.session.send(++n, text(1_000), false, false);
      expect(n).toBe(Math.ceil(SESSION_WINDOW / 1_000));
      // It is blocked, but what is sent all the same arrives: one message may overdraw.
      busy.session.send(++n, text(50_000), false, false);
      expect(other.session.blocked).toBe(false);
      other.session.send(1, '42["other"]', false, false);
      await other.there.packet(1);
      await busy.there.packet(n);
      const overdrawn = n * 1_000 + 49_000 - SESSION_WINDOW;
      busy.there.giveBack(overdrawn);
      await settled();
      expect([busy.session.blocked, busy.sink.drains]).toEqual([true, 0]);
      busy.there.giveBack(1);
      await eventually(() => busy.sink.drains).toBe(1);
      expect(busy.session.blocked).toBe(false);
      busy.there.giveBack(1_000);
      await settled();
      expect([busy.sink.drains, other.sink.drains]).toEqual([1, 0]);
    });

    it('no client for longer: credit beyond the window is none', async () => {
      worker.receives = false;
      const { session, there } = await stand.attach(worker);
      there.giveBack(0xffff_ffff);
      await settled();
      session.send(1, text(SESSION_WINDOW - 1), false, false);
      expect(session.blocked).toBe(false);
      session.send(2, '4', false, false);
      expect(session.blocked).toBe(true);
    });

    it('the worker until the client takes its messages: credit comes by quarters, and all of it in the end', async () => {
      const { sink, session, there } = await stand.attach(worker);
      const quarter = SESSION_WINDOW / 4;
      for (let n = 0; n < 8; n++) there.send(text(quarter / 2));
      await eventually(() => sink.frames).toHaveLength(8);
      await settled();
      expect(there.credits).toBe(0);
      session.taken(quarter - 1);
      await settled();
      expect(there.credits).toBe(0);
      session.taken(1);
      await eventually(() => there.credit).toBe(quarter);
      session.taken(3 * quarter);
      await eventually(() => there.credit).toBe(SESSION_WINDOW);
      expect(there.credits).toBe(2);
      // There was no more to give back.
      session.taken(SESSION_WINDOW);
      await settled();
      expect(there.credit).toBe(SESSION_WINDOW);
    });

    it('nobody for ever: once all is taken, a worker without credit gets some, whatever the sizes were', async () => {
      const { sink, session, there } = await stand.attach(worker);
      sink.onMessage = (frame) => session.taken(frame.length);
      let unpaid = 0;
      let sent = 0;
      for (let step = 0; step < 200; step++) {
        const bytes = 1 + ((step * 7_919) % 50_000);
        there.send(text(bytes));
        sent += bytes;
        unpaid = sent - there.credit;
        if (unpaid >= SESSION_WINDOW) await eventually(() => sent - there.credit).toBeLessThan(SESSION_WINDOW);
      }
      await eventually(() => sink.frames).toHaveLength(200);
      await settled();
      expect(sent - there.credit).toBeLessThan(SESSION_WINDOW / 4);
    });

    it('every client of a worker that does not read, until it does', async () => {
      const sessions: Attached[] = [];
      for (let count = 0; count < 3; count++) sessions.push(await stand.attach(worker));
      const quiet = await stand.attach(worker);
      worker.receives = false;
      worker.hang();
      const data = Buffer.alloc(BIG, 1);
      for (const { session } of sessions) session.send(1, data, true, false);
      expect(quiet.session.blocked).toBe(true);
      worker.wake();
      for (const { there } of sessions) await there.packet(1);
      await eventually(() => quiet.sink.drains).toBe(1);
      expect(quiet.session.blocked).toBe(false);
      // They have overdrawn their own windows.
      expect(sessions.map(({ session, sink }) => [session.blocked, sink.drains])).toEqual(
        sessions.map(() => [true, 0]),
      );
    });
  });

  describe('end', () => {
    it('as the sidecar wishes, with what ran in the background', async () => {
      worker.cancelled = [{ name: 'root.tick', payload: { every: 1 } }];
      worker.unrun = [3, 4];
      const moved = await stand.attach(worker);
      const closed = await stand.attach(worker);
      moved.session.detach('move');
      moved.session.detach('closed');
      closed.session.detach('closed');
      await eventually(() => [moved.sink.end, closed.sink.end]).toEqual(['detached', 'detached']);
      expect([moved.there.detached, closed.there.detached]).toEqual(['move', 'closed']);
      expect([moved.sink.cancelled, closed.sink.cancelled]).toEqual([worker.cancelled, []]);
      expect([moved.sink.unrun, closed.sink.unrun]).toEqual([[3, 4], []]);
      expect(moved.session.send(1, '4', false, false)).toBe('dropped');
    });

    it('after what the worker still had to say', async () => {
      worker.detaches = false;
      const { sink, session, there } = await stand.attach(worker);
      session.send(1, '42["a"]', false, true);
      await there.packet(1);
      session.detach('move');
      await there.untilDetached();
      there.send('42["last"]');
      there.end('move');
      await eventually(() => sink.end).toBe('detached');
      expect(sink.frames).toEqual(['42["last"]']);
    });

    it('5 s after the wish where the worker does not answer', async () => {
      worker.detaches = false;
      const { sink, session, there } = await stand.attach(worker);
      session.detach('closed');
      await there.untilDetached();
      clock.advance(4_999);
      expect(sink.end).toBeUndefined();
      clock.advance(1);
      expect([sink.end, sink.cancelled]).toEqual(['unanswered', []]);
      there.send('42["late"]');
      there.end('closed');
      await settled();
      expect(stand.server.workers).toHaveLength(1);
    });

    it('before they began, if that is the wish', async () => {
      worker.onAttach = () => undefined;
      worker.detaches = false;
      const sinks = [new RecordingSink(), new RecordingSink(), new RecordingSink()];
      for (const sink of sinks) stand.linked.attach(ATTACH, sink).detach('closed');
      const [answered, ended, silent] = [await worker.session(1), await worker.session(2), await worker.session(3)];
      answered.answer({ kind: 'attached', received: 0, sent: 0 });
      answered.end('closed');
      ended.end('closed');
      await settled();
      clock.advance(5_000);
      await eventually(() => sinks.map(({ answer, end }) => [answer?.kind, end])).toEqual([
        ['attached', 'detached'],
        ['refused', undefined],
        ['refused', undefined],
      ]);
      expect([ended.detached, silent.detached]).toEqual(['closed', 'closed']);
    });

    it.each([
      ['closed', 'closed'],
      ['slow', 'slow'],
      ['failed', 'failed'],
      ['takeover', 'closed'],
    ] as const)('as the worker does: %s', async (reason, end) => {
      const { sink, session, there } = await stand.attach(worker);
      there.end(reason);
      await eventually(() => sink.end).toBe(end);
      session.detach('closed');
      await settled();
      expect(there.detached).toBeUndefined();
    });

    it('lost with the link, after everything that was in its stream', async () => {
      worker.onAttach = ({ target }) => (target === 'slow' ? undefined : { kind: 'attached', received: 0, sent: 0 });
      const { sink, session, there } = await stand.attach(worker);
      const waiting = new RecordingSink();
      stand.linked.attach({ ...ATTACH, target: 'slow' }, waiting);
      await worker.session(2);
      session.send(1, '42["a"]', false, true);
      await eventually(() => sink.dones).toHaveLength(1);
      for (let count = 0; count < 1_000; count++) there.send(text(500));
      there.received(1);
      const order: string[] = [];
      sink.onEnd = () => order.push(`ended, ${stand.server.workers.length} linked, ${stand.changes} told`);
      worker.cut();
      await eventually(() => sink.end).toBe('lost');
      expect(sink.frames).toHaveLength(1_000);
      expect(waiting.answer).toMatchObject({ kind: 'refused', code: 'failed' });
      expect(order).toEqual(['ended, 0 linked, 2 told']);
      expect(clock.timers).toBe(0);
    });

    it('lost with a worker that was killed: a write that fails takes nothing away from what it had sent', async () => {
      const { sink, session, there } = await stand.attach(worker);
      for (let serial = 0; serial < 5; serial++) there.send(text(100));
      worker.client.socket.destroy();
      // Written in this turn of the loop, before anything is read.
      session.send(1, text(1_000), false, false);
      await eventually(() => sink.end).toBe('lost');
      expect(sink.frames).toHaveLength(5);
    });

    const ends = kind === 'TCP' ? ['silent', 'lost'] : ['lost'];
    it(`${ends.join(' or ')} with a worker that was killed and had something unread: lost only with all it had sent`, async () => {
      const { sink, session, there } = await stand.attach(worker);
      const { socket } = worker.client;
      const before = socket.bytesRead;
      worker.hang();
      session.send(1, text(300_000), false, false);
      await eventually(() => socket.bytesRead).toBeGreaterThan(before);
      for (let serial = 0; serial < 20; serial++) there.send(text(1_000));
      socket.destroy();
      session.send(2, text(1_000), false, false);
      await eventually(() => sink.end).toBeDefined();
      expect(ends).toContain(sink.end);
      // Over TCP a reset may have dropped some of them, and is silent; where nothing was unread after all there is none.
      if (sink.end === 'lost') expect(sink.frames).toHaveLength(20);
    });

    it('lost with a worker that says GOAWAY, which gets nothing new', async () => {
      const { sink, there } = await stand.attach(worker);
      worker.client.socket.allowHalfOpen = true;
      worker.client.send(LinkFrame.goaway, { reason: 'restart' });
      await eventually(() => stand.linked.drainBy).toBe(0);
      const late = new RecordingSink();
      stand.linked.attach(ATTACH, late);
      await eventually(() => late.answer).toMatchObject({ kind: 'refused' });
      there.send('42["last"]');
      worker.client.socket.end();
      await eventually(() => sink.end).toBe('lost');
      expect(sink.frames).toEqual(['42["last"]']);
    });

    it('silent with a worker that says GOAWAY and stays', async () => {
      const { sink } = await stand.attach(worker);
      worker.client.socket.allowHalfOpen = true;
      worker.client.send(LinkFrame.goaway, { reason: 'restart' });
      await eventually(() => stand.linked.drainBy).toBe(0);
      clock.advance(5_000);
      expect([sink.end, stand.server.workers]).toEqual(['silent', []]);
    });

    it('silent after 5.1 s with a worker that hangs', async () => {
      const { sink } = await stand.attach(worker);
      await settled();
      worker.hang();
      clock.advance(5_099);
      expect(sink.end).toBeUndefined();
      clock.advance(1);
      expect([sink.end, stand.server.workers]).toEqual(['silent', []]);
      expect(stand.lines.join()).toContain('no word from the worker');
    });

    it('silent with a worker that talks and does not read for 15 s', async () => {
      const { sink, session } = await stand.attach(worker);
      worker.client.answersPings = false;
      worker.hang();
      for (let n = 1; n <= 3; n++) session.send(n, Buffer.alloc(BIG), true, false);
      for (let second = 1; second <= 14; second++) {
        clock.advance(1_000);
        worker.client.send(LinkFrame.stats, { sessions: second, inFlight: 0, lagMs: 0, rss: 0 });
        await eventually(() => stand.linked.load.sessions).toBe(second);
      }
      expect(sink.end).toBeUndefined();
      clock.advance(2_000);
      expect(sink.end).toBe('silent');
      expect(stand.lines.join()).toContain('does not read');
    });

    it('silent with a worker to which more was sent than may ever wait', async () => {
      const { sink, session } = await stand.attach(worker);
      worker.hang();
      for (let n = 1; n <= 6; n++) session.send(n, Buffer.alloc(BIG), true, false);
      expect(sink.end).toBeUndefined();
      await eventually(() => sink.end).toBe('silent');
    });

    it('silent when the same worker links anew, which then is the one that is linked', async () => {
      const { sink } = await stand.attach(worker);
      const old = stand.linked;
      const seen: unknown[] = [];
      sink.onEnd = () => seen.push(stand.server.workers.length, stand.linked === old);
      const other = await stand.worker({ instance: 'worker-2' });
      expect(sink.end).toBeUndefined();
      const again = await stand.worker();
      expect(sink.end).toBe('silent');
      // Who hears of the end can go to the new link at once.
      expect(seen).toEqual([2, false]);
      await eventually(() => worker.client.closed).toBe(true);
      expect([other.client.closed, again.client.closed]).toEqual([false, false]);
    });

    it('when the sidecar leaves', async () => {
      const { sink } = await stand.attach(worker);
      const closed = stand.server.close();
      await worker.client.until(LinkFrame.goaway);
      worker.client.socket.end();
      await closed;
      expect(sink.end).toBe('lost');
    });
  });

  it('go on over the next link where they were', async () => {
    const first = await stand.attach(worker);
    first.session.send(1, '42["a"]', false, true);
    first.there.send('42["b"]');
    await eventually(() => [first.sink.dones.length, first.sink.frames.length]).toEqual([1, 1]);
    worker.cut();
    await eventually(() => first.sink.end).toBe('lost');
    worker = await stand.worker();
    worker.onAttach = () => ({ kind: 'attached', received: 7, sent: 3, open: [4, 7] });
    const { sink, session, there } = await stand.attach(worker, { resume: { seen: 1 } });
    expect(there.request).toMatchObject({ session: ATTACH.session, resume: true, seen: 1 });
    expect(sink.answer).toEqual({ kind: 'attached', received: 7, sent: 3, open: [4, 7] });
    // What was received on the former link may end on this one.
    there.done(7, 'ended');
    session.send(8, '42["c"]', false, true);
    await eventually(() => sink.dones).toEqual([
      [7, 'ended'],
      [8, 'ended'],
    ]);
    expect(sink.receipts).toEqual([8]);
    expect(stand.server.workers).toHaveLength(1);
  });

  describe('are given up with a link that carries', () => {
    const broken = async (attached: Attached): Promise<void> => {
      expect(await worker.client.untilClosed()).toBe('FRAME');
      expect([attached.sink.end, attached.sink.frames]).toEqual(['silent', []]);
      expect(stand.server.workers).toEqual([]);
    };

    it.each(invalid)('$title', async ({ hex }) => {
      const attached = await stand.attach(worker);
      worker.client.socket.write(Buffer.from(hex, 'hex'));
      await broken(attached);
    });

    it.each<[string, SessionMessage]>([
      ['ATTACHED twice', { kind: 'attached', received: 0, sent: 0 }],
      ['a refusal of what is attached', { kind: 'refused', error: 'failed', message: '', instance: null }],
      ['a receipt for what was not sent', { kind: 'received', n: 1 }],
      ['a receipt for number 0', { kind: 'received', n: 0 }],
      ['an end of what was not sent', { kind: 'done', n: 1, outcome: 'ended' }],
      ['CLIENT', { kind: 'client', n: 1, payload: '4', binary: false, done: false }],
      ['DETACH', { kind: 'detach', reason: 'closed' }],
      ['RESYNC', { kind: 'resync', n: 1 }],
      ['INJECT', { kind: 'inject', n: 1, name: 'a', payload: {}, background: false }],
      ['PROBED', { kind: 'probed', alive: true, kept: [] }],
    ])('%s', async (_what, message) => {
      const attached = await stand.attach(worker);
      attached.there.say(message);
      await broken(attached);
    });

    it('a message before ATTACHED', async () => {
      const attached = await stand.attach(worker);
      worker.onAttach = () => undefined;
      const waiting = new RecordingSink();
      stand.linked.attach(ATTACH, waiting);
      (await worker.session(2)).send('42["early"]');
      await broken(attached);
      expect(waiting.answer).toMatchObject({ kind: 'refused', code: 'failed' });
    });

    it.each([
      ['DRAIN without seconds', LinkFrame.drain, {}],
      ['DRAIN for less than nothing', LinkFrame.drain, { seconds: -1 }],
      ['STATS with words', LinkFrame.stats, { sessions: 'many', inFlight: 0, lagMs: 0, rss: 0 }],
    ])('%s', async (_what, type, body) => {
      const attached = await stand.attach(worker);
      worker.client.send(type, body);
      await broken(attached);
    });
  });

  it('live with frames of a later version, and with frames on channels that nobody uses', async () => {
    const { there, sink } = await stand.attach(worker);
    worker.client.socket.write(Buffer.from('0000000a30000000016c61746572', 'hex'));
    worker.client.socket.write(Buffer.from('00000007230000ffff0034', 'hex'));
    there.send('42["a"]');
    await eventually(() => sink.frames).toEqual(['42["a"]']);
  });

  it('are told that their worker is about to stop, and how it fares', async () => {
    const { changes } = stand;
    expect([stand.linked.drainBy, stand.linked.load]).toEqual([
      undefined,
      { sessions: 0, inFlight: 0, lag: 0, rss: 0, links: 1 },
    ]);
    worker.stats({ sessions: 12, inFlight: 3, lagMs: 0.4, rss: 190_000_000, links: 2 });
    worker.drain(10);
    await eventually(() => stand.linked.drainBy).toBe(10_000);
    expect(stand.linked.load).toEqual({ sessions: 12, inFlight: 3, lag: 0.4, rss: 190_000_000, links: 2 });
    expect(stand.changes).toBe(changes + 1);
  });

  it('are 5,000 on one link, each with its own messages, and leave nothing behind', async () => {
    const COUNT = 5_000;
    // The heartbeat; also the farewell of a link before, where there was one.
    const timers = clock.timers;
    const sinks = Array.from({ length: COUNT }, () => new RecordingSink());
    const sessions = sinks.map((sink, index) => stand.linked.attach({ ...ATTACH, session: String(index) }, sink));
    await eventually(() => sinks.every(({ answer }) => answer?.kind === 'attached')).toBe(true);
    // One for all attaches, none for a session.
    expect(clock.timers).toBeLessThanOrEqual(timers + 1);
    for (const [index, session] of sessions.entries()) session.send(1, `42["${index}"]`, false, true);
    await eventually(() => sinks.every(({ dones }) => dones.length === 1)).toBe(true);
    for (const there of worker.sessions) there.send(`42["${there.request.session}"]`);
    await eventually(() => sinks.every(({ frames }) => frames.length === 1)).toBe(true);
    for (const [index, sink] of sinks.entries()) expect(sink.frames).toEqual([`42["${index}"]`]);
    for (const there of worker.sessions) expect(there.texts).toEqual([`42["${there.request.session}"]`]);
    expect(new Set(worker.sessions.map(({ channel }) => channel)).size).toBe(COUNT);
    for (const session of sessions) session.detach('closed');
    await eventually(() => sinks.every(({ end }) => end === 'detached')).toBe(true);
    expect([worker.open, clock.timers]).toEqual([0, timers]);
  });
});
