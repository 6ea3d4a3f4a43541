import { io } from 'socket.io-client';
import { afterEach, describe, expect, it } from 'vitest';
import { freePort } from '../../tools/ports.ts';
import { startBridgehead } from '../support/bridgehead-process.ts';
import { startComposed, type Composed } from '../support/composed.ts';
import { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { rawRequest, requestHead, upgradeHead } from '../support/http.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  acknowledgeConnect,
  startRecordingWorker,
  type RecordingWorker,
  type RecordingWorkerOptions,
  type WorkerSession,
} from '../support/recording-worker.ts';

const stops: (() => Promise<void>)[] = [];

async function startSidecar(...parameters: Parameters<typeof startComposed>): Promise<Composed> {
  const sidecar = await startComposed(...parameters);
  stops.push(() => sidecar.stop());
  return sidecar;
}

async function startWorker(options: RecordingWorkerOptions = {}): Promise<RecordingWorker> {
  const worker = await startRecordingWorker(options);
  stops.push(() => worker.stop());
  return worker;
}

afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));
const numberOf = (text: string): number => Number(/"n":(\d+)/.exec(text)?.[1]);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
const reflexEvent = (n: number, router = ''): string =>
  `42/_event,["event",{"name":"s.h","payload":{"n":${n}},"router_data":{"pathname":"/"${router}}}]`;

const FRAME = 64 * 1024;
const FRAMES = 500;
const update = (n: number): string => `42/_event,["event",{"n":${n},"x":"${'x'.repeat(FRAME)}"}]`;

/** Sends all frames as fast as they are taken; `written` counts those that have left the worker's process. */
function pump(): { options: RecordingWorkerOptions; written: () => number } {
  let written = 0;
  return {
    written: () => written,
    options: {
      onFrame: (session, frame) => {
        acknowledgeConnect(session, frame);
        for (let n = 0; n < FRAMES; n++) session.socket.send(update(n), () => written++);
      },
    },
  };
}

describe('a client', () => {
  it.each(['websocket', 'polling'])(
    'over %s is told times by which a dead server shows within 45 s',
    async (transport) => {
      // As Reflex announces them: a client would wait for 145 s.
      const worker = await startWorker({ handshake: { pingInterval: 25_000, pingTimeout: 120_000 } });
      const sidecar = await startSidecar({ backends: [worker.url] });
      const client = transport === 'websocket' ? await EngineClient.open(sidecar.url) : undefined;
      const opened = await rawRequest(sidecar.port, requestHead('GET', '/_event/?EIO=4&transport=polling'));
      const text = opened.body.slice(1);
      const { pingInterval, pingTimeout } = client?.handshake ?? (JSON.parse(text) as EngineClient['handshake']);
      expect(pingInterval + pingTimeout).toBeLessThanOrEqual(45_000);
      expect(Math.min(pingInterval, pingTimeout)).toBeGreaterThan(0);
      client?.end();
    },
  );
});

