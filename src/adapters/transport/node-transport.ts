import { createServer, STATUS_CODES, type IncomingMessage, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer, type ServerOptions } from 'ws';
import type {
  Headers,
  RequestHead,
  ServerTransport,
  TransportHandler,
  TransportOptions,
} from '../../ports/transport.ts';
import { nodeExchange } from './node-exchange.ts';
import { nodeUpgrade, type WebSocketParts } from './node-upgrade.ts';
import { isHandshake, requestFault } from './request-fault.ts';
import { BEGINS_PER_TURN, Turnstile } from './turnstile.ts';

/** A client that sends its request's head slower than this is closed; bodies have limits of their own. Milliseconds. */
const HEADERS_TIMEOUT = 15_000;
/** A close handshake that is not answered ends with the connection. Milliseconds. */
const CLOSE_TIMEOUT = 5_000;
/** Cookies of several apps on one host fit, floods do not. Bytes. */
const MAX_HEADER_BYTES = 64 * 1024;

/** HTTP by Node; WebSockets are read here, and by `ws` where they may be compressed. */
export function nodeTransport(options: TransportOptions): ServerTransport {
  const { maxMessageBytes, compression } = options;
  const compressing = compression === undefined ? undefined : new WebSocketServer(webSocketOptions(options));
  const webSockets: WebSocketParts = { maxMessageBytes, compressing };
  const server = createServer({
    headersTimeout: HEADERS_TIMEOUT,
    // Uploads take as long as they take, and watch their own progress.
    requestTimeout: 0,
    keepAliveTimeout: 65_000,
    maxHeaderSize: MAX_HEADER_BYTES,
    insecureHTTPParser: false,
    noDelay: true,
  });
  const sockets = new Set<Duplex>();
  const turnstile = new Turnstile(BEGINS_PER_TURN);
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('clientError', answerBrokenRequest);

  return {
    listen: ({ host, port }, handler) => {
      server.on('request', (incoming, outgoing) => {
        const head = requestHead(incoming);
        const fault = requestFault(head);
        if (fault === undefined) handler.request(nodeExchange(head, incoming, outgoing));
        else outgoing.writeHead(400, { connection: 'close' }).end(fault);
      });
      server.on('upgrade', (incoming: IncomingMessage, socket: Duplex, rest: Buffer) => {
        // Until its connection or the refusal has taken it over, nobody else listens for the socket's errors.
        socket.on('error', () => socket.destroy());
        turnstile.pass(() => upgrade(handler, webSockets, incoming, socket, rest));
      });
      return listening(server, host, port);
    },
    stopListening: () => {
      server.close();
      server.closeIdleConnections();
    },
    close: () => closed(server, sockets),
  };
}

function webSocketOptions({
  maxMessageBytes,
  compression,
}: TransportOptions): ServerOptions & { closeTimeout: number } {
  return {
    noServer: true,
    clientTracking: false,
    closeTimeout: CLOSE_TIMEOUT,
    maxPayload: maxMessageBytes,
    // The connection does, within bounds.
    autoPong: false,
    // Subprotocols are chosen by the handler, which has put its choice there.
    handleProtocols: (protocols) => [...protocols][0] ?? false,
    perMessageDeflate: compression !== undefined && {
      threshold: compression.threshold,
      serverNoContextTakeover: true,
      clientNoContextTakeover: true,
      concurrencyLimit: 4,
    },
  };
}

function upgrade(
  handler: TransportHandler,
  options: WebSocketParts,
  incoming: IncomingMessage,
  socket: Duplex,
  rest: Buffer,
): void {
  if (socket.destroyed) return;
  const head = requestHead(incoming);
  if (requestFault(head) !== undefined || !isHandshake(head)) {
    socket.end(`HTTP/1.1 400 ${STATUS_CODES[400]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    return;
  }
  handler.upgrade(nodeUpgrade({ head, incoming, socket, rest, options }));
}

function requestHead(incoming: IncomingMessage): RequestHead {
  const { socket } = incoming;
  const headers: Record<string, string | readonly string[]> = {};
  for (const [name, values] of Object.entries(incoming.headersDistinct)) {
    if (values !== undefined) headers[name] = values.length === 1 ? (values[0] as string) : values;
  }
  return {
    method: incoming.method ?? 'GET',
    target: incoming.url ?? '/',
    headers: headers satisfies Headers,
    peer: socket.remoteAddress ?? '',
    encrypted: 'encrypted' in socket,
  };
}

function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const status = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 }[error.code ?? ''] ?? 400;
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

function listening(server: Server, host: string, port: number): Promise<{ port: number }> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: 4_096 }, () => {
      server.removeListener('error', reject);
      const address = server.address();
      resolve({ port: typeof address === 'object' && address !== null ? address.port : port });
    });
  });
}

function closed(server: Server, sockets: ReadonlySet<Duplex>): Promise<void> {
  return new Promise((resolve) => {
    if (server.listening) server.close(() => resolve());
    else resolve();
    for (const socket of sockets) socket.destroy();
  });
}
