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

/** Writes status and headers; content-length is uWebSockets.js's own affair. */
export function writeHead(response: UwsResponse, status: number, headers: Headers): void {
  response.writeStatus(`${status} ${STATUS_CODES[status] ?? ''}`);
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || name === 'content-length' || name === 'connection') continue;
    for (const one of typeof value === 'string' ? [value] : value) response.writeHeader(name, one);
  }
}

/** One request of uWebSockets.js. After an abort the response must not be touched. */
export function uwsExchange(head: RequestHead, response: UwsResponse): HttpExchange {
  const onAbort: (() => void)[] = [];
  let over = false;
  const body = new Readable({ read: () => (over ? undefined : response.resume()) });
  body.on('error', () => undefined);
  response.onAborted(() => {
    over = true;
    body.destroy(new Error('the client has gone'));
    for (const callback of onAbort) callback();
  });
  response.onData((chunk, isLast) => {
    // The memory is taken back after this call.
    const more = chunk.byteLength === 0 || body.push(Buffer.from(Buffer.from(chunk)));
    if (isLast) body.push(null);
    else if (!more && !over) response.pause();
  });
  return {
    head,
    body,
    respond(status, headers, content) {
      if (over) return;
      over = true;
      response.cork(() => {
        writeHead(response, status, headers);
        response.end(head.method === 'HEAD' ? undefined : content);
      });
    },
    stream(status, headers) {
      response.cork(() => writeHead(response, status, headers));
      return new Writable({
        write(chunk: Buffer, _encoding, done) {
          if (over) return done(new Error('the client has gone'));
          let taken = true;
          response.cork(() => {
            taken = response.write(chunk);
          });
          if (taken) return done();
          response.onWritable(() => {
            done();
            return true;
          });
        },
        final(done) {
          if (!over) response.cork(() => void response.end());
          over = true;
          done();
        },
        destroy(error, done) {
          if (!over && error !== null) response.close();
          over = true;
          done(error);
        },
      });
    },
    onAbort: (callback) => void onAbort.push(callback),
  };
}
