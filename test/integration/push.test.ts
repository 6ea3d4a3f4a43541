import { afterEach, describe, expect, it } from 'vitest';
import type { ConfigInput } from '../../config/index.ts';
import type { PushAction, PushTarget } from '../../src/protocol/push.ts';
import { LinkFrame } from '../../src/protocol/link.ts';
import { tokenHash } from '../../src/protocol/keys.ts';
import { freePort } from '../../tools/ports.ts';
import { startBridgehead } from '../support/bridgehead-process.ts';
import type { Composed } from '../support/composed.ts';
import { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { LinkWorker } from '../support/link-worker.ts';
import { cutOff } from '../support/linked-stage.ts';
import { event, LiveStand, type Tab } from '../support/live-stand.ts';
import { startRecordingWorker } from '../support/recording-worker.ts';
import { answerUsers } from '../support/user-answers.ts';
import { Cli } from '../unit/sidecar/run-cli.ts';

const SECRET = 'a secret of more than thirty-two bytes, for tests';
const stand = new LiveStand();
const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
  await stand.end();
});

const CONFIG: ConfigInput = { auth: { source: 'companion' }, live: { push: ['shop.note.Note.*'], scripts: true } };

/** A sidecar, a worker that answers for users, and how to push. */
async function start(config: ConfigInput = CONFIG) {
  const sidecar = await stand.sidecar(config);
  const worker = await stand.worker(sidecar, 'one', { auth: true });
  answerUsers(worker.client);
  const tab = (user?: string, token?: string): Promise<Tab> =>
    stand.tab(sidecar, [worker], {
      ...(user !== undefined && { cookie: `sessionid=${user}.${token ?? 'x'}` }),
      ...(token !== undefined && { token }),
    });
  return { sidecar, worker, tab };
}

let ids = 0;
async function push(sidecar: Composed, to: PushTarget, what: PushAction): Promise<void> {
  await sidecar.running.live.bus.publishPush({ id: `push-${++ids}`, at: Date.now(), to, what });
}

const toast = (text: string): PushAction => ({ kind: 'toast', text, level: 'info' });

/** Which of the tabs have got this text. */
const heard = (tabs: Readonly<Record<string, Tab>>, text: string): string[] =>
  Object.entries(tabs).flatMap(([name, { client }]) =>
    client.messages.some((message) => message.includes(text)) ? [name] : [],
  );

