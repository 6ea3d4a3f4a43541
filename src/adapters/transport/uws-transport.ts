import type {
  SendResult,
  ServerTransport,
  TransportHandler,
  TransportOptions,
  UpgradeRequest,
  WebSocketConnection,
  WebSocketSink,
} from '../../ports/transport.ts';
import type { UwsModule, UwsRequest, UwsResponse, UwsWebSocket } from './uws-api.ts';
import { uwsExchange, uwsHead, writeHead } from './uws-exchange.ts';

interface UserData {
  readonly connection: UwsConnection;
}

const NO_CODE = 1005;
const LOST = 1006;
/** Sending is bounded above, by the session's queue: here nothing is dropped. Bytes. */
const MAX_BACKPRESSURE = 512 * 1024 * 1024;

/**
 * HTTP and WebSocket by uWebSockets.js, where it is installed (`transport: uws`). Written from its documentation; the conformance
 * suite runs it wherever the package can be found. It cannot pause a WebSocket: there a client is not held back by TCP, and a full
 * queue refuses instead.
 */
export function uwsTransport(uws: UwsModule, options: TransportOptions): ServerTransport {
  const app = uws.App();
  let listener: object | undefined;
  return {
    listen({ host, port }, handler) {
      app.ws<UserData>('/*', {
        compression: options.compression === undefined ? uws.DISABLED : uws.SHARED_COMPRESSOR,
        maxPayloadLength: options.maxMessageBytes,
        maxBackpressure: MAX_BACKPRESSURE,
        // Engine.IO has heartbeats of its own.
        idleTimeout: 0,
        sendPingsAutomatically: false,
        upgrade: (response, request, context) => handler.upgrade(uwsUpgrade(response, request, context, options)),
        open: (socket) => socket.getUserData().connection.opened(socket),
        message: (socket, message, isBinary) => socket.getUserData().connection.message(message, isBinary),
        drain: (socket) => socket.getUserData().connection.drained(),
        close: (socket, code) => socket.getUserData().connection.closed(code),
      });
      app.any('/*', (response, request) => answer(handler, response, request));
      return new Promise((resolve, reject) => {
        app.listen(host, port, (socket) => {
          if (socket === false) return reject(new Error(`${host}:${port} cannot be opened`));
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

function answer(handler: TransportHandler, response: UwsResponse, request: UwsRequest): void {
  const exchange = uwsExchange(uwsHead(response, request), response);
  const { target } = exchange.head;
  if (target.startsWith('/') && !target.startsWith('//') && !target.startsWith('/\\')) handler.request(exchange);
  else exchange.respond(400, {}, 'The request target must begin with one slash.');
}

function uwsUpgrade(
  response: UwsResponse,
  request: UwsRequest,
  context: object,
  options: TransportOptions,
): UpgradeRequest {
  const head = uwsHead(response, request);
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
      if (aborted) return;
      response.cork(() => {
        writeHead(response, status, headers);
        response.end(body, true);
      });
    },
    accept({ protocol, sink }) {
      if (aborted) return undefined;
      const connection = new UwsConnection(sink, options.compression?.threshold);
      response.cork(() => response.upgrade({ connection }, key, protocol ?? '', extensions, context));
      return connection;
    },
  };
}

class UwsConnection implements WebSocketConnection {
  readonly #sink: WebSocketSink;
  /** Messages of so many bytes are compressed; undefined: none. */
  readonly #threshold: number | undefined;
  #socket: UwsWebSocket<UserData> | undefined;
  #closing = false;

  constructor(sink: WebSocketSink, threshold: number | undefined) {
    this.#sink = sink;
    this.#threshold = threshold;
  }

  get bufferedBytes(): number {
    return this.#socket?.getBufferedAmount() ?? 0;
  }

  send(data: string | Buffer, binary: boolean): SendResult {
    if (this.#socket === undefined || this.#closing) return 'dropped';
    const compress = this.#threshold !== undefined && data.length >= this.#threshold;
    const result = this.#socket.send(data, binary, compress);
    if (result === 2) return 'dropped';
    return result === 1 ? 'flushed' : 'queued';
  }

  pause(): boolean {
    return false;
  }

  resume(): void {
    // Nothing was paused.
  }

  close(code: number, reason: string): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#socket?.end(code, reason);
  }

  terminate(): void {
    this.#closing = true;
    this.#socket?.close();
  }

  opened(socket: UwsWebSocket<UserData>): void {
    this.#socket = socket;
  }

  message(data: ArrayBuffer, binary: boolean): void {
    if (!this.#closing) this.#sink.message(Buffer.from(data), binary);
  }

  drained(): void {
    if (this.bufferedBytes === 0) this.#sink.drained();
  }

  /** The socket must not be touched from here on. */
  closed(code: number): void {
    this.#socket = undefined;
    this.#closing = true;
    const clean = code !== LOST && code !== 0;
    this.#sink.closed(code === 0 ? NO_CODE : code, clean);
  }
}
