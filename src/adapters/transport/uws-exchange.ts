import { STATUS_CODES } from 'node:http';
import { Readable, Writable } from 'node:stream';
import type { Headers, HttpExchange, RequestHead } from '../../ports/transport.ts';
import type { UwsRequest, UwsResponse } from './uws-api.ts';

/** Everything of a request that is needed: the request object is void after the first await. */
export function uwsHead(response: UwsResponse, request: UwsRequest): RequestHead {
  const headers: Record<string, string | string[]> = {};
  request.forEach((name, value) => {
    const before = headers[name];
    headers[name] = before === undefined ? value : [before, value].flat();
  });
  const query = request.getQuery();
  return {
    method: request.getMethod().toUpperCase(),
    target: query ? `${request.getUrl()}?${query}` : request.getUrl(),
    headers,
    peer: Buffer.from(response.getRemoteAddressAsText()).toString(),
    encrypted: false,
  };
}

/** Framing is uWebSockets.js's own affair. */
const OWN_HEADERS = new Set(['content-length', 'transfer-encoding', 'connection']);

/** Writes status and headers. */
export function writeHead(response: UwsResponse, status: number, headers: Headers): void {
  response.writeStatus(`${status} ${STATUS_CODES[status] ?? ''}`);
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || OWN_HEADERS.has(name)) continue;
    for (const one of typeof value === 'string' ? [value] : value) {
      // As bytes: releases differ in how they encode a string.
      response.writeHeader(name, Buffer.from(one, 'latin1'));
    }
  }
}

/** One request of uWebSockets.js. Once the answer is complete or the peer has gone, `response` must not be touched. */
export function uwsExchange(head: RequestHead, response: UwsResponse): HttpExchange {
  const onAbort: (() => void)[] = [];
  let over = false;
  let gone = false;
  let paused = false;
  let answer: Writable | undefined;
  const resume = (): void => {
    if (over || !paused) return;
    paused = false;
    response.resume();
  };
  const body = new Readable({ read: resume });
  body.on('error', () => undefined);
  response.onAborted(() => {
    over = gone = true;
    const error = new Error('the client has gone');
    body.destroy(error);
    answer?.destroy(error);
    for (const callback of onAbort.splice(0)) callback();
  });
  response.onData((chunk, isLast) => {
    // What is left of a body after its answer is read away.
    if (over || body.destroyed) return;
    // A copy: the memory is taken back after this call.
    const more = chunk.byteLength === 0 || body.push(Buffer.from(new Uint8Array(chunk)));
    if (isLast) body.push(null);
    else if (!more && !paused) {
      paused = true;
      response.pause();
    }
  });
  return {
    head,
    body,
    respond(status, headers, content) {
      if (over) return;
      resume();
      over = true;
      const closes = headers['connection'] === 'close' && body.readableEnded;
      response.cork(() => {
        writeHead(response, status, headers);
        const bytes = typeof content === 'string' ? Buffer.from(content) : content;
        if (status === 204 || status === 304) response.endWithoutBody(undefined, closes);
        else if (head.method === 'HEAD') response.endWithoutBody(bytes?.length ?? 0, closes);
        else response.end(bytes, closes);
      });
    },
    stream(status, headers) {
      response.cork(() => writeHead(response, status, headers));
      const end = (): void => {
        if (over) return;
        over = true;
        const length = headers['content-length'];
        const isBodiless = head.method === 'HEAD' || status === 204 || status === 304;
        response.cork(() => {
          if (isBodiless) response.endWithoutBody(typeof length === 'string' ? Number(length) : undefined, false);
          else response.end();
        });
      };
      answer = uwsBody(response, () => over, end);
      answer.once('close', () => (over = true));
      return answer;
    },
    onAbort(callback) {
      // Who asks late must hear it, too: the peer may have gone while the user was looked up.
      if (gone) queueMicrotask(callback);
      else onAbort.push(callback);
    },
  };
}

/** The body of an answer that is written piece by piece. */
function uwsBody(response: UwsResponse, isOver: () => boolean, end: () => void): Writable {
  const body = new Writable({
    write(chunk: Buffer, _encoding, done) {
      if (isOver()) return done(new Error('the client has gone'));
      // An empty piece would end the body.
      if (chunk.length === 0) return done();
      let taken = true;
      response.cork(() => {
        taken = response.write(chunk);
      });
      if (taken) return done();
      response.onWritable(() => {
        // Later: what is written while uWebSockets.js tells of this may stay there for good.
        setImmediate(done);
        return true;
      });
    },
    final(done) {
      end();
      done();
    },
    destroy(error, done) {
      if (!isOver()) response.close();
      done(error);
    },
  });
  body.on('error', () => undefined);
  return body;
}