describe('a push', () => {
  it('finds the sessions of a user or a group, also those that nobody has asked about so far', async () => {
    const { sidecar, tab } = await start();
    const tabs = {
      ann: await tab('ann', 'a1'),
      ann2: await tab('ann', 'a2'),
      ben: await tab('ben', 'b1'),
      anonymous: await tab('nobody', 'n1'),
      stranger: await tab(),
    };
    // One of them is known from an event.
    tabs.ann.client.send(event(1, { name: 'root.order.place' }));
    await tabs.ann.there.packet(2);
    await push(sidecar, { kind: 'user', id: 'ann' }, toast('for ann'));
    await eventually(() => heard(tabs, 'for ann')).toEqual(['ann', 'ann2']);
    await push(sidecar, { kind: 'user', id: 'ben', model: 'auth.user' }, toast('for ben'));
    await eventually(() => heard(tabs, 'for ben')).toEqual(['ben']);
    await push(sidecar, { kind: 'group', name: 'friends of ann' }, toast('for friends'));
    await eventually(() => heard(tabs, 'for friends')).toEqual(['ann', 'ann2']);
    await push(sidecar, { kind: 'all' }, toast('for all'));
    await eventually(() => heard(tabs, 'for all')).toEqual(Object.keys(tabs));
    expect(heard(tabs, 'for ann')).toEqual(['ann', 'ann2']);
  });

  it('does not reach who has logged out, nor who cannot be known any more', async () => {
    const { sidecar, worker, tab } = await start();
    const tabs = { ann: await tab('ann', 'a1'), ann2: await tab('ann', 'a2') };
    const toAnn: PushTarget = { kind: 'user', id: 'ann' };
    await push(sidecar, toAnn, toast('first'));
    await eventually(() => heard(tabs, 'first')).toEqual(['ann', 'ann2']);
    // A handler has logged this tab out.
    worker.client.session({ t: tokenHash('a1'), session: tabs.ann.there.request.session, cookie: null });
    worker.client.send(LinkFrame.changes, { n: 1, changes: [] });
    await worker.client.until(LinkFrame.changed);
    await push(sidecar, toAnn, toast('second'));
    await eventually(() => heard(tabs, 'second')).toEqual(['ann2']);
    // Nobody answers any more, and what was known has been forgotten.
    worker.client.socket.removeAllListeners('data');
    sidecar.running.operator.invalidate({ user: 'auth.user:ann' });
    await push(sidecar, toAnn, toast('third'));
    await push(sidecar, { kind: 'all' }, toast('fourth'));
    await eventually(() => heard(tabs, 'fourth')).toEqual(['ann', 'ann2']);
    await eventually(() => sidecar.metrics.authLookups.count('unavailable')).toBe(1);
    expect([heard(tabs, 'second'), heard(tabs, 'third')]).toEqual([['ann2'], []]);
  });

  it('finds whoever shows a page, as their last event said', async () => {
    const { sidecar, tab } = await start();
    const tabs = { orders: await tab(), home: await tab(), fresh: await tab() };
    tabs.orders.client.send(event(1, { path: '/orders' }));
    tabs.home.client.send(event(1, { path: '/' }));
    await tabs.orders.there.packet(2);
    await tabs.home.there.packet(2);
    await push(sidecar, { kind: 'path', pattern: '/orders*' }, toast('for orders'));
    await push(sidecar, { kind: 'path', pattern: '/*' }, { kind: 'redirect', path: '/news' });
    await eventually(() => heard(tabs, '"_redirect"')).toEqual(['orders', 'home']);
    expect(heard(tabs, 'for orders')).toEqual(['orders']);
  });

  it('finds one session by its id or its token', async () => {
    const { sidecar, tab } = await start();
    const tabs = { one: await tab(undefined, 'tab-one'), two: await tab(undefined, 'tab-two') };
    await push(sidecar, { kind: 'session', id: 'tab-one' }, toast('by token'));
    const { sid } = tabs.two.client.handshake;
    await push(sidecar, { kind: 'session', id: sid }, { kind: 'script', code: 'by(id)' });
    await eventually(() => [heard(tabs, 'by token'), heard(tabs, 'by(id)')]).toEqual([['one'], ['two']]);
  });

  it('starts an allowed handler in the worker, once, and another only after it', async () => {
    const { sidecar, worker, tab } = await start();
    const { there } = await tab();
    worker.finishes = false;
    const save = (n: number): PushAction => ({ kind: 'event', name: 'shop.note.Note.save', payload: { n } });
    await push(sidecar, { kind: 'all' }, save(1));
    await push(sidecar, { kind: 'all' }, save(2));
    await push(sidecar, { kind: 'all' }, { kind: 'event', name: 'shop.cart.Cart.add', payload: {} });
    const injected = (): unknown[] =>
      there.packets.flatMap((packet) => (packet.kind === 'inject' ? [[packet.name, packet.payload]] : []));
    await eventually(() => sidecar.metrics.pushDeliveries.count('refused')).toBe(1);
    await there.packet(2);
    expect(injected()).toEqual([['root.note.save', { n: 1 }]]);
    there.done(2);
    await eventually(injected).toEqual([
      ['root.note.save', { n: 1 }],
      ['root.note.save', { n: 2 }],
    ]);
    there.done(3);
    await eventually(() => sidecar.metrics.pushRuns.count('ended')).toBe(2);
    expect(sidecar.metrics.snapshot().events.worker).toBe(0);
  });

  it('that may have run in a worker that died is not repeated, and one that has not is', async () => {
    const { sidecar, worker, tab } = await start();
    const { there } = await tab();
    worker.finishes = false;
    const save = (n: number): PushAction => ({ kind: 'event', name: 'shop.note.Note.save', payload: { n } });
    for (const n of [1, 2, 3]) await push(sidecar, { kind: 'all' }, save(n));
    await there.packet(2);
    await eventually(() => sidecar.metrics.pushDeliveries.count('queued')).toBe(3);
    worker.cut();
    const next = await stand.worker(sidecar, 'two');
    const moved = await next.session();
    const injected = (): unknown[] =>
      moved.packets.flatMap((packet) => (packet.kind === 'inject' ? [packet.payload] : []));
    await eventually(injected).toEqual([{ n: 2 }, { n: 3 }]);
    expect(sidecar.metrics.pushRuns.count('lost')).toBe(1);
  });

  it('waits for a client that is away, where it is no handler', async () => {
    const { sidecar, tab } = await start();
    const { client } = await tab(undefined, 'kept');
    await cutOff(sidecar, client);
    await push(sidecar, { kind: 'all' }, { kind: 'event', name: 'shop.note.Note.save', payload: {} });
    await push(sidecar, { kind: 'all' }, toast('meanwhile'));
    await eventually(() => sidecar.metrics.pushDeliveries.total()).toBe(2);
    const back = await tab(undefined, 'kept');
    await eventually(() => heard({ back }, 'meanwhile')).toEqual(['back']);
    expect(sidecar.metrics.pushDeliveries.count('away')).toBe(1);
    expect(back.there.packets.some(({ kind }) => kind === 'inject')).toBe(false);
  });

  it('reaches browsers of unmodified workers, and starts no handler there', async () => {
    const recording = await startRecordingWorker();
    stops.push(() => recording.stop());
    const sidecar = await stand.sidecar({ ...CONFIG, backends: [recording.url], link: { sessions: false } });
    await stand.worker(sidecar, 'one');
    const client = await EngineClient.open(sidecar.url, { token: 'direct' });
    stops.push(() => client.end());
    await client.connect();
    await push(sidecar, { kind: 'all' }, { kind: 'event', name: 'shop.note.Note.save', payload: {} });
    await push(sidecar, { kind: 'all' }, toast('Hello'));
    await eventually(() => client.messages.some((text) => text.includes('Hello'))).toBe(true);
    expect(sidecar.metrics.pushDeliveries.count('unable')).toBe(1);
  });
});

