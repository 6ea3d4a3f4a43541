import { io, type Socket } from 'socket.io-client';
import { afterEach, describe, expect, it } from 'vitest';
import { configSchema, type ConfigInput } from '../../config/schema.ts';
import { startComposed, type Composed } from '../support/composed.ts';
import { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { LinkClient, MANIFEST } from '../support/link-client.ts';
import { startRecordingWorker, type RecordingWorker } from '../support/recording-worker.ts';
import { answerUsers } from '../support/user-answers.ts';

const SECRET = 'secret-of-these-tests-of-user-sessions';
const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

interface Stack {
  readonly sidecar: Composed;
  readonly worker: RecordingWorker;
  readonly config: ConfigInput;
  /** A connected client whose cookie belongs to this user, after its first event. */
  readonly tab: (user: string, token: string) => Promise<EngineClient>;
}

/** A sidecar whose worker says that a cookie `<name>.<token>` is the user `<name>`; `nobody` is anonymous. */
async function start(limits: ConfigInput['limits']): Promise<Stack> {
  const worker = await startRecordingWorker();
  stops.push(() => worker.stop());
  const config = { name: 'shop', secret: SECRET, backends: [worker.url], limits };
  const sidecar = await startComposed(config);
  stops.push(() => sidecar.stop());
  const link = await LinkClient.link(sidecar.running.addresses.link ?? '', SECRET, { ...MANIFEST, auth: true });
  stops.push(() => link.end());
  answerUsers(link);
  await eventually(() => sidecar.running.operator.stats().links.length).toBe(1);
  return {
    sidecar,
    worker,
    config,
    tab: async (user, token) => {
      const headers = { cookie: `sessionid=${user}.${token}` };
      const client = await EngineClient.open(sidecar.url, { token, headers });
      stops.push(() => client.end());
      await client.connect();
      await event(worker, client);
      return client;
    },
  };
}

let serial = 0;
/** Sends an event and waits until the worker has it. */
async function event(worker: RecordingWorker, client: EngineClient, handler = 'root.note.save'): Promise<void> {
  const n = ++serial;
  client.send(`42/_event,["event",{"name":"${handler}","payload":{"n":${n}}}]`);
  await worker.untilText((text) => text.includes(`"n":${n}}`));
}

const isOpen = (client: EngineClient): boolean => client.closed === undefined;

describe('the sessions of one user', () => {
  it('are as many as the limit: one more, and the oldest is told and let go', async () => {
    const { tab, sidecar, worker } = await start({ sessionsPerUser: 2 });
    const first = await tab('ann', 'a1');
    const second = await tab('ann', 'a2');
    const other = await tab('ben', 'b1');
    expect([first, second, other].every(isOpen)).toBe(true);
    const third = await tab('ann', 'a3');
    expect(await first.untilClosed()).toBe(1008);
    const [toast, disconnect] = first.messages.slice(-2);
    expect(toast).toContain('This page is open in too many places');
    expect(disconnect).toBe('1/_event,');
    for (const client of [second, third, other]) await event(worker, client);
    expect(sidecar.metrics.closed.count('user_sessions')).toBe(1);
    const ended = (): unknown => worker.sessions.filter(({ closed, frames }) => closed && frames.length > 0).length;
    await eventually(ended).toBe(1);
  });

  it('make room when one of them ends', async () => {
    const { tab, sidecar } = await start({ sessionsPerUser: 1 });
    const first = await tab('ann', 'a1');
    first.send('1');
    await eventually(() => sidecar.running.operator.stats().sessions).toBe(0);
    const second = await tab('ann', 'a2');
    expect(isOpen(second)).toBe(true);
    expect(sidecar.metrics.closed.count('user_sessions')).toBe(0);
  });

  it('let go of the one that a tab had before it came back, not of the oldest', async () => {
    const { tab, worker } = await start({ sessionsPerUser: 2 });
    const oldest = await tab('ann', 'a1');
    const lost = await tab('ann', 'a2');
    lost.answersPings = false;
    const back = await tab('ann', 'a2');
    await lost.untilClosed();
    for (const client of [oldest, back]) await event(worker, client);
  });

  it('are not those of visitors, nor of tabs whose user nobody asked for', async () => {
    const { tab, sidecar, worker } = await start({ sessionsPerUser: 1 });
    const visitors = [await tab('nobody', 'n1'), await tab('nobody', 'n2'), await tab('ann', 'a1')];
    const unknown = await EngineClient.open(sidecar.url, { token: 'a2', headers: { cookie: 'sessionid=ann.a2' } });
    stops.push(() => unknown.end());
    await unknown.connect();
    await event(worker, unknown, 'root.cart.add');
    for (const client of visitors) await event(worker, client);
    expect(sidecar.metrics.closed.count('user_sessions')).toBe(0);
  });

  it('follow a limit that is set while they are open', async () => {
    const { tab, sidecar, worker, config } = await start({ sessionsPerUser: 0 });
    const tabs = [await tab('ann', 'a1'), await tab('ann', 'a2'), await tab('ann', 'a3')];
    const limits = { sessionsPerUser: 2 };
    sidecar.running.reload(configSchema.parse({ ...config, limits }));
    const [first, second, third] = tabs as [EngineClient, EngineClient, EngineClient];
    await event(worker, first);
    await event(worker, second);
    await event(worker, third);
    await first.untilClosed();
    for (const client of [second, third]) await event(worker, client);
  });

  it.each(['websocket', 'polling'])(
    "leave Socket.IO's own client without a loop, after its toast, over %s",
    async (transport) => {
      const { tab, sidecar } = await start({ sessionsPerUser: 1 });
      const client: Socket = io(`${sidecar.url}/_event`, {
        path: '/_event',
        transports: [transport],
        forceNew: true,
        extraHeaders: { cookie: 'sessionid=ann.a1' },
        query: { token: 'a1' },
      });
      stops.push(() => client.disconnect());
      const seen: string[] = [];
      client.on('event', () => seen.push('toast'));
      client.on('disconnect', (reason) => seen.push(reason));
      await new Promise<void>((resolve) => void client.once('connect', resolve));
      client.emit('event', { name: 'root.note.save', payload: {} });
      await eventually(() => sidecar.metrics.authLookups.count('source')).toBe(1);
      await tab('ann', 'a2');
      await eventually(() => seen.length).toBe(2);
      expect(seen).toEqual(['toast', 'io server disconnect']);
      await eventually(() => sidecar.running.operator.stats().sessions).toBe(1);
      expect(sidecar.metrics.opened.total()).toBe(2);
    },
  );
});
