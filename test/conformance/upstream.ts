import { createServer, type RequestListener } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { WebSocketServer, type WebSocket } from 'ws';
import { afterEach, describe, expect, it } from 'vitest';
import type { Channel, ChannelEnd, ChannelSink, Upstream } from '../../src/ports/upstream.ts';
import type { WebSocketSink } from '../../src/ports/transport.ts';
import { eventually, standsStill } from '../support/eventually.ts';
import type { ForeignServer } from '../support/foreign.ts';
import { acknowledgeConnect, startRecordingWorker } from '../support/recording-worker.ts';

export type MakeUpstream = (url: string) => Upstream;

/** What a channel has brought. */
class RecordingChannelSink implements ChannelSink {
  readonly frames: (string | Buffer)[] = [];
  readonly ends: ChannelEnd[] = [];
  drains = 0;

  message(frame: Buffer, binary: boolean): void {
    expect(this.ends).toEqual([]);
    this.frames.push(binary ? Buffer.from(frame) : frame.toString());
  }

  drained(): void {
    this.drains++;
  }

  ended(reason: ChannelEnd): void {
    this.ends.push(reason);
  }
}

const REQUEST = { target: '/_event/?EIO=4&transport=websocket&token=t', headers: { host: 'app.test' }, protocols: [] };
const patient = (): AbortSignal => AbortSignal.timeout(15_000);

const stops: (() => unknown)[] = [];

