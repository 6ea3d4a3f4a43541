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
      const all = { ...outgoingHeaders(headers), ...(hasBody ? { 'content-length': length } : {}) };
      // With it, Node would close the socket at once, and what the client still sends would reset it before it has read.
      if (!incoming.complete) delete all['connection'];
      outgoing.writeHead(status, all);
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

/**
 * How long an unread body is read away, so that the client gets its answer before a reset. Milliseconds: counted in bytes, a
 * fast client would be reset while the answer still waits to be read.
 */
const LINGER = 5_000;

function discard(incoming: IncomingMessage, outgoing: ServerResponse): void {
  if (incoming.complete) return;
  const timer = setTimeout(() => incoming.destroy(), LINGER);
  incoming.on('error', () => undefined);
  incoming.once('close', () => clearTimeout(timer));
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
