import { setTimeout as delay } from 'node:timers/promises';
import { io, type Socket } from 'socket.io-client';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { waitUntil } from '../../tools/process.ts';
import { startComposed, type Composed } from '../support/composed.ts';
import { EngineClient } from '../support/engine-client.ts';
import { startNodeServer } from '../support/foreign-node.ts';
import { runPythonClient, startPythonServer, type ForeignServer } from '../support/foreign.ts';

type Transport = 'websocket' | 'polling';

describe.each([
  ['socket.io', startNodeServer],
  ['python-socketio', startPythonServer],
] as const)('a %s server behind Bridgehead', (kind, startServer) => {
  let server: ForeignServer;
  let sidecar: Composed;
  const sockets: Socket[] = [];

  beforeAll(async () => {
    server = await startServer();
    sidecar = await startComposed({
      backends: [server.url],
      limits: { eventsPerSecond: 0 },
    });
  });

  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.disconnect();
  });

  afterAll(async () => {
    await sidecar?.stop();
    await server?.stop();
  });

  const client = (namespace: string, options: Parameters<typeof io>[1] = {}): Socket => {
    const settings = { path: '/_event', transports: ['websocket'], reconnection: false, forceNew: true, ...options };
    const socket = io(sidecar.url + namespace, settings);
    sockets.push(socket);
    return socket;
  };

  describe.each<Transport>(['websocket', 'polling'])('over %s', (transport) => {
    it('passes the CONNECT payload, and headers with the decided address', async () => {
      const socket = client('/chat', { transports: [transport], auth: { key: 'värde', list: [1.5, null] } });
      const [welcome] = (await once(socket, 'welcome')) as [{ auth: unknown; headers: Record<string, string> }];
      expect(welcome.auth).toEqual({ key: 'värde', list: [1.5, null] });
      expect(welcome.headers['x-forwarded-for']).toBe('127.0.0.1');
      expect(welcome.headers['host']).toBe(new URL(sidecar.url).host);
    });

    it('passes events and acknowledgements of several namespaces of one connection', async () => {
      const root = client('/', { transports: [transport], forceNew: true, multiplex: true });
      const chat = root.io.socket('/chat', { auth: {} });
      chat.connect();
      expect(await root.timeout(10_000).emitWithAck('echo', 'root')).toBe('root');
      expect(await chat.timeout(10_000).emitWithAck('echo', { in: 'chat' })).toEqual({ in: 'chat' });
      const echoed = once(chat, 'echoed');
      chat.emit('echo', 1, 'two', () => undefined);
      expect(await echoed).toEqual([1, 'two']);
    });

    it('passes binary attachments both ways', async () => {
      const socket = client('/', { transports: [transport] });
      const reversed = once(socket, 'reversed');
      const data = Buffer.from([0, 1, 2, 253, 254, 255]);
      const turned = (await socket.timeout(10_000).emitWithAck('reverse', data)) as Uint8Array;
      expect([...turned]).toEqual([255, 254, 253, 2, 1, 0]);
      const [{ nested }] = (await reversed) as [{ nested: [Uint8Array, number, Uint8Array] }];
      expect([...nested[0]]).toEqual([255, 254, 253, 2, 1, 0]);
      expect([...nested[2]]).toEqual([...data]);
    });

    it('passes acknowledgements that the server asks for', async () => {
      const socket = client('/chat', { transports: [transport] });
      socket.on('question', (question: unknown, reply: (answer: unknown) => void) => reply({ heard: question }));
      const answered = once(socket, 'answered');
      socket.emit('ask', { q: 1 });
      expect(await answered).toEqual([{ heard: { q: 1 } }]);
    });

    it('passes CONNECT_ERROR with its data', async () => {
      const socket = client('/locked', { transports: [transport] });
      const [error] = (await once(socket, 'connect_error')) as [Error & { data?: unknown }];
      expect(error.message).toBe('no entry');
    });

    it("passes the server's DISCONNECT, and the client's", async () => {
      const kicked = client('/chat', { transports: [transport] });
      const reason = once(kicked, 'disconnect');
      kicked.emit('kick');
      expect((await reason)[0]).toBe('io server disconnect');

      const leaving = client('/', { transports: [transport] });
      await once(leaving, 'connect');
      const before = (await server.left()).filter((name) => name === '/').length;
      leaving.disconnect();
      await waitUntil(async () => (await server.left()).filter((name) => name === '/').length > before);
    });
  });

  it('keeps the order of 10,000 messages both ways, and loses none', async () => {
    const socket = client('/');
    const seen: number[] = [];
    socket.on('counted', (number: number) => void seen.push(number));
    await once(socket, 'connect');
    for (let number = 0; number < 10_000; number++) socket.emit('count', number);
    await waitUntil(() => seen.length === 10_000, { timeoutMs: 40_000, what: 'all numbers' });
    expect(seen).toEqual(Array.from({ length: 10_000 }, (_, index) => index));
  });

  it('keeps the order of 10,000 volatile messages, of which clients drop what they cannot send', async () => {
    const socket = client('/');
    const seen: number[] = [];
    socket.on('counted', (number: number) => void seen.push(number));
    await once(socket, 'connect');
    let last = 0;
    for (let number = 0; number < 10_000; number++) {
      if (number % 100 === 0) await new Promise(setImmediate);
      if (socket.io.engine.transport.writable) last = number;
      socket.volatile.emit('count', number);
    }
    await waitUntil(() => seen.at(-1) === last, { timeoutMs: 40_000, what: 'the last number' });
    expect(seen).toEqual([...seen].sort((left, right) => left - right));
    expect(new Set(seen).size).toBe(seen.length);
  });

  it('moves a client from polling to WebSocket without losing or turning round a message', async () => {
    const socket = client('/', { transports: ['polling', 'websocket'] });
    const seen: number[] = [];
    socket.on('counted', (number: number) => void seen.push(number));
    await once(socket, 'connect');
    let sent = 0;
    while (socket.io.engine.transport.name === 'polling' || sent < 300) {
      for (let count = 0; count < 10; count++) socket.emit('count', sent++);
      await delay(1);
      if (sent > 200_000) throw new Error('not upgraded');
    }
    expect(socket.io.engine.transport.name).toBe('websocket');
    await waitUntil(() => seen.length === sent, { what: 'all numbers' });
    expect(seen).toEqual(Array.from({ length: sent }, (_, index) => index));
  });

  it.each<Transport>(['websocket', 'polling'])('serves python-socketio as a client over %s', async (transport) => {
    const seen = await runPythonClient(sidecar.url, transport);
    expect(seen['transport']).toBe(transport);
    expect(seen['echo']).toEqual(['a', { b: 2 }]);
    expect(seen['reverse']).toEqual([255, 1, 0]);
    expect(seen['answered']).toEqual({ heard: { q: 1 } });
    expect(JSON.stringify(seen['refused'])).toContain('no entry');
  });

  it('ends the channel when the client goes', async () => {
    const before = sidecar.running.operator.stats().backends[0]?.sessions ?? 0;
    const socket = client('/');
    await once(socket, 'connect');
    expect(sidecar.running.operator.stats().backends[0]?.sessions).toBe(before + 1);
    socket.io.engine.close();
    await waitUntil(() => (sidecar.running.operator.stats().backends[0]?.sessions ?? 0) <= before);
  });

  if (kind === 'python-socketio') {
    it('passes bare NaN and numbers beyond 2^53 byte for byte', async () => {
      const raw = await EngineClient.open(sidecar.url);
      await raw.connect('/chat');
      raw.send('42/chat,["numbers"]');
      await raw.until(() => raw.messages.some((text) => text.includes('"numbers"')));
      expect(raw.messages.at(-1)).toBe(
        '2/chat,["numbers",{"nan":NaN,"infinity":Infinity,"big":1180591620717411303424}]',
      );
      raw.end();
    });

    it('passes 900,000 characters of Chinese, which are 2.7 MB', async () => {
      const socket = client('/');
      await once(socket, 'connect');
      expect(await socket.timeout(20_000).emitWithAck('length', '漢'.repeat(900_000))).toBe(900_000);
    });
  }
});

function once(socket: Socket, event: string): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    socket.once(event, (...values: unknown[]) => resolve(values));
    if (event !== 'connect_error') socket.once('connect_error', reject);
  });
}
