import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server, type Namespace } from 'socket.io';
import { NAMESPACES, type ForeignServer } from './foreign.ts';

/** A socket.io server that knows nothing of Reflex; python/foreign_server.py says the same in Python. */
export async function startNodeServer(options: { port?: number } = {}): Promise<ForeignServer> {
  const left: string[] = [];
  const http = createServer();
  const io = new Server(http, { path: '/_event', serveClient: false });
  for (const name of NAMESPACES) serve(io.of(name), left);
  await new Promise<void>((resolve) => void http.listen(options.port ?? 0, '127.0.0.1', resolve));
  const { port } = http.address() as AddressInfo;
  return {
    kind: 'socket.io',
    url: `http://127.0.0.1:${port}`,
    port,
    left: () => Promise.resolve(left),
    stop: async () => {
      http.closeAllConnections();
      await io.close();
    },
  };
}

function serve(namespace: Namespace, left: string[]): void {
  if (namespace.name === '/locked') {
    namespace.use((_socket, next) => next(Object.assign(new Error('no entry'), { data: { code: 7 } })));
  }
  namespace.on('connection', (socket) => {
    socket.emit('welcome', { auth: socket.handshake.auth, headers: socket.handshake.headers });
    socket.on('echo', (...values: unknown[]) => {
      // The last is there only for a client that asks for an acknowledgement.
      const reply = typeof values.at(-1) === 'function' ? (values.pop() as (...values: unknown[]) => void) : undefined;
      socket.emit('echoed', ...values);
      reply?.(...values);
    });
    socket.on('reverse', (data: Buffer, reply?: (data: Buffer) => void) => {
      const turned = Buffer.from(data.toReversed());
      socket.emit('reversed', { nested: [turned, 1, data] });
      reply?.(turned);
    });
    socket.on('count', (number: number) => void socket.emit('counted', number));
    socket.on('ask', (question: unknown) => {
      socket.emit('question', question, (answer: unknown) => void socket.emit('answered', answer));
    });
    socket.on('length', (text: string, reply?: (length: number) => void) => reply?.(Array.from(text).length));
    socket.on('kick', () => void socket.disconnect());
    socket.on('disconnect', () => void left.push(namespace.name));
  });
}
