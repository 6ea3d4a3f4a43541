import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocketServer } from 'ws';
import { startComposed, type Composed } from '../support/composed.ts';
import { requestHead, upgradeHead } from '../support/http.ts';

const FOREIGN = { Origin: 'https://evil.test' };
const QUERY = '?EIO=4&transport=websocket&token=t';

describe.each([
  ['the default paths', '/_event', '/_upload'],
  ['paths with a prefix', '/back-end/_event', '/back-end/_upload'],
])('with proxyOther and %s', (_, eventPath, uploadPath) => {
  /** Takes whatever it is sent, at whatever path: what reaches it is what was let through. */
  let backend: Server;
  const reached: string[] = [];
  let sidecar: Composed;

  beforeAll(async () => {
    backend = createServer((incoming, outgoing) => {
      reached.push(`${incoming.method} ${incoming.url}`);
      outgoing.end('the backend');
    });
    const webSockets = new WebSocketServer({ noServer: true });
    backend.on('upgrade', (incoming, socket, head) => {
      reached.push(`WebSocket ${incoming.url}`);
      webSockets.handleUpgrade(incoming, socket, head, () => undefined);
    });
    backend.listen(0, '127.0.0.1');
    await once(backend, 'listening');
    const url = `http://127.0.0.1:${(backend.address() as AddressInfo).port}`;
    sidecar = await startComposed({ backends: [url], proxyOther: true, eventPath, uploadPath });
  });

  afterAll(async () => {
    await sidecar?.stop();
    backend?.closeAllConnections();
    backend?.close();
  });

  /** The status, and what of it reached the worker. */
  const ask = async (head: string): Promise<[number, string[]]> => {
    const before = reached.length;
    const status = await statusOf(sidecar.port, head);
    // The sidecar's own probes are nobody's request.
    const isOurs = (line: string): boolean => !line.endsWith(`${eventPath}/?EIO=4&transport=websocket`);
    return [status, reached.slice(before).filter(isOurs)];
  };

  it.each(spelled(eventPath))(
    'a WebSocket to the event path with %s does not reach the worker',
    async (_what, path) => {
      const head = upgradeHead(`${path}${QUERY}`, FOREIGN);
      expect(await ask(head)).toEqual(REFUSED);
    },
  );

  it.each(['GET', 'POST', 'OPTIONS', 'PUT'])('nor does a %s', async (method) => {
    for (const [what, path] of spelled(eventPath)) {
      const head = requestHead(method, `${path}${QUERY}`, { ...FOREIGN, 'Content-Length': '0' });
      expect(await ask(head), what).toEqual(REFUSED);
    }
  });

  it.each(spelled(uploadPath))(
    'an upload to the upload path with %s does not reach the worker',
    async (_what, path) => {
      for (const method of ['POST', 'PUT']) {
        const head = requestHead(method, path, {
          ...FOREIGN,
          'Reflex-Client-Token': 't',
          'Reflex-Event-Handler': 'a.upload',
          'Content-Length': '0',
        });
        expect(await ask(head)).toEqual(REFUSED);
      }
      const head = upgradeHead(path, FOREIGN);
      expect(await ask(head)).toEqual(REFUSED);
    },
  );

  it.each(['GET', 'HEAD'])('files of uploads and every other path are served to %s', async (method) => {
    for (const path of [
      `${uploadPath}/a/b.png?x=1`,
      `${uploadPath}/an%20image.png`,
      '/',
      '/_events',
      '/a//b',
      '/x_upload/',
    ]) {
      const head = requestHead(method, path, { Connection: 'close' });
      expect(await ask(head)).toEqual([200, [`${method} ${path}`]]);
    }
  });

  it('a WebSocket of another path passes', async () => {
    const head = upgradeHead('/_events/feed');
    expect(await ask(head)).toEqual([101, ['WebSocket /_events/feed']]);
  });
});

const REFUSED = [expect.toSatisfy((status: number) => status === 404 || status === 400), []];

/** Spellings that some server or proxy may take for the path, or for one below it. */
function spelled(path: string): [what: string, path: string][] {
  const [before, name] = [path.slice(0, path.lastIndexOf('_')), path.slice(path.lastIndexOf('_') + 1)];
  return [
    ['a path below', `${path}/x`],
    ['a path far below', `${path}/x/y/`],
    ['two slashes at the end', `${path}//`],
    ['an encoded slash before it', `/%2F${path.slice(1)}/`],
    ['a backslash', `${path}\\`],
    ['an encoded slash', `${path}%2F`],
    ['an encoded slash and one more', `${path}/%2f/`],
    ['an encoded letter', `${before}%5F${name}/`],
    ['a letter that is encoded twice', `${before}%255f${name}/`],
    ['a fragment', `${path}/#x`],
    ['an encoded question mark', `${path}/%3F`],
    ['dot segments', `/x/..${path}/`],
  ];
}

async function statusOf(port: number, head: string): Promise<number> {
  const socket = connect(port, '127.0.0.1');
  socket.write(head);
  const [chunk] = (await once(socket, 'data')) as [Buffer];
  socket.destroy();
  return Number(chunk.toString('latin1').split(' ')[1]);
}
