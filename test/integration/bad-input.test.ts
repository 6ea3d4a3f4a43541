import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { everyLogLine, startComposed, type Composed } from '../support/composed.ts';
import { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { rawRequest, requestHead, upgradeHead, type RawAnswer } from '../support/http.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { startRecordingWorker, type RecordingWorker } from '../support/recording-worker.ts';

/** The table that users read: what is in its first column, to what is in its second. */
const table = new Map(
  readFileSync(new URL('../../docs/BAD-INPUT.md', import.meta.url), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| ---') && !line.startsWith('| input'))
    .map((line) => line.split('|').map((cell) => cell.trim().replaceAll('`', '')))
    .map(([, input = '', answer = '']) => [input, answer]),
);
const shown = new Set<string>();

function documented(input: string): string {
  shown.add(input);
  return table.get(input) ?? 'not in docs/BAD-INPUT.md';
}

function answerOf({ status, body }: RawAnswer): string {
  const code = /"code":"(\w+)"/.exec(body)?.[1];
  return code === undefined ? `${status}` : `${status} ${code}`;
}

const event = (json: string): string => `42/_event,["event",${json}]`;

const WEBSOCKET = '/_event/?EIO=4&transport=websocket&token=secret-token-1';
const POLLING = '/_event/?EIO=4&transport=polling&token=secret-token-2';
const NOTE = { 'X-Bridgehead-Peer': 'v1.AAAAAAAA.e30.AAAA' };
const FOREIGN = { Host: 'app.test', Origin: 'https://evil.test' };

describe('bad input', () => {
  let worker: RecordingWorker;
  let sidecar: Composed;
  const ask = (...pieces: string[]): Promise<RawAnswer> => rawRequest(sidecar.port, ...pieces);

  beforeAll(async () => {
    worker = await startRecordingWorker({ request: (_incoming, outgoing) => void outgoing.end('the worker') });
    sidecar = await startComposed({ backends: [worker.url], limits: { uploadBytes: 1_000 } });
  });

  afterAll(async () => {
    await sidecar?.stop();
    await worker?.stop();
  });

  const upload = { 'Reflex-Client-Token': 'secret-token-3', 'Reflex-Event-Handler': 'a.upload' };

  it.each([
    ['a plain GET for a WebSocket', requestHead('GET', WEBSOCKET)],
    ['EIO=3', upgradeHead('/_event/?EIO=3&transport=websocket')],
    ['no EIO', upgradeHead('/_event/?transport=websocket')],
    ['no transport', requestHead('GET', '/_event/?EIO=4')],
    ['a WebSocket that asks for polling', upgradeHead(POLLING)],
    ['an unknown sid, polling', requestHead('GET', `${POLLING}&sid=unknown`)],
    ['an unknown sid, WebSocket', upgradeHead(`${WEBSOCKET}&sid=unknown`)],
    [
      "an unknown sid with a sidecar's note that none made",
      requestHead('GET', `${POLLING}&sid=${'x'.repeat(24)}`, NOTE),
    ],
    [
      "a sidecar's note that none made, foreign origin",
      requestHead('GET', `${POLLING}&sid=unknown`, { ...NOTE, ...FOREIGN }),
    ],
    ['a session that begins with POST', requestHead('POST', POLLING, { 'Content-Length': '0' })],
    ['a foreign origin, WebSocket', upgradeHead(WEBSOCKET, FOREIGN)],
    ['a foreign origin, polling', requestHead('GET', POLLING, FOREIGN)],
    ['a foreign origin, upload', requestHead('POST', '/_upload', { ...upload, ...FOREIGN, 'Content-Length': '0' })],
    ['the origin null', upgradeHead(WEBSOCKET, { Origin: 'null' })],
    ['a WebSocket of another path', upgradeHead('/other')],
    ['another path', requestHead('GET', '/other')],
    ['an unknown path of our own', requestHead('GET', '/_bridgehead/x')],
    ['a WebSocket of an unknown version', upgradeHead(WEBSOCKET, { 'Sec-WebSocket-Version': '12' })],
    ['a WebSocket with a bad key', upgradeHead(WEBSOCKET, { 'Sec-WebSocket-Key': 'short' })],
    ['an upgrade to something else', upgradeHead(WEBSOCKET, { Upgrade: 'h2c' })],
    ['an absolute target', requestHead('GET', 'http://evil.test/_event/')],
    ['a target with two slashes', requestHead('GET', '//evil.test/_event/')],
    ['a target with a backslash', requestHead('GET', '/\\evil.test/')],
    ['a target with two slashes, WebSocket', upgradeHead('//evil.test/_event/?EIO=4&transport=websocket')],
    ['dot segments', requestHead('GET', '/_upload/../secret')],
    ['encoded dot segments', requestHead('GET', '/_upload/%2e%2E/secret')],
    ['dot segments behind an encoded slash', requestHead('GET', '/_upload/a%2f..%2fsecret')],
    ['dot segments, WebSocket', upgradeHead('/a/%2e%2e/_event/')],
    ['dot segments behind a backslash', requestHead('GET', '/_upload/a\\..\\secret')],
    [
      'Content-Length and Transfer-Encoding',
      `${requestHead('POST', '/_upload', { ...upload, 'Content-Length': '3', 'Transfer-Encoding': 'chunked' })}0\r\n\r\n`,
    ],
    ['two lengths', `${requestHead('POST', '/_upload', { ...upload, 'Content-Length': '3, 4' })}abc`],
    ['a broken chunk', `${requestHead('POST', '/_upload', { ...upload, 'Transfer-Encoding': 'chunked' })}zz\r\nabc`],
    ['no Host', 'GET /_event/ HTTP/1.1\r\n\r\n'],
    ['a head of more than 64 kB', requestHead('GET', '/', { Cookie: `sessionid=secret-cookie${'x'.repeat(70_000)}` })],
    ['something that is not HTTP', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n'],
    [
      'an upload without a token',
      requestHead('POST', '/_upload', { 'Reflex-Event-Handler': 'a.b', 'Content-Length': '0' }),
    ],
    [
      'an upload without a handler',
      requestHead('POST', '/_upload', { 'Reflex-Client-Token': 'secret-token-4', 'Content-Length': '0' }),
    ],
    [
      'an upload that says it is too long',
      `${requestHead('POST', '/_upload', { ...upload, 'Content-Length': '1001' })}${'x'.repeat(1_001)}`,
    ],
    [
      'an upload that becomes too long',
      `${requestHead('POST', '/_upload', { ...upload, 'Transfer-Encoding': 'chunked' })}${`190\r\n${'x'.repeat(400)}\r\n`.repeat(3)}0\r\n\r\n`,
    ],
  ])('%s', async (input, bytes) => {
    expect(answerOf(await ask(bytes))).toBe(documented(input));
  });

  const said = async (...frames: (string | Buffer)[]): Promise<string> => {
    const client = await EngineClient.open(sidecar.url, { token: 'secret-token-5' });
    for (const frame of frames) client.send(frame);
    return String(await client.untilClosed());
  };

  it.each([
    ['an empty frame', ['']],
    ['an unknown Engine.IO packet', ['7']],
    ["a client's ping", ['2']],
    ['a broken base64 packet', ['bA*']],
    ['an unknown Socket.IO packet', ['49']],
    ['Unicode digits', ['4٢/_event,["event",{}]']],
    ['an event that counts attachments', ['421-/_event,["event",{}]']],
    ['a packet as a JSON string', [`4${JSON.stringify('2/_event,["event",{}]')}`]],
    ['too many attachments', ['451025-["a"]']],
    ['broken JSON', ['40/_event,', event('{"name":')]],
    ['broken JSON in CONNECT', ['40/_event,{"event":']],
    ['JSON nested 101 deep', ['40/_event,', event('['.repeat(200) + ']'.repeat(200))]],
    ['a string as event', ['40/_event,', event('"{}"')]],
    ['an event without a name', ['40/_event,', event('{}')]],
    ['a binary frame that no packet announced', [Buffer.from('x')]],
    ['text in place of an attachment', ['451-["a",{"_placeholder":true,"num":0}]', '42["b"]']],
    ['a text of 1,000,001 characters', [`42["${'x'.repeat(1_000_001 - 5)}"]`]],
    ['a binary frame of 1,000,001 bytes', ['451-["a",{"_placeholder":true,"num":0}]', Buffer.alloc(1_000_001)]],
    ['a frame of more than 4,000,000 bytes', [Buffer.alloc(4_000_001)]],
  ] as [string, (string | Buffer)[]][])('%s', async (input, frames) => {
    expect(await said(...frames)).toBe(documented(input));
  });

  it.each([
    ['text that is not UTF-8', Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28])],
    ['a frame without a mask', Buffer.from([0x81, 0x01, 0x34])],
    ['a reserved bit', Buffer.from([0xc1, 0x81, 0, 0, 0, 0, 0x34])],
    ['a reserved opcode', Buffer.from([0x83, 0x80, 0, 0, 0, 0])],
    ['a fragmented control frame', Buffer.from([0x09, 0x80, 0, 0, 0, 0])],
    ['a ping of 126 bytes', Buffer.concat([Buffer.from([0x89, 0xfe, 0, 126, 0, 0, 0, 0]), Buffer.alloc(126)])],
    ['a continuation of nothing', Buffer.from([0x80, 0x80, 0, 0, 0, 0])],
  ])('%s', async (input, bytes) => {
    const client = await EngineClient.open(sidecar.url);
    client.raw.write(bytes);
    expect(String(await client.untilClosed())).toBe(documented(input));
  });

  it('two polls at once', async () => {
    const opened = await ask(requestHead('GET', POLLING));
    const sid = /"sid":"([^"]+)"/.exec(opened.body)?.[1] ?? '';
    const [first, second] = await Promise.all([
      ask(requestHead('GET', `${POLLING}&sid=${sid}`)),
      ask(requestHead('GET', `${POLLING}&sid=${sid}`)),
    ]);
    const answers = [first, second].map(answerOf).sort();
    // The one that waited is told that the session is over.
    expect(answers[0]).toBe('200');
    expect([first, second].find(({ status }) => status === 200)?.body).toBe('1');
    expect(answers[1]).toBe(documented('two polls at once'));
  });

  it('a polling body that is too long', async () => {
    const opened = await ask(requestHead('GET', POLLING));
    const sid = /"sid":"([^"]+)"/.exec(opened.body)?.[1] ?? '';
    const target = `${POLLING}&sid=${sid}`;
    const body = 'x'.repeat(4_000_001);
    const answer = await ask(requestHead('POST', target, { 'Content-Length': `${body.length}` }) + body);
    expect(answerOf(answer)).toBe(documented('a polling body that is too long'));
    expect(answerOf(await ask(requestHead('GET', target)))).toBe('400 unknown_sid');
  });

  /** The answer to a POST whose body stays behind its length. */
  const halfPosted = async (port: number): Promise<RawAnswer> => {
    const opened = await rawRequest(port, requestHead('GET', POLLING));
    const sid = /"sid":"([^"]+)"/.exec(opened.body)?.[1] ?? '';
    const head = requestHead('POST', `${POLLING}&sid=${sid}`, { 'Content-Length': '60000' });
    return rawRequest(port, head, 'x'.repeat(50_000));
  };

  it('a polling body that stands still', async () => {
    const clock = new ManualClock();
    const own = await startComposed({ backends: [worker.url] }, { clock });
    const arrived = eventually(() => own.running.operator.stats().queuedBytes).toBe(50_000);
    const answer = halfPosted(own.port);
    await arrived;
    clock.advance(30_000);
    expect(answerOf(await answer)).toBe(documented('a polling body that stands still for 30 s'));
    await own.stop();
  });

  it('a polling body for which there is no room', async () => {
    const limits = { totalQueueBytes: 40_000, payloadBytes: 40_000 };
    const own = await startComposed({ backends: [worker.url], limits });
    const answer = await halfPosted(own.port);
    expect(answerOf(answer)).toBe(documented('a polling body for which limits.totalQueueBytes has no room'));
    await own.stop();
  });

  it('an upload that nobody goes on with', async () => {
    const clock = new ManualClock();
    const begun: string[] = [];
    const silent = await startRecordingWorker({ request: (incoming) => void begun.push(incoming.resume().url ?? '') });
    const own = await startComposed({ backends: [silent.url] }, { clock });
    const headers = { ...upload, 'Content-Length': '2' };
    const half = rawRequest(own.port, requestHead('POST', '/_upload', headers), 'x');
    const whole = rawRequest(own.port, requestHead('POST', '/_upload', headers), 'xx');
    await eventually(() => begun).toHaveLength(2);
    clock.advance(120_000);
    expect(answerOf(await half)).toBe(documented('an upload that stands still for a minute'));
    clock.advance(3_600_000);
    expect(answerOf(await whole)).toBe(documented('an upload that the worker has and does not answer for an hour'));
    await silent.stop();
    const late = await rawRequest(own.port, requestHead('POST', '/_upload', headers), 'xx');
    expect(answerOf(late)).toBe(documented('an upload while the backend does not answer'));
    await own.stop();
  });

  it('passes what is bad for Reflex alone in other namespaces: a Socket.IO app may speak as it likes', async () => {
    const client = await EngineClient.open(sidecar.url);
    await client.connect('/chat');
    const deep = `42/chat,["event",${'['.repeat(200)}${']'.repeat(200)}]`;
    for (const text of ['42/chat,["event",{"name":', deep, '42/chat,["event","{}"]']) {
      client.send(text);
      expect(await worker.untilText((frame) => frame === text)).toBe(text);
    }
    client.end();
  });

  it('does not reach the worker', () => {
    const texts = worker.texts().filter((text) => text.startsWith('42/_event') || text.startsWith('4٢'));
    expect(texts).toEqual([]);
  });

  it('is counted as refused or as a closed session', async () => {
    const { refusals, closed } = sidecar.metrics;
    for (const reason of ['origin', 'engine_version', 'transport', 'unknown_sid', 'not_websocket'] as const) {
      expect(refusals.count(reason)).toBeGreaterThan(0);
    }
    expect(refusals.count('upload_headers')).toBe(2);
    expect(refusals.count('upload_size')).toBe(2);
    for (const reason of ['bad_packet', 'too_large'] as const) expect(closed.count(reason)).toBeGreaterThan(0);
    await eventually(() => sidecar.metrics.snapshot().sessions).toBe(0);
    expect(sidecar.running.operator.stats().sessions).toBe(0);
  });
});

