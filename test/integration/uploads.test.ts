import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request as httpRequest, type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { startComposed, type Composed } from '../support/composed.ts';
import { EngineClient } from '../support/engine-client.ts';
import { eventually, standsStill } from '../support/eventually.ts';
import { rawRequest, requestHead } from '../support/http.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { startRecordingWorker, type RecordingWorker } from '../support/recording-worker.ts';
import { startBridgehead } from '../../tools/bridgehead.ts';

type Handler = (incoming: IncomingMessage, outgoing: ServerResponse) => void;

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

async function startWorker(request: Handler): Promise<RecordingWorker> {
  const worker = await startRecordingWorker({ request });
  stops.push(() => worker.stop());
  return worker;
}

async function start(
  handler: Handler,
  config: Parameters<typeof startComposed>[0] = {},
  clock?: ManualClock,
): Promise<Composed> {
  const worker = await startWorker(handler);
  const sidecar = await startComposed({ backends: [worker.url], ...config }, clock === undefined ? {} : { clock });
  stops.push(() => sidecar.stop());
  return sidecar;
}

const UPLOAD = { 'Reflex-Client-Token': 'token', 'Reflex-Event-Handler': 'state.upload' };

/** An upload whose body the test writes. */
function upload(
  url: string,
  headers: Record<string, string> = {},
): { outgoing: ClientRequest; answer: Promise<IncomingMessage> } {
  const outgoing = httpRequest(`${url}/_upload`, { method: 'POST', headers: { ...UPLOAD, ...headers } });
  const answer = once(outgoing, 'response').then(([incoming]) => incoming as IncomingMessage);
  answer.catch(() => undefined);
  return { outgoing, answer };
}

async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += chunk.toString();
  return text;
}