async function httpServer(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  stops.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Every implementation of `Upstream` must pass this with each real server. */
export function describeChannels(name: string, make: MakeUpstream, start: () => Promise<ForeignServer>): void {
  describe(`Upstream: ${name}, channels to a real server`, () => {
    const servers: ForeignServer[] = [];
    const channels: Channel[] = [];

    afterEach(() => {
      for (const channel of channels.splice(0)) channel.close();
    });

    const opened = async (): Promise<{ server: ForeignServer; channel: Channel; sink: RecordingChannelSink }> => {
      servers[0] ??= await start();
      const sink = new RecordingChannelSink();
      const channel = await make(servers[0].url).open(REQUEST, sink, patient());
      channels.push(channel);
      return { server: servers[0], channel, sink };
    };

    it('tell what the worker takes, and leave nothing behind when they only ask', async () => {
      const { server, channel } = await opened();
      expect(channel.maxPayload).toBe(1_000_000);
      expect(await make(server.url).probe(patient())).toEqual({ maxPayload: 1_000_000 });
    });

    it('carry packets as they are: text with its 4, bytes without', async () => {
      const { channel, sink } = await opened();
      channel.send('40/chat,{"key":"ü"}', false);
      await eventually(() => sink.frames.length).toBe(2);
      // python-socketio sends what a connect handler emits before the acknowledgement.
      const [connected, welcome] = sink.frames.map(String).toSorted((left, right) => left.localeCompare(right));
      expect(connected).toMatch(/^40\/chat,\{"sid":/);
      expect(welcome).toMatch(/^42\/chat,\["welcome",\{"auth":\{"key":"(ü|\\u00fc)"\}/);
      channel.send(Buffer.from('42/chat,7["echo",1.5]'), false);
      await eventually(() => sink.frames.slice(2)).toEqual(['42/chat,["echoed",1.5]', '43/chat,7[1.5]']);
      channel.send('451-/chat,["reverse",{"_placeholder":true,"num":0}]', false);
      channel.send(Buffer.from([1, 2, 255]), true);
      const bytes = (): string[] =>
        sink.frames.filter((frame) => typeof frame !== 'string').map((frame) => frame.toString('hex'));
      await eventually(bytes).toContain('ff0201');
    });

    it('end the session at the worker when they close, and hear nothing more', async () => {
      const { server, channel, sink } = await opened();
      channel.send('40/chat,', false);
      await eventually(() => sink.frames.length).toBe(2);
      const before = (await server.left()).filter((namespace) => namespace === '/chat').length;
      channel.send('42/chat,["count",1]', false);
      channel.close();
      await eventually(async () => (await server.left()).filter((namespace) => namespace === '/chat').length).toBe(
        before + 1,
      );
      expect(sink.frames).toHaveLength(2);
      expect(sink.ends).toEqual([]);
      expect(channel.send('42/chat,["count",2]', false)).toBe('dropped');
      channel.close();
    });

    it('end once when the worker goes, and say so', async () => {
      const { sink, server } = await opened();
      await server.stop();
      servers.length = 0;
      await eventually(() => sink.ends).toHaveLength(1);
    });
  });
}

export function describeUpstream(name: string, make: MakeUpstream): void {
  describe(`Upstream: ${name}`, () => {
    afterEach(async () => {
      for (const stop of stops.splice(0).toReversed()) await stop();
    });

    describe('a channel', () => {
      it('brings the worker its target, headers and subprotocols', async () => {
        const worker = await startRecordingWorker();
        stops.push(() => worker.stop());
        const request = {
          target: '/_event?EIO=4&transport=websocket&token=a%20b',
          headers: { host: 'app.test:81', cookie: ['a=1', 'b=2'], 'x-forwarded-for': '203.0.113.7', 'x-latin': 'ä' },
          protocols: ['0.10.1', 'two'],
        };
        const channel = await make(worker.url).open(request, new RecordingChannelSink(), patient());
        const { target, headers } = worker.sessions[0] ?? {};
        expect(target).toBe(request.target);
        expect(headers).toMatchObject({ host: 'app.test:81', cookie: 'a=1; b=2', 'x-forwarded-for': '203.0.113.7' });
        expect(headers?.['x-latin']).toBe('ä');
        expect(headers?.['sec-websocket-protocol']?.split(/, */)).toEqual(['0.10.1', 'two']);
        expect(headers).not.toHaveProperty('sec-websocket-extensions');
        channel.close();
      });

      it("answers the worker's pings, a probe with its content", async () => {
        const worker = await startRecordingWorker({
          onSession: ({ socket }) => ['2', '2probe'].forEach((text) => socket.send(text)),
        });
        stops.push(() => worker.stop());
        const sink = new RecordingChannelSink();
        const channel = await make(worker.url).open(REQUEST, sink, patient());
        await eventually(() => worker.texts()).toEqual(['3', '3probe']);
        expect(sink.frames).toEqual([]);
        channel.close();
      });

      it('is lost when the worker says nothing for its interval and timeout', async () => {
        const worker = await startRecordingWorker({ handshake: { pingInterval: 100, pingTimeout: 200 } });
        stops.push(() => worker.stop());
        const sink = new RecordingChannelSink();
        await make(worker.url).open(REQUEST, sink, patient());
        await eventually(() => sink.ends).toEqual(['lost']);
      });

      it('lives on while it is paused, however long that takes', async () => {
        const worker = await startRecordingWorker({ handshake: { pingInterval: 50, pingTimeout: 50 } });
        stops.push(() => worker.stop());
        const sink = new RecordingChannelSink();
        const channel = await make(worker.url).open(REQUEST, sink, patient());
        channel.pause();
        await new Promise((resolve) => setTimeout(resolve, 400));
        expect(sink.ends).toEqual([]);
        channel.resume();
        await eventually(() => sink.ends).toEqual(['lost']);
      });

      it.each([
        ['closes the WebSocket', 'closed', (socket: WebSocket) => socket.close(1001)],
        ['closes the Engine.IO session', 'closed', (socket: WebSocket) => socket.send('1')],
        ['is killed', 'lost', (socket: WebSocket) => socket.terminate()],
      ] as const)('ends once when the worker %s: %s', async (_how, reason, end) => {
        const worker = await startRecordingWorker();
        stops.push(() => worker.stop());
        const sink = new RecordingChannelSink();
        const channel = await make(worker.url).open(REQUEST, sink, patient());
        for (const { socket } of worker.sessions) end(socket);
        await eventually(() => sink.ends).toEqual([reason]);
        expect(channel.send('42["x"]', false)).toBe('dropped');
        channel.close();
        expect(sink.ends).toHaveLength(1);
      });

      it('holds the worker back while paused, and loses nothing', async () => {
        let written = 0;
        const worker = await startRecordingWorker({
          onFrame: (session, frame) => {
            acknowledgeConnect(session, frame);
            for (let n = 0; n < 500; n++) session.socket.send(`42["${n}","${'x'.repeat(64 * 1024)}"]`, () => written++);
          },
        });
        stops.push(() => worker.stop());
        const sink = new RecordingChannelSink();
        const channel = await make(worker.url).open(REQUEST, sink, patient());
        channel.pause();
        channel.send('40', false);
        await standsStill(() => written);
        expect(written).toBeLessThan(500);
        expect(sink.frames.length).toBeLessThan(5);
        channel.resume();
        await eventually(() => sink.frames.length).toBe(501);
        expect(sink.frames.slice(1).map((frame) => /"(\d+)"/.exec(String(frame))?.[1])).toEqual(
          Array.from({ length: 500 }, (_, n) => `${n}`),
        );
        channel.close();
      });

      it('tells of what waits for a worker that does not read, and once it has gone', async () => {
        const worker = await startRecordingWorker({ onSession: ({ socket }) => socket.pause() });
        stops.push(() => worker.stop());
        const sink = new RecordingChannelSink();
        const channel = await make(worker.url).open(REQUEST, sink, patient());
        const piece = `42["${'x'.repeat(1024 * 1024)}"]`;
        for (let n = 0; n < 32; n++) expect(channel.send(piece, false)).not.toBe('dropped');
        await standsStill(() => channel.bufferedBytes);
        expect(channel.bufferedBytes).toBeGreaterThan(10 * piece.length);
        const { drains } = sink;
        worker.sessions[0]?.socket.resume();
        await eventually(() => worker.texts().length).toBe(32);
        await eventually(() => [channel.bufferedBytes, sink.drains > drains]).toEqual([0, true]);
        channel.close();
      });

      it.each<[string, () => Promise<string>]>([
        ['nobody listens', () => Promise.resolve('http://127.0.0.1:1')],
        [
          'the worker answers with a status',
          () => httpServer((_incoming, outgoing) => outgoing.writeHead(404).end('no')),
        ],
        [
          'the worker speaks something else',
          () => tcpServer((socket) => void socket.write('220 smtp.test ESMTP\r\n\r\n')),
        ],
        ['the worker hangs up', () => tcpServer((socket) => void socket.once('data', () => socket.destroy()))],
        [
          'the key is answered wrongly',
          () =>
            tcpServer(
              (socket) =>
                void socket.write(
                  `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${'x'.repeat(28)}\r\n\r\n`,
                ),
            ),
        ],
        [
          'the head has no end',
          () => tcpServer((socket) => void socket.write(`HTTP/1.1 101 X\r\n${'X: y\r\n'.repeat(20_000)}`)),
        ],
        ['the worker does not speak Engine.IO', () => webSocketServer((socket) => socket.send('hello'))],
        ['the first packet is binary', () => webSocketServer((socket) => socket.send(Buffer.from('0{}')))],
        ['the OPEN packet is broken', () => webSocketServer((socket) => socket.send('0{"sid":'))],
        ['the worker closes before its OPEN packet', () => webSocketServer((socket) => socket.close())],
      ])('is not opened where %s', async (_why, start) => {
        const url = await start();
        const sink = new RecordingChannelSink();
        await expect(make(url).open(REQUEST, sink, patient())).rejects.toThrow();
        await expect(make(url).probe(patient())).rejects.toThrow();
        expect([sink.frames, sink.ends]).toEqual([[], []]);
      });

      it.each([
        ['before it is tried', 0],
        ['while the worker does not answer', 50],
      ])('is given up when the signal ends %s', async (_when, milliseconds) => {
        const sockets: Socket[] = [];
        const url = await tcpServer((socket) => void sockets.push(socket));
        const signal = milliseconds === 0 ? AbortSignal.abort() : AbortSignal.timeout(milliseconds);
        const sink = new RecordingChannelSink();
        await expect(make(url).open(REQUEST, sink, signal)).rejects.toThrow();
        await eventually(() => sockets.every((socket) => socket.destroyed || socket.readableEnded)).toBe(true);
        expect(sink.ends).toEqual([]);
      });

      it('passes what the worker says together with its OPEN packet', async () => {
        const worker = await startRecordingWorker({ onSession: ({ socket }) => socket.send('42["early"]') });
        stops.push(() => worker.stop());
        const sink = new RecordingChannelSink();
        const channel = await make(worker.url).open(REQUEST, sink, patient());
        await eventually(() => sink.frames).toEqual(['42["early"]']);
        channel.close();
      });
    });

    describe('a plain WebSocket', () => {
      const silent: WebSocketSink = { message: () => undefined, drained: () => undefined, closed: () => undefined };

      it('has the subprotocol that the worker chose, and carries both kinds', async () => {
        const url = await webSocketServer(
          (socket) => void socket.on('message', (data: Buffer, binary: boolean) => socket.send(data, { binary })),
        );
        const heard: (string | Buffer)[] = [];
        const ends: unknown[] = [];
        const sink: WebSocketSink = {
          message: (data, binary) => void heard.push(binary ? Buffer.from(data) : data.toString()),
          drained: () => undefined,
          closed: (code, clean) => void ends.push([code, clean]),
        };
        const request = { ...REQUEST, target: '/other?x=1', protocols: ['a', 'b'] };
        const { connection, protocol } = await make(url).connect(request, sink, patient());
        expect(protocol).toBe('a');
        connection.send('text', false);
        connection.send(Buffer.from([0, 255]), true);
        await eventually(() => heard).toEqual(['text', Buffer.from([0, 255])]);
        connection.close(3001, 'done');
        await eventually(() => ends).toEqual([[3001, true]]);
      });

      it.each<[string, () => Promise<string>, () => AbortSignal]>([
        ['nobody listens', () => Promise.resolve('http://127.0.0.1:1'), patient],
        [
          'the worker answers with a status',
          () => httpServer((_incoming, outgoing) => outgoing.writeHead(403).end()),
          patient,
        ],
        ['the worker does not answer in time', () => tcpServer(() => undefined), () => AbortSignal.timeout(50)],
      ])('is not opened where %s', async (_why, start, signal) => {
        await expect(make(await start()).connect(REQUEST, silent, signal())).rejects.toThrow();
      });
    });

    describe('a request', () => {
      const forward = (
        url: string,
        changes: Partial<Parameters<Upstream['forward']>[0]> = {},
        signal = patient(),
      ): ReturnType<Upstream['forward']> =>
        make(url).forward(
          { method: 'GET', target: '/a%2F?b=%20', headers: { host: 'app.test' }, body: undefined, ...changes },
          signal,
        );

      it('keeps its method, target and headers, and the answer its own', async () => {
        const url = await httpServer((incoming, outgoing) => {
          const { method, url: target, headers } = incoming;
          outgoing.writeHead(207, {
            'set-cookie': ['a=1', 'b=2'],
            'x-seen': JSON.stringify({ method, target, host: headers.host, two: headers['x-two'] }),
          });
          outgoing.end('answer');
        });
        const { status, headers, body } = await forward(`${url}/prefix/`, {
          method: 'PUT',
          headers: { host: 'app.test', 'x-two': ['1', '2'] },
        });
        expect([status, headers['set-cookie']]).toEqual([207, ['a=1', 'b=2']]);
        expect(JSON.parse(String(headers['x-seen']))).toEqual({
          method: 'PUT',
          target: '/prefix/a%2F?b=%20',
          host: 'app.test',
          two: '1, 2',
        });
        expect(await textOf(body)).toBe('answer');
      });

      it.each(['POST', 'GET', 'DELETE', 'OPTIONS'])('brings its body framed: %s', async (method) => {
        const seen: string[] = [];
        const url = await httpServer(
          (incoming, outgoing) =>
            void textOf(incoming).then((text) => {
              seen.push(text);
              outgoing.end();
            }),
        );
        for (const headers of [{ host: 'a' }, { host: 'a', 'content-length': '18' }]) {
          const { body } = await forward(url, {
            method,
            headers,
            body: Readable.from([Buffer.from('GET / HTTP/1.1\r\n\r\n')]),
          });
          await textOf(body);
        }
        expect(seen).toEqual(['GET / HTTP/1.1\r\n\r\n', 'GET / HTTP/1.1\r\n\r\n']);
      });

      it('fails where nobody listens, and ends when its signal does', async () => {
        await expect(forward('http://127.0.0.1:1')).rejects.toThrow();
        let left = false;
        const url = await httpServer((_incoming, outgoing) => {
          outgoing.on('close', () => (left = true));
          outgoing.write('begun');
        });
        const abort = new AbortController();
        const { body } = await forward(url, {}, abort.signal);
        body.on('error', () => undefined);
        abort.abort();
        await eventually(() => left).toBe(true);
        await eventually(() => body.destroyed).toBe(true);
      });
    });
  });
}

async function tcpServer(onSocket: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    onSocket(socket.resume());
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  stops.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function webSocketServer(onSocket: (socket: WebSocket) => void): Promise<string> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  server.on('connection', onSocket);
  await new Promise((resolve) => void server.once('listening', () => resolve(undefined)));
  stops.push(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function textOf(stream: Readable): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
}