describe('a client that does not read', () => {
  it('holds its worker back, and is closed after 30 s', async () => {
    const clock = new ManualClock();
    const source = pump();
    const worker = await startWorker(source.options);
    const sidecar = await startSidecar({ backends: [worker.url], limits: { queueBytes: 200_000 } }, { clock });
    const client = await EngineClient.open(sidecar.url);
    client.send('40/_event,');
    client.raw.pause();
    const queued = (): number => sidecar.running.operator.sessions(1)[0]?.queued.client ?? 0;
    await eventually(queued).toBeGreaterThan(200_000);
    let before = -1;
    await eventually(
      () => {
        const stands = source.written() === before;
        before = source.written();
        return stands;
      },
      { interval: 200 },
    ).toBe(true);
    expect(source.written()).toBeLessThan(FRAMES);
    expect(queued()).toBeLessThan(200_000 + 20 * FRAME);
    clock.advance(29_999);
    await settled();
    expect(sidecar.running.operator.stats().sessions).toBe(1);
    clock.advance(1);
    expect(sidecar.metrics.closed.count('slow_client')).toBe(1);
    await eventually(() => worker.sessions.at(-1)?.closed).toBe(true);
    expect(sidecar.running.operator.stats().queuedBytes).toBe(0);
    client.end();
  });

  it('gets everything in order when it reads again in time', async () => {
    const source = pump();
    const worker = await startWorker(source.options);
    const sidecar = await startSidecar({ backends: [worker.url], limits: { queueBytes: 200_000 } });
    const client = await EngineClient.open(sidecar.url);
    client.send('40/_event,');
    client.raw.pause();
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.queued.client ?? 0).toBeGreaterThan(200_000);
    client.raw.resume();
    await client.until(() => client.messages.length > FRAMES);
    expect(client.messages.slice(1).map(numberOf)).toEqual(upTo(FRAMES));
    expect(sidecar.running.operator.stats().queuedBytes).toBe(0);
    client.end();
  });

  it('may upgrade from polling meanwhile: the worker goes on', async () => {
    const source = pump();
    const worker = await startWorker(source.options);
    const sidecar = await startSidecar({ backends: [worker.url], limits: { queueBytes: 200_000 } });
    const target = '/_event/?EIO=4&transport=polling';
    const opened = await rawRequest(sidecar.port, requestHead('GET', target));
    const sid = /"sid":"([^"]+)"/.exec(opened.body)?.[1] ?? '';
    await rawRequest(
      sidecar.port,
      `${requestHead('POST', `${target}&sid=${sid}`, { 'Content-Length': '10' })}40/_event,`,
    );
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.queued.client ?? 0).toBeGreaterThan(200_000);
    const client = await EngineClient.open(sidecar.url, { query: `&sid=${sid}`, probe: true });
    client.send('5');
    await client.until(() => client.messages.length > FRAMES);
    expect(client.messages.slice(1).map(numberOf)).toEqual(upTo(FRAMES));
    client.end();
  });
});

describe('a worker that does not read', () => {
  it('holds the client back, and gets everything in order when it reads again', async () => {
    const worker = await startWorker({ onSession: ({ socket }) => socket.pause() });
    const sidecar = await startSidecar({ backends: [worker.url], limits: { eventsPerSecond: 0 } });
    const client = await EngineClient.open(sidecar.url);
    let written = 0;
    for (let n = 0; n < FRAMES; n++) {
      client.socket.send(`42/chat,["a",{"n":${n},"x":"${'x'.repeat(FRAME)}"}]`, () => written++);
    }
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.queued.upstream ?? 0).toBeGreaterThan(200_000);
    let before = -1;
    await eventually(
      () => {
        const stands = written === before;
        before = written;
        return stands;
      },
      { interval: 200 },
    ).toBe(true);
    expect(written).toBeLessThan(FRAMES);
    expect(sidecar.running.operator.stats().queuedBytes).toBeLessThanOrEqual(1_000_000);
    worker.sessions.at(-1)?.socket.resume();
    await eventually(() => worker.texts().length).toBe(FRAMES);
    expect(worker.texts().map(numberOf)).toEqual(upTo(FRAMES));
    expect(sidecar.metrics.losses.total()).toBe(0);
    expect(sidecar.running.operator.stats().queuedBytes).toBe(0);
    client.end();
  });
});

