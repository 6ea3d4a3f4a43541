import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Headers, HttpExchange, RequestHead } from '../../ports/transport.ts';

/** One request of `node:http`. */
export function nodeExchange(head: RequestHead, incoming: IncomingMessage, outgoing: ServerResponse): HttpExchange {
  return {
    head,
    body: incoming,
    respond(status, headers, body) {
      if (outgoing.headersSent || outgoing.destroyed) return;
      const length = body === undefined ? 0 : Buffer.byteLength(body);
      const hasBody = status !== 204 && status !== 304;
      outgoing.writeHead(status, { ...outgoingHeaders(headers), ...(hasBody ? { 'content-length': length } : {}) });
      outgoing.end(head.method === 'HEAD' || !hasBody ? undefined : body);
      discard(incoming, outgoing);
    },
    stream(status, headers) {
      outgoing.writeHead(status, outgoingHeaders(headers));
      outgoing.flushHeaders();
      return outgoing;
    },
    onAbort(callback) {
      const tell = (): void => {
        if (!outgoing.writableFinished) callback();
      };
      // Who asks late must hear it, too: the peer may have gone while the user was looked up.
      if (outgoing.destroyed) queueMicrotask(tell);
      else outgoing.once('close', tell);
    },
  };
}

/** How much of an unread body is read away so that the client gets its answer before a reset. Bytes. */
const DISCARD_LIMIT = 1024 * 1024;

function discard(incoming: IncomingMessage, outgoing: ServerResponse): void {
  if (incoming.complete) return;
  let size = 0;
  incoming.on('error', () => undefined);
  incoming.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size > DISCARD_LIMIT) incoming.destroy();
  });
  incoming.resume();
  outgoing.once('finish', () => {
    if (!incoming.complete) outgoing.socket?.end();
  });
}

function outgoingHeaders(headers: Headers): OutgoingHttpHeaders {
  const copy: OutgoingHttpHeaders = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) copy[name] = typeof value === 'string' ? value : [...value];
  }
  return copy;
}
