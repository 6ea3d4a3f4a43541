import type { Duplex } from 'node:stream';
import { WebSocket, type ClientOptions } from 'ws';
import type { WebSocketSink } from '../../ports/transport.ts';
import type { ChannelRequest, ConnectedWebSocket } from '../../ports/upstream.ts';
import { WsConnection } from '../shared/ws-connection.ts';

/** A close handshake that is not answered ends with the connection. Milliseconds. */
const CLOSE_TIMEOUT = 5_000;

function workerSocketOptions(request: ChannelRequest): ClientOptions & { closeTimeout: number } {
  return {
    headers: singleHeaders(request),
    perMessageDeflate: false,
    followRedirects: false,
    // The worker's text is JSON that it made itself, and is handed on as bytes: the client checks it.
    skipUTF8Validation: true,
    maxPayload: 0,
    // The connection does, within bounds.
    autoPong: false,
    closeTimeout: CLOSE_TIMEOUT,
  };
}

/** One line for each header. */
export function singleHeaders({ headers }: ChannelRequest): Record<string, string> {
  const copy: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined)
      copy[name] = typeof value === 'string' ? value : value.join(name === 'cookie' ? '; ' : ', ');
  }
  return copy;
}

/** Opens a plain WebSocket to a worker, for paths that are passed through as they are. */
export function connectWebSocket(
  url: string,
  request: ChannelRequest,
  sink: WebSocketSink,
  signal: AbortSignal,
): Promise<ConnectedWebSocket> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const socket = new WebSocket(url, [...request.protocols], workerSocketOptions(request));
    let raw: Duplex | undefined;
    const abort = (): void => socket.terminate();
    signal.addEventListener('abort', abort, { once: true });
    socket.once('upgrade', (answer) => {
      raw = answer.socket;
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the worker closed before the handshake was complete')));
    socket.once('open', () => {
      signal.removeEventListener('abort', abort);
      socket.removeAllListeners('close');
      if (raw === undefined) return;
      const connection = new WsConnection(socket, raw, sink, true);
      resolve({ connection, protocol: socket.protocol === '' ? undefined : socket.protocol });
    });
  });
}