describe('a burst of 10,000 events', () => {
  it('is delayed in its order, and what overflows is refused, counted and told', async () => {
    const clock = new ManualClock();
    const worker = await startWorker();
    const sidecar = await startSidecar({ backends: [worker.url], limits: { queueBytes: 300_000 } }, { clock });
    const client = await EngineClient.open(sidecar.url);
    await client.connect();
    const before = sidecar.metrics.clientBytesIn;
    const events = upTo(10_000).map((n) => reflexEvent(n));
    for (const event of events) client.send(event);
    const bytes = events.reduce((sum, event) => sum + Buffer.byteLength(event), 0);
    await eventually(() => sidecar.metrics.clientBytesIn - before).toBe(bytes);

    const arrived = (): string[] => worker.texts().filter((text) => text.startsWith('42/_event,["event"'));
    // The CONNECT took one of the 400 that may come at once.
    await eventually(() => arrived().length).toBe(399);
    clock.advance(1_000);
    await eventually(() => arrived().length).toBe(399 + 200);
    const refused = sidecar.metrics.losses.count('queue_full');
    expect(refused).toBeGreaterThan(0);
    await eventually(() => {
      clock.advance(1_000);
      return arrived().length;
    }).toBe(10_000 - refused);
    expect(sidecar.metrics.losses.total()).toBe(refused);
    const numbers = arrived().map(numberOf);
    expect(numbers).toEqual([...numbers].sort((left, right) => left - right));
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(sidecar.metrics.delayed).toBeGreaterThan(0);
    const toasts = client.messages.filter((text) => text.includes('bridgehead-refused'));
    expect(toasts).toHaveLength(1);
    expect(client.closed).toBeUndefined();
    expect(sidecar.running.operator.stats().queuedBytes).toBe(0);
    client.end();
  });

  it('of all sessions together stays within totalQueueBytes', async () => {
    const clock = new ManualClock();
    const limits = { queueBytes: 300_000, totalQueueBytes: 400_000, eventBurst: 1, eventsPerSecond: 1 };
    const worker = await startWorker();
    const sidecar = await startSidecar({ backends: [worker.url], limits }, { clock });
    const { losses } = sidecar.metrics;
    const events = upTo(4_000).map((n) => reflexEvent(n));
    const bytes = events.reduce((sum, event) => sum + Buffer.byteLength(event), 0);
    const clients: EngineClient[] = [];
    for (const reason of ['queue_full', 'total_queue_full'] as const) {
      const client = await EngineClient.open(sidecar.url);
      await client.connect();
      clients.push(client);
      const before = sidecar.metrics.clientBytesIn;
      for (const event of events) client.send(event);
      await eventually(() => sidecar.metrics.clientBytesIn - before).toBe(bytes);
      expect(losses.count(reason)).toBeGreaterThan(0);
    }
    const { queuedBytes } = sidecar.running.operator.stats();
    expect(queuedBytes).toBeLessThanOrEqual(400_000);
    expect(queuedBytes).toBeGreaterThan(399_000);
    for (const client of clients) client.end();
    await eventually(() => sidecar.running.operator.stats().queuedBytes).toBe(0);
    // Each event is delivered or counted as lost.
    expect(losses.total()).toBe(8_000);
  });
});