describe('too much', () => {
  let worker: RecordingWorker;
  const sidecars: Composed[] = [];
  const start = async (...parameters: Parameters<typeof startComposed>): Promise<Composed> => {
    const sidecar = await startComposed(...parameters);
    sidecars.push(sidecar);
    return sidecar;
  };

  beforeAll(async () => {
    worker = await startRecordingWorker();
  });

  afterAll(async () => {
    for (const sidecar of sidecars) await sidecar.stop();
    await worker?.stop();
  });

  it('sessions', async () => {
    const { port, url } = await start({ backends: [worker.url], limits: { sessions: 2 } });
    const clients = [await EngineClient.open(url), await EngineClient.open(url)];
    const refused = await rawRequest(port, upgradeHead(WEBSOCKET));
    expect(answerOf(refused)).toBe(documented('more sessions than limits.sessions'));
    expect(refused.head).toMatch(/retry-after: 1/i);
    clients[0]?.end();
    await eventually(async () => (await rawRequest(port, requestHead('GET', POLLING))).status).toBe(200);
    clients[1]?.end();
  });

  it('handshakes', async () => {
    const clock = new ManualClock();
    const { port } = await start({ backends: [worker.url], limits: { handshakesPerSecond: 1 } }, { clock });
    const statuses: number[] = [];
    for (let count = 0; count < 5; count++) statuses.push((await rawRequest(port, requestHead('GET', POLLING))).status);
    expect(statuses).toEqual([200, 200, 200, 200, 429]);
    const refused = await rawRequest(port, upgradeHead(WEBSOCKET));
    expect(answerOf(refused)).toBe(documented('more handshakes than limits.handshakesPerSecond'));
    const other = { 'X-Forwarded-For': '203.0.113.9' };
    expect((await rawRequest(port, requestHead('GET', POLLING, other))).status).toBe(200);
    clock.advance(1_000);
    expect((await rawRequest(port, requestHead('GET', POLLING))).status).toBe(200);
  });

  it('silence', async () => {
    const clock = new ManualClock();
    const { url } = await start({ backends: [worker.url] }, { clock });
    const silent = await EngineClient.open(url);
    clock.advance(45_000);
    expect(String(await silent.untilClosed())).toBe(documented('a connection that says nothing for 45 s'));
    const dead = await EngineClient.open(url);
    await dead.connect();
    dead.answersPings = false;
    clock.advance(25_000);
    clock.advance(20_000);
    expect(String(await dead.untilClosed())).toBe(documented('no pong within 20 s'));
  });

  it('packets for a worker that is away', async () => {
    const clock = new ManualClock();
    const { url, metrics } = await start(
      { backends: ['http://127.0.0.1:1'], limits: { queueBytes: 10_000 } },
      { clock },
    );
    const client = await EngineClient.open(url);
    client.send('40/chat,');
    for (let count = 0; count < 4; count++) client.send(`42/chat,["${'x'.repeat(3_000)}"]`);
    expect(String(await client.untilClosed())).toBe(
      documented('packets beyond limits.queueBytes, in other namespaces'),
    );
    expect(metrics.losses.total()).toBeGreaterThan(0);
  });
});

describe('the documentation and the log', () => {
  it('names no input that is not tested here', () => {
    expect([...table.keys()].filter((input) => !shown.has(input))).toEqual([]);
  });

  it('have seen no token, cookie or payload', () => {
    expect(everyLogLine()).toContain('origin refused');
    expect(everyLogLine()).not.toMatch(/secret-|_event\/\?|dGhlIHNhbXBsZ/);
  });
});