describe('bridgehead push', () => {
  it('reaches an open page through the real process, and says what it may not', async () => {
    const linkPort = await freePort();
    const sidecar = await startBridgehead({
      BRIDGEHEAD_API_KEY: 'a-key-for-tests',
      BRIDGEHEAD_LISTEN: '127.0.0.1:0',
      BRIDGEHEAD_ADMIN_LISTEN: '127.0.0.1:0',
      BRIDGEHEAD_LINK_LISTEN: `127.0.0.1:${linkPort}`,
      BRIDGEHEAD_SECRET: SECRET,
      BRIDGEHEAD_LIVE_PUSH: 'shop.note.Note.*',
    });
    stops.push(() => sidecar.stop());
    const worker = await LinkWorker.link(`tcp://127.0.0.1:${linkPort}`, SECRET, { instance: 'one' });
    stops.push(() => worker.client.end());
    const client = await EngineClient.open(sidecar.listen, { token: 'tab' });
    stops.push(() => client.end());
    await client.connect();
    const there = await worker.session();
    const cli = async (...args: string[]) =>
      await new Cli(['push', '--url', sidecar.admin, ...args], {
        environment: { BRIDGEHEAD_API_KEY: 'a-key-for-tests' },
      }).finished;
    expect(await cli('--session', 'tab', '--toast', 'It\'s "ready"', '--level', 'success')).toMatchObject({
      code: 0,
      stdout: 'accepted\n',
    });
    await eventually(() => client.messages.some((text) => text.includes('[\\"success\\"](\\"It\'s'))).toBe(true);
    const event = ['--all', '--event', 'shop.note.Note.save', '--payload', '{"n":1}', '--json'];
    expect(await cli(...event)).toMatchObject({ code: 0, stdout: '{"accepted":1}\n' });
    await eventually(() => there.packets.some(({ kind }) => kind === 'inject')).toBe(true);
    const refused = await cli('--all', '--event', 'shop.cart.Cart.add');
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('live.push')]);
    const wrong = await cli('--all', '--redirect', '//evil.example');
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('leads away from the app')]);
    for (const secret of ['It\'s "ready"', '"tab"']) expect(sidecar.log()).not.toContain(secret);
  });
});