describe('backends', () => {
  it('get the new session in turn, the one with the least first, and each token stays with its own', async () => {
    const workers = [await startWorker(), await startWorker()];
    const sidecar = await startSidecar({ backends: workers.map(({ url }) => url), sessionRetention: 0 });
    const clients: EngineClient[] = [];
    const enter = async (token: string): Promise<string> => {
      const client = await EngineClient.open(sidecar.url, { token });
      await client.connect();
      clients.push(client);
      return sidecar.running.operator.sessions(1)[0]?.upstream ?? '';
    };
    const homes = new Map<string, string>();
    for (const token of ['a', 'b', 'c', 'd']) homes.set(token, await enter(token));
    expect([...homes.values()].filter((url) => url === workers[0]?.url)).toHaveLength(2);
    for (const client of clients.splice(0)) client.end();
    await eventually(() => sidecar.running.operator.stats().sessions).toBe(0);
    for (const token of ['d', 'a', 'c', 'b', 'a', 'a']) expect(await enter(token)).toBe(homes.get(token));
    expect(await enter('')).not.toBe(homes.get('a'));
    for (const client of clients) client.end();
  });

  it('that come late get what waited, in its order', async () => {
    const port = await freePort();
    const sidecar = await startSidecar({ backends: [`http://127.0.0.1:${port}`] });
    expect((await rawRequest(sidecar.port, requestHead('GET', '/_bridgehead/ready'))).status).toBe(503);
    const client = await EngineClient.open(sidecar.url, { token: 't' });
    client.send('40/_event,');
    for (let n = 0; n < 20; n++) client.send(reflexEvent(n));
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.queued.upstream ?? 0).toBeGreaterThan(1_000);
    const worker = await startWorker({ port });
    await eventually(() => worker.texts().length).toBe(21);
    expect(worker.texts()[0]).toBe('40/_event,');
    expect(worker.texts().slice(1).map(numberOf)).toEqual(upTo(20));
    await eventually(
      async () => (await rawRequest(sidecar.port, requestHead('GET', '/_bridgehead/ready'))).status,
    ).toBe(200);
    expect(sidecar.metrics.losses.total()).toBe(0);
    client.end();
  });

  it('that never come end the transport after waitSeconds, and the loss is counted', async () => {
    const clock = new ManualClock();
    const sidecar = await startSidecar({ backends: [`http://127.0.0.1:${await freePort()}`] }, { clock });
    const client = await EngineClient.open(sidecar.url);
    client.send('40/_event,');
    for (let n = 0; n < 3; n++) client.send(reflexEvent(n));
    let waited = 0;
    for (; client.closed === undefined && waited < 60_000; waited += 100) {
      clock.advance(100);
      await settled();
    }
    expect(await client.untilClosed()).toBe(1013);
    expect(waited).toBeGreaterThanOrEqual(28_000);
    expect(waited).toBeLessThan(60_000);
    expect(sidecar.metrics.losses.count('upstream_unavailable')).toBe(4);
    expect(client.messages).toEqual([]);
  });

  it.each([
    ['is killed', ({ socket }: WorkerSession) => socket.terminate()],
    ['closes', ({ socket }: WorkerSession) => socket.close(1001)],
    ['closes the Engine.IO session', ({ socket }: WorkerSession) => socket.send('1')],
  ])('end the transport alone when one %s', async (_how, end) => {
    const worker = await startWorker();
    const sidecar = await startSidecar({ backends: [worker.url] });
    const client = await EngineClient.open(sidecar.url);
    await client.connect();
    const socket = io(`${sidecar.url}/_event`, { path: '/_event', transports: ['websocket'], reconnection: false });
    await new Promise((resolve) => void socket.once('connect', () => resolve(undefined)));
    const reason = new Promise((resolve) => void socket.once('disconnect', resolve));
    for (const session of worker.sessions) end(session);
    expect(await client.untilClosed()).toBe(1012);
    expect(client.messages.filter((text) => text.startsWith('1'))).toEqual([]);
    // After "io server disconnect" Reflex's client would stay away.
    expect(await reason).toBe('transport close');
  });

  it('set the largest message: the sidecar announces what they take', async () => {
    const worker = await startWorker({ maxPayload: 2_000 });
    const sidecar = await startSidecar({ backends: [worker.url] });
    await eventually(() => sidecar.running.operator.ready()).toBe(true);
    const client = await EngineClient.open(sidecar.url);
    expect(client.handshake.maxPayload).toBe(2_000);
    client.send(`42["${'x'.repeat(1_995)}"]`);
    expect(await client.untilClosed()).toBe(1009);
  });
});

