import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { once } from 'node:events';
import { WebSocket, WebSocketServer } from 'ws';
import { afterEach, describe, expect, it } from 'vitest';
import { startComposed, type Composed } from '../support/composed.ts';
import { eventually } from '../support/eventually.ts';
import { rawRequest, upgradeHead } from '../support/http.ts';

const stops: (() => unknown)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).toReversed()) await stop();
});

interface Stack {
  readonly sidecar: Composed;
  readonly accepted: { readonly socket: WebSocket; readonly target: string }[];
  client(path?: string, protocols?: string[]): WebSocket;
}

/** A real WebSocket server that echoes, behind a sidecar that passes other paths. */
async function start(onSocket: (socket: WebSocket) => void = echo): Promise<Stack> {
  const server = createServer((_incoming, outgoing) => void outgoing.writeHead(404).end());
  const webSockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (offered) => [...offered].at(-1) ?? false,
  });
  const accepted: Stack['accepted'] = [];
  server.on('upgrade', (incoming, socket, head) => {
    if (incoming.url?.startsWith('/live') !== true) return void socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    webSockets.handleUpgrade(incoming, socket, head, (webSocket) => {
      accepted.push({ socket: webSocket, target: incoming.url ?? '' });
      onSocket(webSocket);
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  stops.push(() => {
    for (const { socket } of accepted) socket.terminate();
    server.closeAllConnections();
    server.close();
  });
  const backend = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const sidecar = await startComposed({ backends: [backend], proxyOther: true });
  stops.push(() => sidecar.stop());
  return {
    sidecar,
    accepted,
    client(path = '/live/feed?x=%2F1', protocols = []) {
      const socket = new WebSocket(sidecar.url.replace('http', 'ws') + path, protocols);
      socket.on('error', () => undefined);
      stops.push(() => socket.terminate());
      return socket;
    },
  };
}

function echo(socket: WebSocket): void {
  socket.on('message', (data: Buffer, binary: boolean) => socket.send(data, { binary }));
}

describe('a WebSocket of another path, with proxyOther', () => {
  it('passes text, bytes, path and query, and the subprotocol that the backend chose', async () => {
    const stack = await start();
    const socket = stack.client(undefined, ['first', 'second']);
    await once(socket, 'open');
    expect(socket.protocol).toBe('second');
    expect(stack.accepted[0]?.target).toBe('/live/feed?x=%2F1');
    const heard: [string, boolean][] = [];
    socket.on('message', (data: Buffer, binary: boolean) => heard.push([data.toString('latin1'), binary]));
    socket.send('text ü'.normalize());
    socket.send(Buffer.from([0, 255]));
    socket.send('');
    await eventually(() => heard).toHaveLength(3);
    expect(heard).toEqual([
      [Buffer.from('text ü').toString('latin1'), false],
      ['\0ÿ', true],
      ['', false],
    ]);
  });

  it('passes what the backend says at once', async () => {
    const stack = await start((socket) => {
      for (let n = 0; n < 100; n++) socket.send(`${n}`);
    });
    const heard: string[] = [];
    stack.client().on('message', (data: Buffer) => heard.push(data.toString()));
    await eventually(() => heard).toHaveLength(100);
    expect(heard).toEqual(Array.from({ length: 100 }, (_, n) => `${n}`));
  });

  it.each([1000, 1001, 3000, 4999])('passes the close code %i both ways', async (code) => {
    const stack = await start();
    const first = stack.client();
    await once(first, 'open');
    const closedThere = once(stack.accepted[0]?.socket as WebSocket, 'close');
    first.close(code);
    expect((await closedThere)[0]).toBe(code);
    const second = stack.client();
    await once(second, 'open');
    const closedHere = once(second, 'close');
    stack.accepted[1]?.socket.close(code);
    expect((await closedHere)[0]).toBe(code);
  });

  it('is lost on one side when it is lost on the other', async () => {
    const stack = await start();
    const first = stack.client();
    await once(first, 'open');
    const closedThere = once(stack.accepted[0]?.socket as WebSocket, 'close');
    first.terminate();
    expect((await closedThere)[0]).toBe(1006);
    const second = stack.client();
    await once(second, 'open');
    const closedHere = once(second, 'close');
    stack.accepted[1]?.socket.terminate();
    expect((await closedHere)[0]).toBe(1006);
  });

  it('holds the fast side back while the other does not read', async () => {
    const stack = await start((socket) => socket.pause());
    const socket = stack.client();
    await once(socket, 'open');
    const piece = Buffer.alloc(64 * 1024);
    let written = 0;
    for (let n = 0; n < 600; n++) socket.send(piece, () => written++);
    let before = -1;
    await eventually(
      () => {
        const stands = written > 0 && written === before;
        before = written;
        return stands;
      },
      { interval: 200 },
    ).toBe(true);
    expect(written).toBeLessThan(600);
    let bytes = 0;
    stack.accepted[0]?.socket.on('message', (data: Buffer) => (bytes += data.length));
    stack.accepted[0]?.socket.resume();
    await eventually(() => bytes).toBe(600 * piece.length);
  });

  it('that the backend refuses gets 502', async () => {
    const { sidecar } = await start();
    for (const target of ['/closed', '/closed?token=secret-1']) {
      const answer = await rawRequest(sidecar.port, upgradeHead(target));
      expect(answer.status).toBe(502);
      expect(answer.body).toContain('"upstream_unavailable"');
    }
    expect(sidecar.log()).not.toContain('secret-1');
  });
});
