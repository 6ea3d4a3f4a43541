import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { WebSocket, type ClientOptions } from 'ws';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type {
  AcceptOptions,
  HttpExchange,
  ServerTransport,
  TransportOptions,
  UpgradeRequest,
  WebSocketConnection,
  WebSocketSink,
} from '../../src/ports/transport.ts';
import { eventually, standsStill } from '../support/eventually.ts';
import { rawRequest, requestHead, upgradeHead } from '../support/http.ts';

const MAX_MESSAGE = 2_000_000;

/** What a server's side of a WebSocket has heard. */
class RecordingSink implements WebSocketSink {
  readonly messages: (string | Buffer)[] = [];
  readonly ends: { code: number; clean: boolean }[] = [];
  drains = 0;
  connection: WebSocketConnection | undefined;

  message(data: Buffer, binary: boolean): void {
    expect(this.ends).toEqual([]);
    this.messages.push(binary ? Buffer.from(data) : data.toString());
  }

  drained(): void {
    this.drains++;
  }

  closed(code: number, clean: boolean): void {
    this.ends.push({ code, clean });
  }

  /** The connection that was accepted with this sink. */
  get open(): WebSocketConnection {
    if (this.connection === undefined) throw new Error('not accepted');
    return this.connection;
  }
}

type Make = (options: TransportOptions) => Promise<ServerTransport>;

/** What the library below an implementation leaves undone; it is then held to what it does instead, never to nothing. */
export interface Shortcomings {
  /** A second request before the first is answered ends the connection. */
  readonly noPipelining?: true;
  /** The head of an answer leaves together with its first piece. */
  readonly headWaitsForBody?: true;
  /** Frames that a client sends before the handshake's answer (against RFC 6455, section 4.1) are lost. */
  readonly losesEarlyFrames?: true;
  /** Whether frames are masked is not looked at; a close with a code from 1012 to 3999 counts as a loss, one of a single byte as in order. */
  readonly laxFrames?: true;
}

/** Every implementation of `ServerTransport` must pass this, with and without compression. */
export function describeServerTransport(name: string, make: Make, shortcomings: Shortcomings = {}): void {
  describeWith(name, make, shortcomings, undefined);
  describeWith(`${name}, compressing`, make, shortcomings, { threshold: 1_000 });
}