describe('what a client claims', () => {
  it('is taken out of events, CONNECT and headers; the rest stays byte for byte', async () => {
    const worker = await startWorker();
    const sidecar = await startSidecar({ backends: [worker.url] });
    const client = await EngineClient.open(sidecar.url, {
      token: 't',
      protocols: ['0.10.1', 'second'],
      headers: {
        cookie: 'sessionid=abc; other=1',
        origin: sidecar.url,
        'x-bridgehead-annotation': 'v1.x',
        X_Bridgehead_Annotation: 'v1.x',
        'X-Bridgehead_User': '1',
        'x-forwarded-for': '203.0.113.7, 198.51.100.2',
        x_forwarded_for: '192.0.2.1',
        'x-real-ip': '192.0.2.2',
      },
    });
    expect(client.socket.protocol).toBe('0.10.1');
    client.send(
      '40/_event,{"event":{"name":"s.boot","payload":{"a":1.0},"router_data":{"_bridgehead":"v1.x","pathname":"/"}}}',
    );
    client.send(reflexEvent(12345678901234567890n as unknown as number, ',"\\u005fbridgehead":"v1.y","big":1.0'));
    await worker.untilText((text) => text.includes('"big"'));
    expect(worker.texts()).toEqual([
      '40/_event,{"event":{"name":"s.boot","payload":{"a":1.0},"router_data":{"pathname":"/"}}}',
      '42/_event,["event",{"name":"s.h","payload":{"n":12345678901234567890},"router_data":{"pathname":"/","big":1.0}}]',
    ]);
    expect(sidecar.metrics.forged).toBe(2);
    const headers = worker.sessions.at(-1)?.headers ?? {};
    expect(Object.keys(headers).filter((name) => /bridgehead|_/.test(name))).toEqual([]);
    expect(headers).toMatchObject({
      cookie: 'sessionid=abc; other=1',
      origin: sidecar.url,
      host: new URL(sidecar.url).host,
      'sec-websocket-protocol': expect.stringMatching(/^0\.10\.1, ?second$/) as string,
      // The peer is on the loopback, which is trusted: the next address is the client's.
      'x-forwarded-for': '198.51.100.2',
      'x-forwarded-proto': 'http',
    });
    client.end();
  });

  it('of its session is what the worker sees: path, query and token, as a new WebSocket handshake', async () => {
    const worker = await startWorker();
    const sidecar = await startSidecar({ backends: [worker.url] });
    const opened = await rawRequest(
      sidecar.port,
      requestHead('GET', '/_event?EIO=4&transport=polling&token=a%20b&x=1&t=abc'),
    );
    const sid = /"sid":"([^"]+)"/.exec(opened.body)?.[1] ?? '';
    const post = requestHead('POST', `/_event?EIO=4&transport=polling&sid=${sid}`, { 'Content-Length': '10' });
    await rawRequest(sidecar.port, `${post}40/_event,`);
    await worker.untilText((text) => text === '40/_event,');
    const { searchParams, pathname } = new URL(worker.sessions.at(-1)?.target ?? '', 'http://worker');
    expect(pathname).toBe('/_event');
    expect(Object.fromEntries(searchParams)).toEqual({ EIO: '4', transport: 'websocket', token: 'a b', x: '1' });
    // A drain would wait for a client that does not ask.
    const poll = await rawRequest(sidecar.port, requestHead('GET', `/_event?EIO=4&transport=polling&sid=${sid}`));
    expect(poll.body).toBe('40/_event,{"sid":"abc"}');
  });
});

describe('a page of another origin', () => {
  it('that is allowed may read the answers to its polls, one by one; nobody else is told that it may', async () => {
    const worker = await startWorker();
    const origin = 'https://page.test';
    const sidecar = await startSidecar({ backends: [worker.url], origins: [origin] });
    const target = '/_event/?EIO=4&transport=polling';
    const allowed = (head: string): string[] =>
      head.split('\r\n').filter((line) => /^(access-control-|vary)/i.test(line));
    const expected = [
      `access-control-allow-origin: ${origin}`,
      'access-control-allow-credentials: true',
      'vary: Origin',
    ];
    const ask = (
      method: string,
      path: string,
      body = '',
      headers = { Origin: origin },
    ): ReturnType<typeof rawRequest> =>
      rawRequest(sidecar.port, requestHead(method, path, { ...headers, 'Content-Length': `${body.length}` }) + body);
    const opened = await ask('GET', target);
    const own = `${target}&sid=${/"sid":"([^"]+)"/.exec(opened.body)?.[1] ?? ''}`;
    const answers = [
      opened,
      await ask('POST', own, '40/_event,'),
      await ask('GET', own),
      await ask('GET', `${target}&sid=x`),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 400]);
    for (const { head } of answers) expect(allowed(head)).toEqual(expected);
    const foreign = await ask('GET', own, '', { Origin: 'https://evil.test' });
    expect([foreign.status, allowed(foreign.head)]).toEqual([403, []]);
    const without = await rawRequest(sidecar.port, requestHead('GET', target));
    expect([without.status, allowed(without.head)]).toEqual([200, []]);
  });
});

