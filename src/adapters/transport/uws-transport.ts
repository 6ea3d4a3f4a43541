import { createServer } from 'node:net';
import type {
  ServerTransport,
  TransportHandler,
  TransportOptions,
  UpgradeRequest,
  Headers,
  RequestHead,
} from '../../ports/transport.ts';
import { isHandshake, requestFault } from './request-fault.ts';
import { BEGINS_PER_TURN, Turnstile } from './turnstile.ts';
import type { UwsModule, UwsRequest, UwsResponse } from './uws-api.ts';
import { MAX_BACKPRESSURE, UwsConnection, type UserData } from './uws-connection.ts';
import { uwsExchange, uwsHead, writeHead } from './uws-exchange.ts';

/**
 * HTTP and WebSocket by uWebSockets.js, where it is installed (`transport: uws` or `auto`). It cannot pause a WebSocket: there a client is
 * not held back by TCP, and a full queue refuses instead. What else it leaves undone, the conformance suite names.
 */
export function uwsTransport(uws: UwsModule, options: TransportOptions): ServerTransport {
  const app = uws.App();
  let listener: object | undefined;
  const turnstile = new Turnstile(BEGINS_PER_TURN);
  return {
    listen({ host, port }, handler) {
      app.ws<UserData>('/*', {
        compression: options.compression === undefined ? uws.DISABLED : uws.SHARED_COMPRESSOR,
        maxPayloadLength: options.maxMessageBytes,
        maxBackpressure: MAX_BACKPRESSURE,
        // Engine.IO has heartbeats of its own.
        idleTimeout: 0,
        sendPingsAutomatically: false,
        upgrade: (response, request, context) => {
          const handshake = upgrade(options, response, request, context);
          if (handshake !== undefined) turnstile.pass(() => handler.upgrade(handshake));
        },
        open: (socket) => socket.getUserData().connection.opened(socket),
        message: (socket, message, isBinary) => socket.getUserData().connection.message(message, isBinary),
        drain: (socket) => socket.getUserData().connection.drained(),
        close: (socket, code) => socket.getUserData().connection.closed(code),
      });
      app.any('/*', (response, request) => answer(handler, response, request));
      return new Promise((resolve, reject) => {
        // Without it a second sidecar would share the port unnoticed.
        app.listen(host, port, uws.LIBUS_LISTEN_EXCLUSIVE_PORT, (socket) => {
          if (socket === false) return void listenError(host, port).then(reject);
          listener = socket;
          resolve({ port: uws.us_socket_local_port(socket) });
        });
      });
    },
    stopListening() {
      if (listener !== undefined) uws.us_listen_socket_close(listener);
      listener = undefined;
    },
    close() {
      app.close();
      return Promise.resolve();
    },
  };
}

/** uWebSockets.js does not say why: Node, asked for the same address, does. */
function listenError(host: string, port: number): Promise<Error> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    server.listen({ host, port, exclusive: true }, () => {
      server.close(() => resolve(new Error(`${host}:${port} cannot be opened`)));
    });
  });
}

function answer(handler: TransportHandler, response: UwsResponse, request: UwsRequest): void {
  const exchange = uwsExchange(uwsHead(response, request), response);
  const fault = requestFault(exchange.head);
  if (fault === undefined) handler.request(exchange);
  else refuse(response, 400, {}, fault);
}

function refuse(response: UwsResponse, status: number, headers: Headers, body: string): void {
  response.cork(() => {
    writeHead(response, status, headers);
    response.end(Buffer.from(body), true);
  });
}

/** The request is read now: it does not outlive the call. undefined: it was refused. */
function upgrade(
  options: TransportOptions,
  response: UwsResponse,
  request: UwsRequest,
  context: object,
): UpgradeRequest | undefined {
  const head = uwsHead(response, request);
  const fault = requestFault(head) ?? (isHandshake(head) ? undefined : 'The handshake is not that of RFC 6455.');
  if (fault === undefined) return uwsUpgrade(head, response, request, context, options);
  refuse(response, 400, {}, fault);
  return undefined;
}

function uwsUpgrade(
  head: RequestHead,
  response: UwsResponse,
  request: UwsRequest,
  context: object,
  options: TransportOptions,
): UpgradeRequest {
  const key = request.getHeader('sec-websocket-key');
  const extensions = options.compression === undefined ? '' : request.getHeader('sec-websocket-extensions');
  const offered = request.getHeader('sec-websocket-protocol');
  let aborted = false;
  response.onAborted(() => {
    aborted = true;
  });
  return {
    head,
    protocols: offered === '' ? [] : offered.split(',').map((protocol) => protocol.trim()),
    refuse(status, headers, body) {
      if (!aborted) refuse(response, status, headers, body);
    },
    accept({ protocol, sink }) {
      if (aborted) return undefined;
      const connection = new UwsConnection(sink, options.compression?.threshold);
      response.cork(() => response.upgrade({ connection }, key, protocol ?? '', extensions, context));
      return connection;
    },
  };
}
