import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { startComposed, type Composed } from '../support/composed.ts';
import { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { rawRequest, requestHead } from '../support/http.ts';
import { ManualClock } from '../support/manual-clock.ts';
import {
  acknowledgeConnect,
  startRecordingWorker,
  type RecordingWorker,
  type RecordingWorkerOptions,
} from '../support/recording-worker.ts';

const POLLING = '/_event/?EIO=4&transport=polling';
const MEGABYTE = 1_000_000;

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

async function startWorker(options: RecordingWorkerOptions = {}): Promise<RecordingWorker> {
  const worker = await startRecordingWorker(options);
  stops.push(() => worker.stop());
  return worker;
}

async function startSidecar(...parameters: Parameters<typeof startComposed>): Promise<Composed> {
  const sidecar = await startComposed(...parameters);
  stops.push(() => sidecar.stop());
  return sidecar;
}

async function openPolling(port: number): Promise<string> {
  const { body } = await rawRequest(port, requestHead('GET', POLLING));
  return `${POLLING}&sid=${/"sid":"([^"]+)"/.exec(body)?.[1] ?? ''}`;
}

async function post(port: number, target: string, body: string): Promise<number> {
  const head = requestHead('POST', target, { 'Content-Length': `${Buffer.byteLength(body)}` });
  return (await rawRequest(port, head + body)).status;
}

/** Sends so many frames of 500 kB as soon as a session is connected. */
function speaking(frames: number): RecordingWorkerOptions {
  return {
    onFrame: (session, frame) => {
      acknowledgeConnect(session, frame);
      if (!String(frame).startsWith('40')) return;
      for (let n = 0; n < frames; n++)
        session.socket.send(`42/_event,["event",{"n":${n},"x":"${'x'.repeat(500_000)}"}]`);
    },
  };
}

describe('what waits for clients', () => {
  it('is counted from the first byte on, and no more of it than totalQueueBytes stays', async () => {
    const worker = await startWorker(speaking(12));
    const limits = { queueBytes: 9.5 * MEGABYTE, totalQueueBytes: 10 * MEGABYTE };
    const sidecar = await startSidecar({ backends: [worker.url], limits });
    const { operator } = sidecar.running;
    const unread = (): number => operator.sessions(20).reduce((sum, { queued }) => sum + queued.client, 0);
    const enter = async (): Promise<EngineClient> => {
      const client = await EngineClient.open(sidecar.url);
      client.send('40/_event,');
      client.raw.pause();
      stops.push(() => client.end());
      return client;
    };
    await enter();
    await eventually(unread).toBeGreaterThan(MEGABYTE);
    expect(operator.stats().queuedBytes).toBe(unread());
    for (let count = 0; count < 7; count++) await enter();
    await eventually(() => sidecar.metrics.closed.count('slow_client')).toBeGreaterThan(0);
    const settled = (): boolean =>
      operator.sessions(20).every(({ queued }) => queued.client > 0) && operator.stats().queuedBytes <= 7.5 * MEGABYTE;
    await eventually(settled).toBe(true);
    expect(operator.stats().queuedBytes).toBe(unread());
    // Who reads is not among them.
    const reader = await EngineClient.open(sidecar.url);
    stops.push(() => reader.end());
    reader.send('40/_event,');
    await reader.until(() => reader.messages.length > 12);
    expect(reader.closed).toBeUndefined();
  });

  it('is counted for polling clients alike, until they ask', async () => {
    const worker = await startWorker(speaking(1));
    const sidecar = await startSidecar({ backends: [worker.url] });
    const target = await openPolling(sidecar.port);
    expect(await post(sidecar.port, target, '40/_event,')).toBe(200);
    const { operator } = sidecar.running;
    await eventually(() => operator.stats().queuedBytes).toBeGreaterThan(500_000);
    const { body } = await rawRequest(sidecar.port, requestHead('GET', target));
    expect(body.length).toBeGreaterThan(500_000);
    await eventually(() => operator.stats().queuedBytes).toBe(0);
  });

  it("of the sidecar's own answers is bounded too: nobody could be held back for them", async () => {
    const worker = await startWorker();
    const rules = [{ state: '*', login: 'required' as const }];
    const limits = { eventsPerSecond: 0, queueBytes: 0 };
    const sidecar = await startSidecar({ backends: [worker.url], tiers: { rules }, limits });
    const client = await EngineClient.open(sidecar.url);
    stops.push(() => client.end());
    await client.connect();
    client.raw.pause();
    const event = '42/_event,["event",{"name":"s.h","payload":{},"router_data":{"pathname":"/"}}]';
    await eventually(
      () => {
        for (let count = 0; count < 2_000; count++) client.send(event);
        return sidecar.metrics.closed.count('slow_client');
      },
      { interval: 50 },
    ).toBe(1);
    expect(sidecar.running.operator.stats().queuedBytes).toBe(0);
  });
});

describe('a polling client', () => {
  /** A POST that never becomes whole, of a session of its own. */
  const linger = async (port: number): Promise<{ socket: Socket; text: () => string }> => {
    const target = await openPolling(port);
    let text = '';
    const socket = connect(port, '127.0.0.1');
    socket.on('data', (chunk) => (text += chunk.toString()));
    socket.on('error', () => undefined);
    stops.push(() => socket.destroy());
    socket.write(requestHead('POST', target, { 'Content-Length': `${4 * MEGABYTE}` }));
    socket.write('x'.repeat(3.9 * MEGABYTE));
    return { socket, text: () => text };
  };

  it('that sends slowly keeps no more than a session does, and nothing once that has ended', async () => {
    const clock = new ManualClock();
    const worker = await startWorker();
    const sidecar = await startSidecar({ backends: [worker.url] }, { clock });
    const { operator } = sidecar.running;
    const posts = [];
    for (let count = 0; count < 5; count++) posts.push(await linger(sidecar.port));
    await eventually(() => operator.stats().queuedBytes).toBe(5 * 3.9 * MEGABYTE);
    // The first tick sees that something came, the second that nothing did.
    clock.advance(15_000);
    expect(operator.stats().sessions).toBe(5);
    clock.advance(15_000);
    await eventually(() => operator.stats().sessions).toBe(0);
    expect(operator.stats().queuedBytes).toBe(0);
    for (const { socket, text } of posts) {
      await eventually(text).toMatch(/^HTTP\/1\.1 408 [^]*"idle"/);
      await eventually(() => socket.closed).toBe(true);
    }
    expect(sidecar.metrics.closed.count('connection_lost')).toBe(5);
  });

  it('whose session ends is not read any further', async () => {
    const worker = await startWorker();
    const sidecar = await startSidecar({ backends: [worker.url] });
    const { operator } = sidecar.running;
    const { socket, text } = await linger(sidecar.port);
    await eventually(() => operator.stats().queuedBytes).toBe(3.9 * MEGABYTE);
    expect(operator.closeSession(operator.sessions(1)[0]?.id ?? '', 'admin')).toBe(true);
    await eventually(text).toMatch(/^HTTP\/1\.1 400 [^]*"unknown_sid"/);
    expect(operator.stats().queuedBytes).toBe(0);
    await eventually(() => socket.closed).toBe(true);
  });

  it('is refused a body for which there is no room', async () => {
    const worker = await startWorker();
    const limits = { totalQueueBytes: 6 * MEGABYTE };
    const sidecar = await startSidecar({ backends: [worker.url], limits });
    const posts = [await linger(sidecar.port), await linger(sidecar.port)];
    await eventually(() =>
      posts.filter(({ text }) => text().includes('503') && text().includes('"queue_full"')),
    ).toHaveLength(1);
    expect(sidecar.metrics.closed.count('queue_full')).toBe(1);
    expect(sidecar.running.operator.stats().queuedBytes).toBe(3.9 * MEGABYTE);
  });

  it('is held back by the answer to its POST while the worker does not read', async () => {
    const worker = await startWorker({ onSession: ({ socket }) => socket.pause() });
    const limits = { eventsPerSecond: 0, queueBytes: 400_000 };
    const sidecar = await startSidecar({ backends: [worker.url], limits });
    const target = await openPolling(sidecar.port);
    const packet = `42/chat,["a",{"x":"${'x'.repeat(90_000)}"}]`;
    let answered = 0;
    const state = { isWaiting: false };
    const send = async (): Promise<void> => {
      // The worker's kernel takes some megabytes.
      for (let count = 0; count < 400 && !state.isWaiting; count++) {
        expect(await post(sidecar.port, target, packet)).toBe(200);
        answered++;
      }
    };
    const sending = send();
    const queued = (): number => sidecar.running.operator.sessions(1)[0]?.queued.upstream ?? 0;
    await eventually(queued).toBeGreaterThan(200_000);
    state.isWaiting = true;
    const before = answered;
    expect(sidecar.metrics.losses.total()).toBe(0);
    worker.sessions.at(-1)?.socket.resume();
    await sending;
    expect(answered).toBe(before + 1);
    await eventually(() => worker.texts().length).toBe(answered);
  });
});
