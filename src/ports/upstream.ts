import type { Readable } from 'node:stream';
import type { Headers, SendResult, WebSocketConnection, WebSocketSink } from './transport.ts';

/** What a worker sees of the client's handshake. */
export interface ChannelRequest {
  /** Path and query as the client sent them. */
  readonly target: string;
  /** End-to-end headers for the worker, addresses already rewritten. */
  readonly headers: Headers;
  readonly protocols: readonly string[];
}

/** Why a channel ended by itself. `refused`: the worker answered with an HTTP status, or broke the protocol. */
export type ChannelEnd = 'closed' | 'lost' | 'refused';

/** What comes from the worker. No call comes after `ended`, which comes exactly once unless the channel was closed. */
export interface ChannelSink {
  /**
   * A message for the client: the Engine.IO frame as it came, text with its leading `4` or binary without one. The buffer
   * is the adapter's: copy what outlives the call.
   */
  message(frame: Buffer, binary: boolean): void;
  drained(): void;
  ended(reason: ChannelEnd): void;
}

/** One session's lane to a worker: an Engine.IO session of its own there, heartbeats included. */
export interface Channel {
  /** Largest message the worker takes, in code points of a text. */
  readonly maxPayload: number;
  readonly bufferedBytes: number;
  /** Text frames with their leading `4`, binary ones as they are. */
  send(frame: string | Buffer, binary: boolean): SendResult;
  /** Holds the worker back: it is told by TCP. */
  pause(): void;
  resume(): void;
  /** Ends the worker's session in order. Nothing more is delivered. */
  close(): void;
}

/** A Python backend that speaks Engine.IO 4 over WebSocket. */
export interface Upstream {
  readonly url: string;
  /**
   * Opens a channel; rejects when the worker refuses, does not answer or `signal` ends. MUST buffer nothing before it is open.
   */
  open(request: ChannelRequest, sink: ChannelSink, signal: AbortSignal): Promise<Channel>;
  /** Whether the worker completes an Engine.IO handshake, and what it announces. Leaves nothing behind there. */
  probe(signal: AbortSignal): Promise<{ readonly maxPayload: number }>;
  /** Opens a plain WebSocket, whatever is spoken on it; rejects as `open` does. */
  connect(request: ChannelRequest, sink: WebSocketSink, signal: AbortSignal): Promise<ConnectedWebSocket>;
  /**
   * Sends an HTTP request on and resolves with the head of the response, whose body streams. `body` is read as fast as the
   * worker takes it. Rejects if the worker cannot be reached; aborting ends both directions.
   */
  forward(request: ForwardRequest, signal: AbortSignal): Promise<ForwardResponse>;
  /** Closes idle connections. */
  close(): void;
}

export interface ConnectedWebSocket {
  readonly connection: WebSocketConnection;
  /** The subprotocol the worker chose. */
  readonly protocol: string | undefined;
}

export interface ForwardRequest {
  readonly method: string;
  readonly target: string;
  readonly headers: Headers;
  /** undefined: the request has no body. */
  readonly body: Readable | undefined;
}

export interface ForwardResponse {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Readable;
}