function describeWith(
  name: string,
  make: Make,
  { noPipelining, headWaitsForBody, losesEarlyFrames, laxFrames }: Shortcomings,
  compression: TransportOptions['compression'],
): void {
  describe(`ServerTransport: ${name}`, () => {
    let transport: ServerTransport;
    let port = 0;
    let onRequest: (exchange: HttpExchange) => void;
    let onUpgrade: (request: UpgradeRequest) => void;
    const clients: (WebSocket | Socket)[] = [];
    const sinks: RecordingSink[] = [];

    const accept = (request: UpgradeRequest, options: Partial<AcceptOptions> = {}): RecordingSink => {
      const sink = new RecordingSink();
      sinks.push(sink);
      sink.connection = request.accept({ protocol: request.protocols[0], sink, ...options });
      return sink;
    };

    beforeEach(async () => {
      onRequest = (exchange) => exchange.respond(200, {}, 'ok');
      onUpgrade = (request) => void accept(request);
      transport = await make({ maxMessageBytes: MAX_MESSAGE, compression });
      const handler = {
        request: (exchange: HttpExchange): void => onRequest(exchange),
        upgrade: (request: UpgradeRequest): void => onUpgrade(request),
      };
      ({ port } = await transport.listen({ host: '127.0.0.1', port: 0 }, handler));
    });

    afterEach(async () => {
      for (const client of clients.splice(0)) {
        if (client instanceof WebSocket) client.terminate();
        else client.destroy();
      }
      await transport.close();
      for (const { ends } of sinks.splice(0)) expect(ends.length).toBeLessThanOrEqual(1);
    });

    const dial = (protocols: string[] = [], options: ClientOptions = {}): WebSocket => {
      const settings = { perMessageDeflate: false, ...options };
      const client = new WebSocket(`ws://127.0.0.1:${port}/a?b=c`, protocols, settings);
      client.on('error', () => undefined);
      clients.push(client);
      return client;
    };
    const opened = async (
      ...parameters: Parameters<typeof dial>
    ): Promise<{ client: WebSocket; sink: RecordingSink }> => {
      const client = dial(...parameters);
      await once(client, 'open');
      return { client, sink: sinks.at(-1) as RecordingSink };
    };
    /** A socket that has sent these bytes. */
    const raw = async (...pieces: (string | Buffer)[]): Promise<Socket> => {
      const socket = connect(port, '127.0.0.1');
      clients.push(socket);
      socket.on('error', () => undefined);
      await once(socket, 'connect');
      for (const piece of pieces) socket.write(piece);
      return socket;
    };

    describe('listening', () => {
      it("rejects with the system's error where the port is taken", async () => {
        const other = await make({ maxMessageBytes: 1, compression: undefined });
        const handler = { request: () => undefined, upgrade: () => undefined };
        await expect(other.listen({ host: '127.0.0.1', port }, handler)).rejects.toMatchObject({ code: 'EADDRINUSE' });
        await other.close();
      });

      it('stops while what is open stays', async () => {
        const { client, sink } = await opened();
        const reply = { send: (): void => undefined };
        onRequest = (exchange) => {
          reply.send = () => exchange.respond(200, {}, 'late');
        };
        const answer = fetch(`http://127.0.0.1:${port}/slow`);
        await eventually(() => reply.send.name).toBe('');
        transport.stopListening();
        await eventually(
          async () => (await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined)) === undefined,
        ).toBe(true);
        reply.send();
        expect(await (await answer).text()).toBe('late');
        client.send('still here');
        await eventually(() => sink.messages).toEqual(['still here']);
      });

      it('ends what is open when it closes', async () => {
        const { client, sink } = await opened();
        const closed = once(client, 'close');
        await transport.close();
        await closed;
        await eventually(() => sink.ends).toHaveLength(1);
      });
    });

    describe('requests', () => {
      it('have a head: method, target as sent, lower-case headers with all their values, the peer', async () => {
        let exchange: HttpExchange | undefined;
        onRequest = (next) => {
          exchange = next;
          next.respond(200, {});
        };
        await rawRequest(
          port,
          'PATCH /a%2Fb/?c=%20d&e HTTP/1.1\r\nHost: app.test\r\nX-One: 1\r\nx-two: a\r\nX-Two: b\r\nX-Latin: \xe4\r\nConnection: close\r\n\r\n',
        );
        expect(exchange?.head).toMatchObject({
          method: 'PATCH',
          target: '/a%2Fb/?c=%20d&e',
          peer: '127.0.0.1',
          encrypted: false,
          headers: { host: 'app.test', 'x-one': '1', 'x-two': ['a', 'b'] },
        });
      });

      it('are answered whole: status, headers, several of a name, text or bytes', async () => {
        onRequest = (exchange) => {
          const { head } = exchange;
          if (head.target === '/bytes')
            return exchange.respond(200, { 'content-type': 'x/y' }, Buffer.from([0, 255, 10]));
          if (head.target === '/none') return exchange.respond(204, {});
          exchange.respond(418, { 'set-cookie': ['a=1', 'b=2'], 'x-gone': undefined, 'x-one': '1' }, 'tëxt');
        };
        const text = await fetch(`http://127.0.0.1:${port}/`);
        expect([text.status, await text.text()]).toEqual([418, 'tëxt']);
        expect(text.headers.getSetCookie()).toEqual(['a=1', 'b=2']);
        expect([text.headers.get('x-one'), text.headers.get('x-gone')]).toEqual(['1', null]);
        const bytes = await fetch(`http://127.0.0.1:${port}/bytes`);
        expect([...(await bytes.bytes())]).toEqual([0, 255, 10]);
        expect((await fetch(`http://127.0.0.1:${port}/none`)).status).toBe(204);
        const head = await fetch(`http://127.0.0.1:${port}/bytes`, { method: 'HEAD' });
        expect([head.headers.get('content-length'), await head.text()]).toEqual(['3', '']);
      });

      it('follow one another on a connection, in order', async () => {
        const waiting: HttpExchange[] = [];
        onRequest = (exchange) => void waiting.push(exchange);
        const socket = await raw(requestHead('GET', '/1'), requestHead('GET', '/2', { Connection: 'close' }));
        let text = '';
        socket.on('data', (chunk) => (text += chunk.toString()));
        await eventually(() => waiting.length).toBeGreaterThan(0);
        if (noPipelining) {
          await eventually(() => socket.closed).toBe(true);
          expect([waiting.length, text]).toEqual([1, '']);
          return;
        }
        waiting[0]?.respond(200, {}, 'first');
        await eventually(() => waiting.length).toBe(2);
        waiting[1]?.respond(200, {}, 'second');
        await once(socket, 'close');
        expect(text.indexOf('first')).toBeLessThan(text.indexOf('second'));
        expect(text).toContain('second');
      });

      it.each([
        ['an absolute target', requestHead('GET', 'http://other.test/')],
        ['a target with two slashes', requestHead('GET', '//other.test/')],
        ['a target with a backslash', requestHead('GET', '/\\other.test/')],
        ['the target *', requestHead('OPTIONS', '*')],
        [
          'Content-Length and Transfer-Encoding',
          `${requestHead('POST', '/', { 'Content-Length': '5', 'Transfer-Encoding': 'chunked' })}0\r\n\r\n`,
        ],
        [
          'two lengths',
          `${requestHead('POST', '/', { 'Content-Length': '1' }).trimEnd()}\r\nContent-Length: 2\r\n\r\nab`,
        ],
        ['a signed length', `${requestHead('POST', '/', { 'Content-Length': '+1' })}a`],
        ['an unknown transfer coding', `${requestHead('POST', '/', { 'Transfer-Encoding': 'xchunked' })}0\r\n\r\n`],
        ['a space before the colon', 'GET / HTTP/1.1\r\nHost : a\r\n\r\n'],
        ['a folded header', 'GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n'],
        ['no Host', 'GET / HTTP/1.1\r\n\r\n'],
        ['two Hosts', 'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n'],
      ])('are refused with %s', async (_what, bytes) => {
        const seen: string[] = [];
        onRequest = (exchange) => {
          seen.push(exchange.head.target);
          exchange.respond(200, {}, 'ok');
        };
        const { status } = await rawRequest(port, bytes);
        expect(status).toBeGreaterThanOrEqual(400);
        // "HTTP version not supported" is what some parsers make of a target that they do not know.
        expect(status === 505 ? 400 : status).toBeLessThan(500);
        expect(seen).toEqual([]);
      });

      it('bring their body piece by piece, chunked or not', async () => {
        const bodies: string[] = [];
        onRequest = (exchange) => {
          const { body } = exchange;
          let text = '';
          body.on('data', (chunk: Buffer) => (text += chunk.toString()));
          body.on('end', () => {
            bodies.push(text);
            exchange.respond(200, {}, text);
          });
        };
        const sized = await rawRequest(port, requestHead('POST', '/', { 'Content-Length': '10' }), 'hello', 'world');
        expect(sized.body).toBe('helloworld');
        const chunked = requestHead('POST', '/', { 'Transfer-Encoding': 'chunked' });
        expect((await rawRequest(port, chunked, '3\r\nabc\r\n', '2\r\nde\r\n0\r\n\r\n')).body).toBe('abcde');
        expect(bodies).toEqual(['helloworld', 'abcde']);
      });

      it('hold the peer back while their body is not read, and lose nothing of it', async () => {
        let exchange: HttpExchange | undefined;
        onRequest = (next) => (exchange = next);
        const size = 64 * 1024 * 1024;
        const socket = await raw(requestHead('POST', '/', { 'Content-Length': `${size}` }));
        const piece = Buffer.alloc(1024 * 1024, 'x');
        let written = 0;
        for (let sent = 0; sent < size; sent += piece.length) socket.write(piece, () => (written += piece.length));
        await standsStill(() => written);
        expect(written).toBeLessThan(size / 2);
        let read = 0;
        exchange?.body.on('data', (chunk: Buffer) => (read += chunk.length));
        await eventually(() => read).toBe(size);
        exchange?.respond(200, {});
      });

      it('may be answered without reading the body', async () => {
        onRequest = (exchange) => exchange.respond(413, { connection: 'close' }, 'too much');
        const outgoing = httpRequest({ port, method: 'POST', headers: { 'content-length': 600_000 } });
        outgoing.on('error', () => undefined);
        outgoing.end(Buffer.alloc(600_000));
        const [answer] = (await once(outgoing, 'response')) as [IncomingMessage];
        expect(answer.statusCode).toBe(413);
        let text = '';
        for await (const chunk of answer) text += String(chunk);
        expect(text).toBe('too much');
      });

      it('are answered piece by piece: each leaves at once', async () => {
        let out: Writable | undefined;
        onRequest = (exchange) => {
          out = exchange.stream(200, { 'content-type': 'text/plain' });
          if (headWaitsForBody) out.write('first ');
        };
        const answer = await fetch(`http://127.0.0.1:${port}/`);
        const reader = (answer.body as ReadableStream<Uint8Array>).getReader();
        if (headWaitsForBody) expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe('first ');
        for (const piece of ['one', 'two']) {
          out?.write(piece);
          expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe(piece);
        }
        out?.end();
        expect((await reader.read()).done).toBe(true);
      });

      it('push back while the peer does not read the answer', async () => {
        let out: Writable | undefined;
        onRequest = (exchange) => (out = exchange.stream(200, {}));
        const socket = await raw(requestHead('GET', '/', { Connection: 'close' }));
        socket.pause();
        await eventually(() => out).toBeDefined();
        const piece = Buffer.alloc(1024 * 1024);
        let pieces = 0;
        while (pieces < 64 && out?.write(piece) === true) {
          pieces++;
          await new Promise(setImmediate);
        }
        expect(pieces).toBeLessThan(64);
        const drained = once(out as Writable, 'drain');
        socket.resume();
        await drained;
        out?.end();
        await once(socket, 'close');
      });

      it('tell once when the peer goes before the answer is complete, and not after', async () => {
        const aborts: string[] = [];
        let last: HttpExchange | undefined;
        onRequest = (exchange) => {
          last = exchange;
          exchange.onAbort(() => aborts.push(exchange.head.target));
          if (exchange.head.target === '/begun') exchange.stream(200, {}).write('x');
          if (exchange.head.target === '/done') exchange.respond(200, {}, 'ok');
        };
        for (const target of ['/waiting', '/begun']) {
          const socket = await raw(requestHead('GET', target));
          await eventually(() => last?.head.target).toBe(target);
          socket.destroy();
          await eventually(() => aborts.at(-1)).toBe(target);
        }
        await rawRequest(port, requestHead('GET', '/done', { Connection: 'close' }));
        const socket = await raw(requestHead('POST', '/sending', { 'Content-Length': '100' }), 'half');
        await eventually(() => last?.head.target).toBe('/sending');
        socket.destroy();
        await eventually(() => aborts).toEqual(['/waiting', '/begun', '/sending']);
      });

      it('tell also those who ask when the peer has gone already', async () => {
        let exchange: HttpExchange | undefined;
        onRequest = (next) => (exchange = next);
        const socket = await raw(requestHead('POST', '/', { 'Content-Length': '100' }), 'half');
        await eventually(() => exchange).toBeDefined();
        let gone = false;
        exchange?.onAbort(() => (gone = true));
        socket.destroy();
        await eventually(() => gone).toBe(true);
        let told = false;
        exchange?.onAbort(() => (told = true));
        await eventually(() => told).toBe(true);
        // Nobody is there to hear it.
        exchange?.respond(200, {}, 'late');
      });
    });

    describe('upgrades', () => {
      it('begin a few in a turn of the event loop, however many come at once', async () => {
        // Each is known to the server before it asks for more.
        const sockets = await Promise.all(Array.from({ length: 100 }, () => raw(requestHead('GET', '/'))));
        await Promise.all(sockets.map((socket) => once(socket, 'data')));
        let begun = 0;
        onUpgrade = (request) => {
          begun++;
          accept(request);
        };
        for (const socket of sockets) socket.write(upgradeHead('/'));
        let most = 0;
        for (let before = 0; begun < sockets.length; before = begun) {
          await new Promise(setImmediate);
          most = Math.max(most, begun - before);
        }
        // As they come, and again at the end of that turn.
        expect(most).toBeLessThanOrEqual(16);
      });

      it('offer the subprotocols in order, and get the one that was chosen or none', async () => {
        const seen: (readonly string[])[] = [];
        onUpgrade = (request) => {
          seen.push(request.protocols);
          accept(request, { protocol: request.protocols[1] });
        };
        expect((await opened(['0.10.1', 'b', 'c'])).client.protocol).toBe('b');
        expect((await opened()).client.protocol).toBe('');
        onUpgrade = (request) => void accept(request, { protocol: undefined });
        const refused = dial(['a']);
        const head = await rawHead(await raw(upgradeHead('/', { 'Sec-WebSocket-Protocol': 'a' })));
        expect(head).toMatch(/^HTTP\/1\.1 101/);
        expect(head).not.toMatch(/sec-websocket-protocol/i);
        refused.terminate();
        expect(seen).toEqual([['0.10.1', 'b', 'c'], []]);
      });

      it('have the head of their request', async () => {
        let request: UpgradeRequest | undefined;
        onUpgrade = (next) => {
          request = next;
          accept(next);
        };
        await opened([], { headers: { cookie: 'a=1', 'x-two': '1, 2' } });
        expect(request?.head).toMatchObject({ method: 'GET', target: '/a?b=c', peer: '127.0.0.1' });
        expect(request?.head.headers).toMatchObject({ cookie: 'a=1', host: `127.0.0.1:${port}` });
        expect([request?.head.headers['x-two']].flat().join(',').replaceAll(' ', '')).toBe('1,2');
      });

      it('are refused with a whole answer', async () => {
        onUpgrade = (request) => request.refuse(503, { 'retry-after': '1', 'content-type': 'text/plain' }, 'wait ä');
        const { status, head, body } = await rawRequest(port, upgradeHead('/'));
        expect([status, Buffer.from(body, 'latin1').toString()]).toEqual([503, 'wait ä']);
        expect(head).toMatch(/retry-after: 1/i);
      });

      it('may be answered later', async () => {
        const requests: UpgradeRequest[] = [];
        onUpgrade = (request) => void requests.push(request);
        const client = dial();
        await eventually(() => requests).toHaveLength(1);
        const sink = accept(requests[0] as UpgradeRequest);
        await once(client, 'open');
        client.send('x');
        await eventually(() => sink.messages).toEqual(['x']);
        const [refusing] = [raw(upgradeHead('/'))];
        const socket = await refusing;
        await eventually(() => requests).toHaveLength(2);
        requests[1]?.refuse(403, {}, 'no');
        expect(await rawHead(socket)).toMatch(/^HTTP\/1\.1 403/);
      });

      it('of a peer that has gone meanwhile come to nothing', async () => {
        const requests: UpgradeRequest[] = [];
        onUpgrade = (request) => void requests.push(request);
        const socket = await raw(upgradeHead('/'));
        await eventually(() => requests).toHaveLength(1);
        socket.resetAndDestroy();
        await new Promise((resolve) => setTimeout(resolve, 50));
        const sink = accept(requests[0] as UpgradeRequest);
        if (sink.connection !== undefined) await eventually(() => sink.ends).toHaveLength(1);
        else expect(sink.ends).toEqual([]);
      });

      it.each([
        ['a bad key', { 'Sec-WebSocket-Key': 'short' }],
        ['an old version', { 'Sec-WebSocket-Version': '8' }],
        ['another protocol', { Upgrade: 'h2c' }],
      ])('with %s never get there', async (_what, headers: Record<string, string>) => {
        let asked = false;
        onUpgrade = (request) => {
          asked = true;
          accept(request);
        };
        onRequest = (exchange) => exchange.respond(400, {});
        const { status } = await rawRequest(port, upgradeHead('/', headers));
        expect([status, asked]).toEqual([400, false]);
      });

      it('agree on compression alone, and only where it is configured', async () => {
        const { client } = await opened([], { perMessageDeflate: true });
        expect(client.extensions.includes('permessage-deflate')).toBe(compression !== undefined);
      });
    });

    describe('WebSockets', () => {
      it('carry text and bytes of any size both ways, in order', async () => {
        const { client, sink } = await opened();
        const heard: (string | Buffer)[] = [];
        client.on('message', (data: Buffer, binary: boolean) => heard.push(binary ? data : data.toString()));
        const said = [
          '',
          'a',
          'ü漢🌉',
          'x'.repeat(125),
          'x'.repeat(126),
          'x'.repeat(65_535),
          'x'.repeat(65_536),
          '漢'.repeat(500_000),
          Buffer.alloc(0),
          Buffer.from([0, 255]),
          Buffer.alloc(1_000_000, 7),
        ];
        for (const one of said) client.send(one);
        await eventually(() => sink.messages.length).toBe(said.length);
        expect(sink.messages.map(digest)).toEqual(said.map(digest));
        for (const one of said) expect(sink.open.send(one, typeof one !== 'string')).not.toBe('dropped');
        await eventually(() => heard.length).toBe(said.length);
        expect(heard.map(digest)).toEqual(said.map(digest));
        // Text that is at hand as bytes is text all the same.
        sink.open.send(Buffer.from('bytes of text'), false);
        await eventually(() => heard.at(-1)).toBe('bytes of text');
      });

      it('hear what came together with the handshake', async () => {
        const frame = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]);
        const socket = await raw(Buffer.concat([Buffer.from(upgradeHead('/')), frame, frame]));
        if (losesEarlyFrames) {
          await rawHead(socket);
          socket.write(frame);
          await eventually(() => sinks.at(-1)?.messages).toEqual(['hi']);
          return;
        }
        await eventually(() => sinks.at(-1)?.messages).toEqual(['hi', 'hi']);
      });

      it('put fragments together, and let control frames come between', async () => {
        const { client, sink } = await opened();
        const pongs: string[] = [];
        client.on('pong', (data: Buffer) => pongs.push(data.toString()));
        client.send('one ', { fin: false });
        client.ping('still there?');
        client.send('two', { fin: true });
        await eventually(() => sink.messages).toEqual(['one two']);
        await eventually(() => pongs).toEqual(['still there?']);
      });

      it('tell of what waits, and once it has gone', async () => {
        const { client, sink } = await opened();
        client.pause();
        const piece = Buffer.alloc(1024 * 1024);
        const results = Array.from({ length: 32 }, () => sink.open.send(piece, true));
        expect(results.at(-1)).toBe('queued');
        await eventually(() => sink.open.bufferedBytes).toBeGreaterThan(10 * piece.length);
        await standsStill(() => sink.open.bufferedBytes);
        const { drains } = sink;
        let bytes = 0;
        client.on('message', (data: Buffer) => (bytes += data.length));
        client.resume();
        await eventually(() => bytes).toBe(32 * piece.length);
        await eventually(() => sink.open.bufferedBytes).toBe(0);
        await eventually(() => sink.drains).toBeGreaterThan(drains);
      });

      it('hold the peer back while paused, where they can', async () => {
        const { client, sink } = await opened();
        if (!sink.open.pause()) return;
        const piece = Buffer.alloc(64 * 1024);
        let written = 0;
        for (let n = 0; n < 600; n++) client.send(piece, () => written++);
        await standsStill(() => written);
        expect(written).toBeLessThan(600);
        expect(sink.messages.length).toBeLessThan(3);
        sink.open.resume();
        await eventually(() => sink.messages.length).toBe(600);
      });

      it('do not keep pongs for a peer that pings without end and reads nothing', async () => {
        const socket = await raw(upgradeHead('/'));
        await rawHead(socket);
        socket.pause();
        const sink = sinks.at(-1) as RecordingSink;
        const ping = Buffer.concat([Buffer.from([0x89, 0xfd, 0, 0, 0, 0]), Buffer.alloc(125)]);
        const pings = Buffer.concat(Array.from({ length: 1_000 }, () => ping));
        for (let n = 0; n < 300; n++) {
          if (!socket.write(pings))
            await Promise.race([once(socket, 'drain'), new Promise((resolve) => setTimeout(resolve, 200))]);
        }
        expect(sink.open.bufferedBytes).toBeLessThan(1_000_000);
      });

      it.each([1000, 1001, 1008, 1012, 3000, 4999])('close with %i, and say so', async (code) => {
        const { client, sink } = await opened();
        const closed = once(client, 'close') as Promise<[number, Buffer]>;
        sink.open.send('last words', false);
        const heard = once(client, 'message');
        sink.open.close(code, 'why ä');
        expect(String((await heard)[0])).toBe('last words');
        const [there, reason] = await closed;
        expect([there, reason.toString()]).toEqual([code, 'why ä']);
        await eventually(() => sink.ends).toEqual([{ code, clean: true }]);
        expect(sink.open.send('after', false)).toBe('dropped');
        sink.open.close(code, 'again');
        sink.open.terminate();
      });

      it.each([1000, 1001, 3000])("tell the peer's code %i, and answer with it", async (code) => {
        const { client, sink } = await opened();
        const closed = once(client, 'close') as Promise<[number]>;
        client.send('before');
        client.close(code);
        const isUnknown = laxFrames && code === 3000;
        expect((await closed)[0]).toBe(isUnknown ? 1005 : code);
        expect(sink.messages).toEqual(['before']);
        await eventually(() => sink.ends).toEqual([isUnknown ? { code: 1006, clean: false } : { code, clean: true }]);
      });

      it('tell 1005 for a close without a code, which is in order, too', async () => {
        const { client, sink } = await opened();
        client.close();
        await eventually(() => sink.ends).toEqual([{ code: 1005, clean: true }]);
      });

      it('tell 1006 for a connection that is lost', async () => {
        const { client, sink } = await opened();
        client.terminate();
        await eventually(() => sink.ends).toEqual([{ code: 1006, clean: false }]);
        expect(sink.open.send('x', false)).toBe('dropped');
      });

      it('end at once when terminated', async () => {
        const { client, sink } = await opened();
        const closed = once(client, 'close') as Promise<[number]>;
        sink.open.terminate();
        expect((await closed)[0]).toBe(1006);
        await eventually(() => sink.ends).toEqual([{ code: 1006, clean: false }]);
      });

      it('end some seconds after a close that the peer does not answer', async () => {
        const socket = await raw(upgradeHead('/'));
        await rawHead(socket);
        const sink = sinks.at(-1) as RecordingSink;
        sink.open.close(1000, '');
        const begun = performance.now();
        await eventually(() => sink.ends.length).toBe(1);
        expect(performance.now() - begun).toBeLessThan(9_000);
      });

      it.each([
        ['text that is not UTF-8', [0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007],
        ['a frame without a mask', [0x81, 0x01, 0x34], 1002],
        ['a reserved bit', [0xc1, 0x80, 0, 0, 0, 0], 1002],
        ['an unknown opcode', [0x83, 0x80, 0, 0, 0, 0], 1002],
        ['a fragmented control frame', [0x09, 0x80, 0, 0, 0, 0], 1002],
        ['a continuation of nothing', [0x80, 0x80, 0, 0, 0, 0], 1002],
        ['a second message in the first', [0x01, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0], 1002],
        ['a close code that nobody may send', [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed], 1002],
        ['a close code of one byte', [0x88, 0x81, 0, 0, 0, 0, 0x03], 1002],
        ['a message that says it is too long', [0x82, 0xff, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0], 1009],
      ] as [string, number[], number][])('refuse %s', async (_what, bytes, code) => {
        const { client, sink } = await opened();
        const closed = once(client, 'close') as Promise<[number]>;
        const isUnmasked = bytes.length === 3;
        socketOf(client).write(Buffer.from(bytes));
        // It waits for a mask, and takes what comes next for one.
        if (laxFrames && isUnmasked) socketOf(client).end();
        const [there] = await closed;
        const isClose = bytes[0] === 0x88;
        // Some servers end a broken connection without a word.
        expect(laxFrames && isClose ? [1005] : [code, 1006]).toContain(there);
        await eventually(() => sink.ends).toHaveLength(1);
        expect(sink.ends[0]?.clean).toBe(laxFrames === true && isClose && bytes[1] === 0x81);
        expect(sink.messages).toEqual([]);
      });

      it('refuse fragments that together are too long', async () => {
        const { client, sink } = await opened();
        client.send(Buffer.alloc(1_500_000), { fin: false });
        client.send(Buffer.alloc(1_500_000), { fin: true });
        const [there] = (await once(client, 'close')) as [number];
        expect([1009, 1006]).toContain(there);
        await eventually(() => sink.ends[0]?.clean).toBe(false);
        expect(sink.messages).toEqual([]);
      });
    });

    if (compression === undefined) return;

    describe('compression', () => {
      it('deflates messages from the threshold on, without context takeover', async () => {
        const { client, sink } = await opened([], { perMessageDeflate: true });
        const heard: string[] = [];
        client.on('message', (data: Buffer) => heard.push(data.toString()));
        const before = socketOf(client).bytesRead;
        const texts = ['x'.repeat(999), 'y'.repeat(100_000), 'z'.repeat(100_000)];
        for (const text of texts) sink.open.send(text, false);
        await eventually(() => heard).toEqual(texts);
        expect(socketOf(client).bytesRead - before).toBeGreaterThan(999);
        expect(socketOf(client).bytesRead - before).toBeLessThan(3_000);
        const offer = { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' };
        const head = await rawHead(await raw(upgradeHead('/', offer)));
        expect(head).toMatch(/permessage-deflate.*server_no_context_takeover/i);
        expect(head).toMatch(/permessage-deflate.*client_no_context_takeover/i);
        client.send('w'.repeat(50_000));
        await eventually(() => sink.messages).toEqual(['w'.repeat(50_000)]);
        await eventually(() => sink.open.bufferedBytes).toBe(0);
      });

      it('counts what comes out: a small frame may be a large message', async () => {
        const { client, sink } = await opened([], { perMessageDeflate: true });
        client.send('v'.repeat(MAX_MESSAGE + 1));
        await once(client, 'close');
        await eventually(() => sink.ends[0]?.clean).toBe(false);
        expect(sink.messages).toEqual([]);
      });

      it('keeps the order of small and large messages', async () => {
        const { client, sink } = await opened([], { perMessageDeflate: true });
        const heard: string[] = [];
        client.on('message', (data: Buffer) => heard.push(data.toString()));
        const texts = Array.from({ length: 50 }, (_, n) => `${n} ${'x'.repeat(n % 3 === 0 ? 20_000 : 10)}`);
        for (const text of texts) sink.open.send(text, false);
        await eventually(() => heard).toEqual(texts);
      });
    });
  });
}

/** Comparing megabytes item by item takes a minute. */
function digest(message: string | Buffer): string {
  const sum = createHash('sha256').update(message).digest('hex');
  return `${typeof message === 'string' ? 'text' : 'bytes'} ${message.length} ${sum}`;
}

function socketOf(client: WebSocket): Socket {
  return (client as unknown as { _socket: Socket })._socket;
}

/** The head of the answer on a raw socket. */
async function rawHead(socket: Socket): Promise<string> {
  let text = '';
  const onData = (chunk: Buffer): void => {
    text += chunk.toString('latin1');
  };
  socket.on('data', onData);
  await eventually(() => text.includes('\r\n\r\n')).toBe(true);
  socket.off('data', onData);
  return text;
}