describe('an upload', () => {
  it('goes to the backend that holds the session of its token, with what the worker needs', async () => {
    const seen: { worker: number; headers: IncomingMessage['headers']; body: string }[] = [];
    const record =
      (worker: number): Handler =>
      (incoming, outgoing) =>
        void textOf(incoming).then((body) => {
          seen.push({ worker, headers: incoming.headers, body });
          outgoing.setHeader('x-bridgehead-secret', 'own').setHeader('set-cookie', ['a=1', 'b=2']).end('{}');
        });
    const workers = [await startWorker(record(0)), await startWorker(record(1))];
    const sidecar = await startComposed({ backends: workers.map(({ url }) => url) });
    stops.push(() => sidecar.stop());
    const homes = new Map<string, number>();
    for (const token of ['a', 'b', 'c', 'd']) {
      const client = await EngineClient.open(sidecar.url, { token });
      await client.connect();
      homes.set(
        token,
        workers.findIndex(({ url }) => url === sidecar.running.operator.sessions(1)[0]?.upstream),
      );
    }
    expect(new Set(homes.values()).size).toBe(2);
    for (const [token, home] of homes) {
      const answer = await fetch(`${sidecar.url}/_upload`, {
        method: 'POST',
        headers: { ...UPLOAD, 'Reflex-Client-Token': token, 'X-Bridgehead-Annotation': 'v1.x', X_Bridgehead_A: '1' },
        body: `body of ${token}`,
      });
      expect(answer.status).toBe(200);
      expect(await answer.text()).toBe('{}');
      expect(answer.headers.getSetCookie()).toEqual(['a=1', 'b=2']);
      expect(answer.headers.get('x-bridgehead-secret')).toBeNull();
      const last = seen.at(-1);
      expect(last).toMatchObject({ worker: home, body: `body of ${token}` });
      expect(last?.headers).toMatchObject({ 'reflex-client-token': token, 'x-forwarded-for': '127.0.0.1' });
      expect(Object.keys(last?.headers ?? {}).filter((name) => name.includes('bridgehead'))).toEqual([]);
    }
    await eventually(() => sidecar.metrics.uploads.count('ok')).toBe(4);
  });

  it('is answered piece by piece, each as the worker writes it', async () => {
    const pieces: ServerResponse[] = [];
    const sidecar = await start((incoming, outgoing) => {
      incoming.resume().on('end', () => {
        outgoing.writeHead(200, { 'content-type': 'application/x-ndjson' });
        outgoing.write('{"n":1}\n');
        pieces.push(outgoing);
      });
    });
    const { outgoing, answer } = upload(sidecar.url);
    outgoing.end('x');
    const incoming = await answer;
    const reader = (incoming as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
    expect(String((await reader.next()).value)).toBe('{"n":1}\n');
    pieces[0]?.write('{"n":2}\n');
    expect(String((await reader.next()).value)).toBe('{"n":2}\n');
    pieces[0]?.end();
    expect((await reader.next()).done).toBe(true);
  });

  it('is passed on before it is complete', async () => {
    const seen: string[] = [];
    const sidecar = await start((incoming, outgoing) => {
      incoming.on('data', (chunk: Buffer) => void seen.push(chunk.toString()));
      incoming.on('end', () => outgoing.end());
    });
    const { outgoing, answer } = upload(sidecar.url);
    outgoing.write('first');
    await eventually(() => seen.join('')).toBe('first');
    outgoing.end('second');
    expect((await answer).statusCode).toBe(200);
    expect(seen.join('')).toBe('firstsecond');
  });

  it('of 200 MB takes no memory, also while the worker does not read', async () => {
    const size = 200 * 1024 * 1024;
    let go = (): void => undefined;
    const held = new Promise<void>((resolve) => (go = resolve));
    const hash = createHash('sha256');
    const worker = await startWorker((incoming, outgoing) => {
      if (incoming.headers['content-length'] === undefined) {
        incoming.resume().on('end', () => outgoing.end());
        return;
      }
      void held.then(() =>
        incoming.on('data', (chunk: Buffer) => hash.update(chunk)).on('end', () => outgoing.end('done')),
      );
    });
    const sidecar = await startBridgehead({ settings: { backends: [worker.url], limits: { uploadBytes: 0 } } });
    stops.push(() => sidecar.stop());
    const memory = (): number => {
      const status = readFileSync(`/proc/${sidecar.process.pid}/status`, 'utf8');
      return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
    };
    const piece = randomBytes(1024 * 1024);
    // What a first upload takes is Node's own: buffers that wait for the garbage collector.
    const warm = upload(sidecar.url);
    await pipeline(Readable.from(Array.from({ length: 100 }, () => piece)), warm.outgoing);
    (await warm.answer).resume();
    const before = memory();
    const expected = createHash('sha256');
    let sent = 0;
    const source = Readable.from(
      (function* () {
        for (; sent < size; sent += piece.length) {
          expected.update(piece);
          yield piece;
        }
      })(),
    );
    const { outgoing, answer } = upload(sidecar.url, { 'Content-Length': `${size}` });
    const sending = pipeline(source, outgoing);
    let last = -1;
    await eventually(
      () => {
        const stands = sent > 0 && sent === last;
        last = sent;
        return stands;
      },
      { interval: 200 },
    ).toBe(true);
    expect(sent).toBeLessThan(size / 4);
    go();
    await sending;
    const incoming = await answer;
    expect(incoming.statusCode).toBe(200);
    await textOf(incoming);
    expect(hash.digest('hex')).toBe(expected.digest('hex'));
    expect(memory() - before).toBeLessThan(50);
  });

  it.each([
    ['says so', { 'Content-Length': `${20 * 1024 * 1024}` }],
    ['is sent in chunks', {}],
  ] as [string, Record<string, string>][])(
    'beyond uploadBytes that %s gets 413, however much follows',
    async (_how, headers) => {
      let cut = false;
      const sidecar = await start((incoming) => void incoming.resume().on('close', () => (cut = !incoming.complete)), {
        limits: { uploadBytes: 1024 * 1024 },
      });
      const { outgoing, answer } = upload(sidecar.url, headers);
      outgoing.on('error', () => undefined);
      const piece = Buffer.alloc(64 * 1024);
      let pieces = 320;
      const write = (): void => {
        while (pieces > 0 && !outgoing.destroyed) {
          pieces--;
          if (!outgoing.write(piece)) return void outgoing.once('drain', write);
        }
        outgoing.end();
      };
      write();
      const incoming = await answer;
      expect(incoming.statusCode).toBe(413);
      expect(await textOf(incoming)).toContain('"upload_size"');
      expect(sidecar.metrics.refusals.count('upload_size')).toBe(1);
      expect(sidecar.metrics.uploads.count('refused')).toBe(1);
      if (headers['Content-Length'] === undefined) await eventually(() => cut).toBe(true);
    },
  );

  it('that the client breaks off is broken off at the worker', async () => {
    let bytes = 0;
    let cut = false;
    const sidecar = await start((incoming) => {
      incoming.on('data', (chunk: Buffer) => (bytes += chunk.length));
      incoming.on('close', () => (cut = !incoming.complete));
    });
    const { outgoing } = upload(sidecar.url);
    outgoing.on('error', () => undefined);
    outgoing.write('x'.repeat(1_000));
    await eventually(() => bytes).toBe(1_000);
    outgoing.destroy();
    await eventually(() => cut).toBe(true);
    await eventually(() => sidecar.metrics.uploads.count('aborted')).toBe(1);
  });

  it('whose answer the client breaks off is broken off at the worker', async () => {
    let left = false;
    const sidecar = await start((incoming, outgoing) => {
      incoming.resume();
      outgoing.on('close', () => (left = !outgoing.writableFinished));
      outgoing.write('first');
    });
    const { outgoing, answer } = upload(sidecar.url);
    outgoing.end('x');
    outgoing.on('error', () => undefined);
    const incoming = await answer;
    incoming.on('error', () => undefined);
    incoming.destroy();
    await eventually(() => left).toBe(true);
  });

  it('that the worker breaks off before it answers gets 502, and after that an answer that is cut', async () => {
    const sidecar = await start((incoming, outgoing) => {
      if (incoming.headers['reflex-client-token'] === 'early') return void incoming.socket.destroy();
      incoming.resume();
      outgoing.writeHead(200);
      outgoing.write('first', () => void incoming.socket.destroy());
    });
    const early = upload(sidecar.url, { 'Reflex-Client-Token': 'early' });
    early.outgoing.end('x');
    expect((await early.answer).statusCode).toBe(502);
    const late = upload(sidecar.url);
    late.outgoing.end('x');
    const incoming = await late.answer;
    expect(incoming.statusCode).toBe(200);
    await expect(textOf(incoming)).rejects.toThrow(/aborted|reset/i);
    await eventually(() => sidecar.metrics.uploads.count('upstream_error')).toBe(2);
  });

  it('gets the answer that the worker gives before it has read everything', async () => {
    const sidecar = await start((_incoming, outgoing) => {
      outgoing.writeHead(422, { connection: 'close' }).end('not that');
    });
    const { outgoing, answer } = upload(sidecar.url);
    outgoing.on('error', () => undefined);
    outgoing.write('x'.repeat(100_000));
    const incoming = await answer;
    expect(incoming.statusCode).toBe(422);
    expect(await textOf(incoming)).toBe('not that');
    outgoing.destroy();
  });

  it('in which nothing moves is given up after a minute, one that moves never', async () => {
    const clock = new ManualClock();
    let bytes = 0;
    let cut = false;
    const sidecar = await start(
      (incoming) => {
        incoming.on('data', (chunk: Buffer) => (bytes += chunk.length));
        incoming.on('close', () => (cut = !incoming.complete));
      },
      {},
      clock,
    );
    const { outgoing, answer } = upload(sidecar.url);
    for (let minute = 1; minute <= 10; minute++) {
      outgoing.write('x');
      await eventually(() => bytes).toBe(minute);
      clock.advance(60_000);
    }
    clock.advance(60_000);
    const incoming = await answer;
    expect(incoming.statusCode).toBe(408);
    await eventually(() => cut).toBe(true);
    outgoing.destroy();
  });

  it('that its worker has, or does not read, may wait for an hour', async () => {
    const clock = new ManualClock();
    const seen: string[] = [];
    const sidecar = await start(
      (incoming) => {
        seen.push(incoming.method ?? '');
        if (incoming.headers['reflex-client-token'] !== 'unread') incoming.resume();
      },
      { proxyOther: true, limits: { uploadBytes: 0 } },
      clock,
    );
    const whole = upload(sidecar.url, { 'Content-Length': '1' });
    whole.outgoing.end('x');
    const unread = upload(sidecar.url, { 'Reflex-Client-Token': 'unread' });
    let written = 0;
    const write = (): void => void unread.outgoing.write(Buffer.alloc(1024 * 1024), () => written++ < 64 && write());
    write();
    const poll = fetch(`${sidecar.url}/events`);
    await eventually(() => seen.toSorted()).toEqual(['GET', 'POST', 'POST']);
    await standsStill(() => written);
    const over: number[] = [];
    for (const answer of [whole.answer.then((one) => one.statusCode), poll.then((one) => one.status)]) {
      void answer.then((status) => over.push(status ?? 0));
    }
    void unread.answer.then((one) => over.push(one.statusCode ?? 0));
    clock.advance(58 * 60_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(over).toEqual([]);
    clock.advance(5 * 60_000);
    await eventually(() => over).toEqual([504, 504, 504]);
    expect(sidecar.metrics.uploads.count('upstream_error')).toBe(2);
    unread.outgoing.destroy();
  });

  it('for a backend that is away gets 502', async () => {
    const sidecar = await startComposed({ backends: ['http://127.0.0.1:1'] });
    stops.push(() => sidecar.stop());
    const answer = await fetch(`${sidecar.url}/_upload`, { method: 'POST', headers: UPLOAD, body: 'x' });
    expect(answer.status).toBe(502);
    expect(await answer.json()).toMatchObject({ error: { code: 'upstream_unavailable' } });
    expect(sidecar.metrics.refusals.count('upload_upstream')).toBe(1);
  });

  it('may wait for "100 Continue"', async () => {
    const sidecar = await start((incoming, outgoing) => void textOf(incoming).then((body) => outgoing.end(body)));
    const { outgoing, answer } = upload(sidecar.url, { Expect: '100-continue', 'Content-Length': '5' });
    outgoing.flushHeaders();
    await once(outgoing, 'continue');
    outgoing.end('hello');
    expect(await textOf(await answer)).toBe('hello');
  });
});

describe('uploaded files', () => {
  it('are served untiered, with ranges, and HEAD without a body', async () => {
    const file = 'abcdefghij';
    const sidecar = await start((incoming, outgoing) => {
      const range = /bytes=(\d+)-(\d+)/.exec(incoming.headers.range ?? '');
      const body = range === null ? file : file.slice(Number(range[1]), Number(range[2]) + 1);
      outgoing.writeHead(range === null ? 200 : 206, { 'content-length': body.length, 'accept-ranges': 'bytes' });
      outgoing.end(incoming.method === 'HEAD' ? undefined : body);
    });
    const part = await fetch(`${sidecar.url}/_upload/a/b.txt`, { headers: { range: 'bytes=2-4' } });
    expect([part.status, await part.text()]).toEqual([206, 'cde']);
    const head = await fetch(`${sidecar.url}/_upload/b.txt`, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, '10', '']);
    expect((await fetch(`${sidecar.url}/_upload/b.txt`, { method: 'DELETE' })).status).toBe(404);
    expect(sidecar.metrics.snapshot().events).toEqual({ none: 0, auth_only: 0, full: 0, worker: 0 });
  });

  it("get the worker's own answer to a preflight", async () => {
    const sidecar = await start((incoming, outgoing) => {
      outgoing.writeHead(204, { 'access-control-allow-origin': incoming.headers.origin }).end();
    });
    for (const path of ['/_upload', '/_event/']) {
      const answer = await fetch(sidecar.url + path, { method: 'OPTIONS', headers: { origin: 'https://other.test' } });
      expect([answer.status, answer.headers.get('access-control-allow-origin')]).toEqual([204, 'https://other.test']);
    }
  });
});

describe('other paths, with proxyOther', () => {
  it('pass in both directions, hop by hop headers aside', async () => {
    const seen: IncomingMessage['headers'][] = [];
    const sidecar = await start(
      (incoming, outgoing) => {
        seen.push(incoming.headers);
        outgoing.writeHead(201, {
          'keep-alive': 'timeout=9',
          connection: 'x-private',
          'x-private': '1',
          'x-public': '2',
        });
        outgoing.end(`${incoming.method} ${incoming.url}`);
      },
      { proxyOther: true },
    );
    const head = requestHead('PUT', '/a%20b/c?d=%2F..%2F', {
      Connection: 'close, X-Drop',
      'X-Drop': '1',
      'X-Keep': '2',
      TE: 'trailers',
      'Content-Length': '0',
    });
    const answer = await rawRequest(sidecar.port, head);
    expect(answer.status).toBe(201);
    expect(answer.body).toContain('PUT /a%20b/c?d=%2F..%2F');
    expect(answer.head).toMatch(/x-public: 2/i);
    expect(answer.head).not.toMatch(/x-private|timeout=9/i);
    expect(seen[0]).toMatchObject({ host: 'app.test', 'x-keep': '2' });
    expect(seen[0]).not.toHaveProperty('x-drop');
    expect(seen[0]).not.toHaveProperty('te');
  });

  it.each(['GET', 'DELETE', 'OPTIONS', 'POST', 'HEAD'])(
    'frame the body of %s anew: nothing in it becomes another request',
    async (method) => {
      const seen: string[] = [];
      const sidecar = await start(
        (incoming, outgoing) =>
          void textOf(incoming).then((body) => {
            seen.push(`${incoming.method} ${incoming.url} ${body}`);
            outgoing.end('ok');
          }),
        { proxyOther: true },
      );
      const smuggled = 'GET /admin HTTP/1.1\r\nHost: app.test\r\n\r\n';
      const chunk = `${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`;
      const head = requestHead(method, '/page', { 'Transfer-Encoding': 'chunked', Connection: 'close' });
      expect((await rawRequest(sidecar.port, head + chunk)).status).toBe(200);
      const named = { 'Content-Length': `${smuggled.length}`, Connection: 'close, content-length' };
      expect((await rawRequest(sidecar.port, requestHead(method, '/page', named) + smuggled)).status).toBe(200);
      expect(seen).toEqual([`${method} /page ${smuggled}`, `${method} /page ${smuggled}`]);
    },
  );
});
