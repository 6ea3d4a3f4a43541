import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import { Redis as RedisClient } from 'ioredis';
import { io, type Socket } from 'socket.io-client';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ConfigInput } from '../../config/schema.ts';
import { signText } from '../../src/adapters/redis/signed-text.ts';
import { keyring } from '../../src/protocol/keys.ts';
import { PEER_HEADER, signPeerNote } from '../../src/protocol/peer-note.ts';
import { startBridgehead } from '../../tools/bridgehead.ts';
import { startRedis, type Redis } from '../../tools/services/index.ts';
import { startComposed, type Composed } from '../support/composed.ts';
import { eventually } from '../support/eventually.ts';
import { rawRequest, requestHead, upgradeHead } from '../support/http.ts';
import { acknowledgeConnect, startRecordingWorker, type RecordingWorker } from '../support/recording-worker.ts';
import { RoundRobin } from '../support/round-robin.ts';

const SECRET = 'the secret of the sidecars of these tests';
const POLLING = '/_event/?EIO=4&transport=polling&token=tab';
const EVENTS = 30;

let redis: Redis;
let worker: RecordingWorker;
const stops: (() => unknown)[] = [];

beforeAll(async () => {
  redis = await startRedis();
  worker = await startRecordingWorker({
    onFrame: (session, frame) => {
      acknowledgeConnect(session, frame);
      // It says everything twice, so that a poll that waits has one answer and a later poll the other.
      const isEvent = typeof frame === 'string' && frame.startsWith('42/_event,["event"');
      for (const kind of isEvent ? ['first', 'second'] : []) {
        session.socket.send(frame.toString().replace('"event"', `"${kind}"`));
      }
    },
  });
});

afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

afterAll(async () => {
  await worker?.stop();
  await redis?.stop();
});

function settings(changes: ConfigInput = {}): ConfigInput {
  const { url } = redis;
  // Nobody links: its sessions would wait for that.
  const link = { sessions: false };
  return {
    name: 'shop',
    secret: SECRET,
    redis: { url },
    link,
    auth: { source: 'none' },
    backends: [worker.url],
    ...changes,
  };
}

async function sidecar(changes: ConfigInput = {}): Promise<Composed> {
  const composed = await startComposed(settings(changes));
  stops.push(() => composed.stop());
  return composed;
}

async function balancer(...sidecars: { readonly port: number }[]): Promise<RoundRobin> {
  const started = await RoundRobin.start(sidecars.map(({ port }) => port));
  stops.push(() => started.stop());
  return started;
}

function client(url: string, transports: string[]): Socket {
  const socket = io(`${url}/_event`, {
    path: '/_event',
    transports,
    forceNew: true,
    reconnectionDelay: 50,
    query: { token: `tab-${transports.join('-')}` },
  });
  stops.push(() => socket.disconnect());
  return socket;
}

const connected = (socket: Socket): Promise<void> =>
  new Promise((resolve) => void socket.once('connect', () => resolve()));

/** Says so many events and resolves with what came back, once all of it is there. */
async function talk(socket: Socket, from = 0): Promise<{ first: number[]; second: number[] }> {
  const heard = { first: [] as number[], second: [] as number[] };
  for (const kind of ['first', 'second'] as const) {
    socket.on(kind, ({ payload }: { payload: { n: number } }) => void heard[kind].push(payload.n));
  }
  for (let n = from; n < from + EVENTS; n++) {
    socket.emit('event', { name: 'root.note.save', payload: { n } });
    if (n % 5 === 0) await eventually(() => heard.first).toContain(n);
  }
  await eventually(() => heard.second.length).toBe(EVENTS);
  return heard;
}

const upTo = (from: number): number[] => Array.from({ length: EVENTS }, (_, n) => from + n);

/** The sid of a polling session of this sidecar. */
async function open({ port }: { port: number }): Promise<string> {
  const { body } = await rawRequest(port, requestHead('GET', POLLING));
  return /"sid":"([^"]+)"/.exec(body)?.[1] ?? '';
}

const codeOf = ({ status, body }: { status: number; body: string }): string =>
  `${status} ${/"code":"(\w+)"/.exec(body)?.[1] ?? ''}`;