describe('a stop', () => {
  it('of the process by SIGTERM closes transports alone, and ends with 0', async () => {
    const worker = await startWorker();
    const any = '127.0.0.1:0';
    const sidecar = await startBridgehead({
      BRIDGEHEAD_LISTEN: any,
      BRIDGEHEAD_ADMIN_LISTEN: any,
      BRIDGEHEAD_BACKENDS: worker.url,
    });
    const frames = await EngineClient.open(sidecar.listen);
    await frames.connect();
    const socket = io(`${sidecar.listen}/_event`, { path: '/_event', transports: ['websocket'], reconnection: false });
    await new Promise((resolve) => void socket.once('connect', () => resolve(undefined)));
    const reason = new Promise((resolve) => void socket.once('disconnect', resolve));
    const poller = io(`${sidecar.listen}/_event`, { path: '/_event', transports: ['polling'], reconnection: false });
    await new Promise((resolve) => void poller.once('connect', () => resolve(undefined)));
    const pollerReason = new Promise((resolve) => void poller.once('disconnect', resolve));
    expect(await sidecar.stop()).toBe(0);
    // After "io server disconnect" Reflex's client would stay away.
    expect(await reason).toBe('transport close');
    // A poll that was on its way meets a listener that is gone.
    expect(['transport close', 'transport error']).toContain(await pollerReason);
    expect(await frames.untilClosed()).toBe(1012);
    expect(frames.messages.filter((text) => text.startsWith('1'))).toEqual([]);
  });

  it('refuses new sessions, lets handlers finish, and closes transports alone', async () => {
    const worker = await startWorker({
      onFrame: (session, frame) => {
        acknowledgeConnect(session, frame);
        if (String(frame).startsWith('42'))
          setTimeout(() => session.socket.send('42/_event,["event",{"done":1}]'), 300);
      },
    });
    const sidecar = await startComposed({ backends: [worker.url] });
    const client = await EngineClient.open(sidecar.url);
    await client.connect();
    const ready = async (): Promise<number> =>
      (await rawRequest(sidecar.port, requestHead('GET', '/_bridgehead/ready'))).status;
    expect(await ready()).toBe(200);
    // As balancers ask that know no more than HTTP/1.0, which has no Host.
    expect((await rawRequest(sidecar.port, 'GET /_bridgehead/ready HTTP/1.0\r\n\r\n')).status).toBe(200);
    sidecar.running.unready();
    expect(await ready()).toBe(503);
    // Balancers have not noticed yet.
    const late = await EngineClient.open(sidecar.url);
    client.send(reflexEvent(1));
    await worker.untilText((text) => text.includes('"n":1'));
    const stopped = sidecar.stop();
    const refused = await rawRequest(sidecar.port, upgradeHead('/_event/?EIO=4&transport=websocket'));
    expect(refused.status).toBe(503);
    expect(refused.body).toContain('"draining"');
    await stopped;
    await eventually(() => client.closed).toBeDefined();
    expect(client.messages.at(-1)).toContain('"done"');
    for (const one of [client, late]) {
      expect([1012, 1006]).toContain(await one.untilClosed());
      expect(one.messages.filter((text) => text.startsWith('1'))).toEqual([]);
    }
    expect(sidecar.metrics.closed.count('draining')).toBe(2);
    await eventually(() => worker.sessions.every(({ closed }) => closed)).toBe(true);
    await expect(rawRequest(sidecar.port, requestHead('GET', '/'))).rejects.toThrow(/ECONNREFUSED/);
  });

  it('waits for nobody where no worker has taken the session: its client comes back with what it sent', async () => {
    const clock = new ManualClock();
    let answers = true;
    const worker = await startWorker({ opens: () => answers });
    const sidecar = await startComposed({ backends: [worker.url], limits: { eventsPerSecond: 0 } }, { clock });
    const client = await EngineClient.open(sidecar.url);
    answers = false;
    for (let n = 0; n < 300; n++) client.send(`42/chat,["a",{"n":${n},"x":"${'x'.repeat(FRAME)}"}]`);
    await eventually(() => sidecar.running.operator.stats().queuedBytes).toBeGreaterThan(100_000);
    const before = clock.monotonic();
    await sidecar.stop();
    expect(clock.monotonic() - before).toBeLessThan(1_000);
    expect(sidecar.metrics.losses.count('session_closed')).toBeGreaterThan(0);
    client.end();
    await worker.stop();
  });
});
