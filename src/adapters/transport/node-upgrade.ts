import { STATUS_CODES, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { WebSocketServer } from 'ws';
import type { Headers, RequestHead, UpgradeRequest } from '../../ports/transport.ts';
import { WsConnection } from '../shared/ws-connection.ts';
import { handshakeAnswer, PlainConnection } from './plain-connection.ts';

export interface NodeUpgradeParts {
  readonly head: RequestHead;
  readonly incoming: IncomingMessage;
  readonly socket: Duplex;
  readonly rest: Buffer;
  readonly options: WebSocketParts;
}

export interface WebSocketParts {
  readonly maxMessageBytes: number;
  /** Negotiates permessage-deflate; undefined: no extensions. */
  readonly compressing: WebSocketServer | undefined;
}

/** A refused client gets this long to read why. Milliseconds. */
const REFUSAL_LINGER = 2_000;
/** An upgrade request of `node:http`. */
export function nodeUpgrade({ head, incoming, socket, rest, options }: NodeUpgradeParts): UpgradeRequest {
  const offered = incoming.headers['sec-websocket-protocol'];
  return {
    head,
    protocols: offered === undefined ? [] : offered.split(',').map((protocol) => protocol.trim()),
    refuse(status, headers, body) {
      const all: Headers = { ...headers, connection: 'close', 'content-length': `${Buffer.byteLength(body)}` };
      const text = Object.entries(all)
        .map(([name, value]) => `${name}: ${typeof value === 'object' ? value.join(', ') : value}`)
        .join('\r\n');
      socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${text}\r\n\r\n${body}`);
      setTimeout(() => socket.destroy(), REFUSAL_LINGER).unref();
    },
    accept({ protocol, sink }) {
      if (socket.destroyed) return undefined;
      const { maxMessageBytes, compressing } = options;
      if (compressing === undefined) {
        const answer = handshakeAnswer(incoming.headers['sec-websocket-key'] ?? '', protocol);
        return new PlainConnection(socket, { answer, rest }, sink, maxMessageBytes);
      }
      // `ws` picks the first protocol offered: leave it the one that was chosen.
      if (protocol === undefined) delete incoming.headers['sec-websocket-protocol'];
      else incoming.headers['sec-websocket-protocol'] = protocol;
      let connection: WsConnection | undefined;
      compressing.handleUpgrade(incoming, socket, rest, (webSocket) => {
        connection = new WsConnection(webSocket, socket, sink, false);
      });
      return connection;
    },
  };
}