/** A server that is no sidecar, and what reached it. */
async function trap(): Promise<{ url: string; targets: string[] }> {
  const targets: string[] = [];
  const server: Server = createServer(({ url = '' }, outgoing) => {
    targets.push(url);
    outgoing.end('caught');
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  stops.push(() => server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, targets };
}

async function putPeer(prefix: string, value: string): Promise<void> {
  const commands = new RedisClient(redis.url);
  await commands.set(`bridgehead:shop:peer:${prefix}`, value, 'PX', 20_000);
  commands.disconnect();
}

describe('two sidecars behind a balancer that keeps nobody at one of them', () => {
  it('serve a polling client, whichever of them its requests come to', async () => {
    const [one, two] = [await sidecar(), await sidecar()];
    const edge = await balancer(one, two);
    const socket = client(edge.url, ['polling']);
    await connected(socket);
    expect(await talk(socket)).toEqual({ first: upTo(0), second: upTo(0) });
    expect(Math.min(...edge.counts.values())).toBeGreaterThan(5);
    expect([one, two].map(({ metrics }) => metrics.opened.total())).toEqual([1, 0]);
    const passed = [one, two].reduce((sum, { metrics }) => sum + metrics.toPeers.count('request'), 0);
    expect(passed).toBeGreaterThan(5);
  });

  it('let it upgrade to a WebSocket that comes to the other one', async () => {
    const [one, two] = [await sidecar(), await sidecar()];
    const edge = await balancer(one, two);
    const socket = client(edge.url, ['polling', 'websocket']);
    await connected(socket);
    await eventually(() => socket.io.engine.transport.name).toBe('websocket');
    expect([one, two].map(({ metrics }) => metrics.opened.total())).toEqual([1, 0]);
    expect(two.metrics.toPeers.count('websocket')).toBe(1);
    expect(await talk(socket)).toEqual({ first: upTo(0), second: upTo(0) });
    socket.disconnect();
    await eventually(() => one.running.operator.stats().sessions + two.running.operator.stats().sessions).toBe(0);
  });

  it('send its client to a new session when the one that had it is killed', async () => {
    const processes = [
      await startBridgehead({ settings: settings() }),
      await startBridgehead({ settings: settings() }),
    ];
    stops.push(() => Promise.all(processes.map((one) => one.stop())));
    const edge = await balancer(...processes);
    const socket = client(edge.url, ['polling']);
    await connected(socket);
    await talk(socket);
    const sessions = async (at: number): Promise<number> => {
      const stats = await fetch(`${processes[at]?.adminUrl}/api/stats`);
      return ((await stats.json()) as { sessions: number }).sessions;
    };
    const owner = (await sessions(0)) === 1 ? 0 : 1;
    const survivor = processes[1 - owner];
    const sid = socket.io.engine.id;
    processes[owner]?.process.signalGroup('SIGKILL');
    edge.remove(processes[owner]?.port ?? 0);
    const target = `${POLLING}&sid=${sid}`;
    const asked = async (): Promise<string> =>
      codeOf(await rawRequest(survivor?.port ?? 0, requestHead('GET', target)));
    await eventually(asked).toBe('400 unknown_sid');
    await eventually(async () => (socket.connected ? await sessions(1 - owner) : 0)).toBeGreaterThan(0);
    socket.off();
    expect(await talk(socket, 100)).toEqual({ first: upTo(100), second: upTo(100) });
  });

  it('go on while Redis is away, as far as they know each other', async () => {
    const away = await startRedis();
    const [one, two] = [await sidecar({ redis: { url: away.url } }), await sidecar({ redis: { url: away.url } })];
    const edge = await balancer(one, two);
    const socket = client(edge.url, ['polling']);
    await connected(socket);
    await talk(socket);
    await away.kill();
    socket.off();
    expect(await talk(socket, 100)).toEqual({ first: upTo(100), second: upTo(100) });
    await away.stop();
  });
});

describe('a request of a session of another sidecar', () => {
  const post = (target: string, body: string, headers: Record<string, string> = {}): string =>
    requestHead('POST', target, { 'Content-Length': `${Buffer.byteLength(body)}`, ...headers }) + body;

  it('keeps its answer: what is refused there is refused with the same words', async () => {
    const [one, two] = [await sidecar({ limits: { payloadBytes: 2_000 } }), await sidecar()];
    const sid = await open(one);
    const tooLong = await rawRequest(two.port, post(`${POLLING}&sid=${sid}`, 'x'.repeat(8_001)));
    expect(codeOf(tooLong)).toBe('413 too_large');
    expect(codeOf(await rawRequest(two.port, requestHead('GET', `${POLLING}&sid=${sid}`)))).toBe('400 unknown_sid');
  });

  it('is looked at here first: a foreign origin gets no further', async () => {
    const [one, two] = [await sidecar(), await sidecar()];
    const sid = await open(one);
    const foreign = { Origin: 'https://evil.test' };
    const answers = [
      await rawRequest(two.port, requestHead('GET', `${POLLING}&sid=${sid}`, foreign)),
      await rawRequest(two.port, upgradeHead(`/_event/?EIO=4&transport=websocket&sid=${sid}`, foreign)),
    ];
    expect(answers.map(codeOf)).toEqual(['403 origin', '403 origin']);
    expect(two.metrics.toPeers.total()).toBe(0);
  });

  it('with a note of the client’s own is not passed on, and spares nobody the look at its origin', async () => {
    const [one, two] = [await sidecar(), await sidecar()];
    const sid = await open(one);
    const { current } = keyring('another secret of at least thirty-two bytes', [], 'peer');
    const forged = signPeerNote({ name: 'shop', sid, method: 'GET' }, '203.0.113.9', Date.now(), current);
    const headers = { [PEER_HEADER]: forged };
    const target = `${POLLING}&sid=${sid}`;
    expect(codeOf(await rawRequest(two.port, requestHead('GET', target, headers)))).toBe('400 unknown_sid');
    const foreign = { ...headers, Origin: 'https://evil.test' };
    expect(codeOf(await rawRequest(one.port, requestHead('GET', target, foreign)))).toBe('403 origin');
    const { current: real } = keyring(SECRET, [], 'peer');
    const note = signPeerNote({ name: 'shop', sid, method: 'POST' }, '203.0.113.9', Date.now(), real);
    const vouched = { [PEER_HEADER]: note, Origin: 'https://evil.test' };
    expect((await rawRequest(one.port, post(target, '40/_event,', vouched))).status).toBe(200);
  });

  it('is passed on once: not even a wrong entry leads it round', async () => {
    const [one, two] = [await sidecar(), await sidecar()];
    const entry = (prefix: string, host: string): string =>
      signText(
        { url: one.url, host, until: Date.now() + 60_000 },
        keyring(SECRET, [], 'peer'),
        `peer\nshop\n${prefix}`,
      );
    const ask = async (prefix: string): Promise<string> =>
      codeOf(await rawRequest(two.port, requestHead('GET', `${POLLING}&sid=${prefix}${'x'.repeat(16)}`)));
    // A loopback address of another machine is none here.
    await putPeer('nobodys1', entry('nobodys1', 'elsewhere'));
    expect(await ask('nobodys1')).toBe('400 unknown_sid');
    expect(two.metrics.toPeers.total()).toBe(0);
    await putPeer('nobodys2', entry('nobodys2', hostname()));
    expect(await ask('nobodys2')).toBe('400 unknown_sid');
    expect([two, one].map(({ metrics }) => metrics.toPeers.total())).toEqual([1, 0]);
  });

  it('goes to no address that a sidecar of this deployment did not sign for this prefix', async () => {
    const one = await sidecar();
    const { url, targets } = await trap();
    const signed = (secret: string, prefix: string): string =>
      signText({ url, host: '', until: Date.now() + 60_000 }, keyring(secret, [], 'peer'), `peer\nshop\n${prefix}`);
    const values = [
      url,
      JSON.stringify({ url }),
      signed('another secret of at least thirty-two bytes', 'forged-2'),
      signed(SECRET, 'another-'),
      'http://169.254.169.254/',
    ];
    for (const [index, value] of values.entries()) {
      await putPeer(`forged-${index}`, value);
      const target = `${POLLING}&sid=forged-${index}${'x'.repeat(16)}`;
      expect(codeOf(await rawRequest(one.port, requestHead('GET', target)))).toBe('400 unknown_sid');
    }
    expect(targets).toEqual([]);
    expect(one.metrics.toPeers.total()).toBe(0);
  });

  it('is refused with the remedy where sidecars cannot find each other', async () => {
    const { url: _url, ...without } = settings().redis ?? {};
    const [one, two] = [await sidecar({ redis: without }), await sidecar({ redis: without })];
    const { status, body } = await rawRequest(two.port, requestHead('GET', `${POLLING}&sid=${await open(one)}`));
    expect(status).toBe(400);
    expect(body).toContain('sticky');
    expect(body).toContain('redis.url');
  });
});
