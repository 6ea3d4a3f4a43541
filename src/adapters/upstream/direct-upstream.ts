import { Agent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { Agent as TlsAgent, request as httpsRequest } from 'node:https';
import type {
  Channel,
  ChannelRequest,
  ChannelSink,
  ForwardRequest,
  ForwardResponse,
  Upstream,
} from '../../ports/upstream.ts';
import { openDirectChannel } from './direct-channel.ts';
import { connectWebSocket, singleHeaders } from './worker-socket.ts';

export interface DirectUpstreamOptions {
  /** The worker's address, `http` or `https`, with a path prefix if it has one. */
  readonly url: string;
  /** Where it speaks Engine.IO, for example `/_event`. */
  readonly eventPath: string;
  /** How long a request may wait for its connection. Milliseconds; default: as long as whoever sends it. */
  readonly connectTimeout?: number;
}

/** Bytes of a body that may wait for the worker's socket: with less, reading stops and starts at every piece. */
const WRITE_AHEAD = 512 * 1024;

/** An unmodified worker: one WebSocket for each session, and plain HTTP for everything else. */
export function directUpstream({ url, eventPath, connectTimeout }: DirectUpstreamOptions): Upstream {
  const base = new URL(url);
  const secure = base.protocol === 'https:';
  const prefix = base.pathname.replace(/\/$/, '');
  const origin = { protocol: base.protocol, host: base.hostname.replace(/^\[|\]$/g, ''), port: base.port };
  const agentOptions = {
    keepAlive: true,
    maxFreeSockets: 64,
    scheduling: 'lifo',
    writableHighWaterMark: WRITE_AHEAD,
  } as const;
  const agent = secure ? new TlsAgent(agentOptions) : new Agent(agentOptions);
  const webSocketBase = `${secure ? 'wss' : 'ws'}://${base.host}${prefix}`;

  const open = (request: ChannelRequest, sink: ChannelSink, signal: AbortSignal): Promise<Channel> => {
    const { protocols } = request;
    const port = Number(base.port === '' ? (secure ? 443 : 80) : base.port);
    const headers = { host: base.host, ...singleHeaders(request) };
    return openDirectChannel(
      { secure, host: origin.host, port, path: prefix + request.target, headers, protocols },
      sink,
      signal,
    );
  };

  return {
    url: base.origin + prefix,
    open,
    connect: (request, sink, signal) => connectWebSocket(webSocketBase + request.target, request, sink, signal),
    async probe(signal) {
      const target = `${eventPath}/?EIO=4&transport=websocket`;
      const ignore: ChannelSink = { message: () => undefined, drained: () => undefined, ended: () => undefined };
      const channel = await open({ target, headers: {}, protocols: [] }, ignore, signal);
      channel.close();
      return { maxPayload: channel.maxPayload };
    },
    forward(request, signal) {
      return new Promise((resolve, reject) => {
        const send = secure ? httpsRequest : httpRequest;
        const path = prefix + request.target;
        const headers = framed(request);
        const outgoing = send({ ...origin, path, method: request.method, headers, agent, signal, setHost: false });
        outgoing.setNoDelay(true);
        if (connectTimeout !== undefined) boundConnecting(outgoing, connectTimeout);
        // 100-continue and other interim answers are the adapters' own affair on each side.
        outgoing.once('response', (incoming) => resolve(response(incoming)));
        outgoing.once('upgrade', (_incoming, socket) => {
          socket.destroy();
          reject(new Error('the worker switched protocols unasked'));
        });
        outgoing.on('error', reject);
        sendBody(request, outgoing);
      });
    },
    close: () => agent.destroy(),
  };
}

function boundConnecting(outgoing: ClientRequest, milliseconds: number): void {
  outgoing.once('socket', (socket) => {
    if (!socket.connecting) return;
    const timer = setTimeout(() => outgoing.destroy(new Error('no connection in time')), milliseconds);
    outgoing.once('close', () => clearTimeout(timer));
    socket.once('connect', () => clearTimeout(timer));
  });
}

/**
 * Node frames the body of a GET, HEAD, DELETE or OPTIONS only where a header says how. Without one, the body's bytes would
 * be the worker's next request (RFC 9112, section 11.2).
 */
function framed({ headers, body }: ForwardRequest): Record<string, string | string[]> {
  const own = headers as Record<string, string | string[]>;
  const isFramed = body === undefined || headers['content-length'] !== undefined;
  return isFramed ? own : { ...own, 'transfer-encoding': 'chunked' };
}

/**
 * Like a pipe that also gives each piece's memory back once it is written: a body's pieces lie outside of V8's heap, and left to
 * the collector they would cause a full collection every few dozen megabytes.
 */
function sendBody({ body }: ForwardRequest, outgoing: ClientRequest): void {
  if (body === undefined) {
    outgoing.end();
    return;
  }
  body.on('data', (chunk: Buffer) => {
    if (outgoing.destroyed) return;
    const more = outgoing.write(chunk, () => release(chunk));
    if (more) return;
    body.pause();
    outgoing.once('drain', () => body.resume());
  });
  body.once('end', () => outgoing.end());
  // A worker may answer and close before it has read everything: its answer counts, and the rest is read away.
  body.on('error', (cause) => outgoing.destroy(cause));
  outgoing.once('close', () => body.resume());
  body.resume();
}

/** Only a chunk that has its memory for itself: others lie in a pool. */
function release(chunk: Buffer): void {
  const { buffer } = chunk;
  if (buffer instanceof ArrayBuffer && chunk.byteLength === buffer.byteLength) buffer.transfer(0);
}

function response(incoming: IncomingMessage): ForwardResponse {
  return { status: incoming.statusCode ?? 502, headers: joinedHeaders(incoming), body: incoming };
}

/** Every header with all its values; Node's own object drops repeated ones. */
function joinedHeaders(incoming: IncomingMessage): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  for (const [name, values] of Object.entries(incoming.headersDistinct)) {
    if (values !== undefined) headers[name] = values.length === 1 ? (values[0] as string) : values;
  }
  return headers;
}
