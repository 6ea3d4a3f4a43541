import type { Readable, Writable } from 'node:stream';

/** What became of a send: `flushed` to the kernel, `queued` in this process, `dropped` since the peer is gone. */
export type SendResult = 'flushed' | 'queued' | 'dropped';

/** Header names in lower case. Several values of one header are a list, as the peer sent them. */
export type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

/** An HTTP request before its body. */
export interface RequestHead {
  readonly method: string;
  /** The request target as sent. Adapters MUST have refused what is not in origin form (RFC 9112, section 3.2.1). */
  readonly target: string;
  readonly headers: Headers;
  /** The peer's address, not what a header claims. */
  readonly peer: string;
  readonly encrypted: boolean;
}

/** One HTTP request and its response. */
export interface HttpExchange {
  readonly head: RequestHead;
  /** The request's body. Not reading it MUST hold the peer back. */
  readonly body: Readable;
  /** Sends a whole response. The rest of an unread body is discarded. */
  respond(status: number, headers: Headers, body?: string | Buffer): void;
  /** Begins a response whose body is written piece by piece; each piece MUST leave at once. */
  stream(status: number, headers: Headers): Writable;
  /** Called once if the peer goes away before the response is complete. */
  onAbort(callback: () => void): void;
}

/** An open WebSocket, either way round. */
export interface WebSocketConnection {
  /** Bytes handed over and not yet written to the kernel. */
  readonly bufferedBytes: number;
  send(data: string | Buffer, binary: boolean): SendResult;
  /** Stops reading from the peer (also its pongs), so that TCP holds it back. Adapters that cannot MUST return false. */
  pause(): boolean;
  resume(): void;
  /** Closes with the handshake of RFC 6455, section 7; ends the connection if the peer does not answer within seconds. */
  close(code: number, reason: string): void;
  /** Ends the connection at once. */
  terminate(): void;
}

/** What happens on a WebSocket. No call comes after `closed`, which comes exactly once. */
export interface WebSocketSink {
  /** `data` is the adapter's buffer: copy what outlives the call. */
  message(data: Buffer, binary: boolean): void;
  /** Everything that was queued has been handed to the kernel. */
  drained(): void;
  /** `clean`: both sides closed in order; otherwise the connection was lost or broken, with a code of 1005 to 1009. */
  closed(code: number, clean: boolean): void;
}

/** A request to speak WebSocket, to be answered by exactly one of both calls. */
export interface UpgradeRequest {
  readonly head: RequestHead;
  /** Subprotocols the client offers, in its order. */
  readonly protocols: readonly string[];
  refuse(status: number, headers: Headers, body: string): void;
  /** Completes the handshake; undefined where the peer has gone meanwhile. */
  accept(options: AcceptOptions): WebSocketConnection | undefined;
}

export interface AcceptOptions {
  readonly protocol: string | undefined;
  readonly sink: WebSocketSink;
}

/** Where requests go. Handlers MUST answer every request, and must not throw. */
export interface TransportHandler {
  request(exchange: HttpExchange): void;
  upgrade(request: UpgradeRequest): void;
}

export interface TransportOptions {
  /** Largest WebSocket message in bytes; a longer one closes with 1009. */
  readonly maxMessageBytes: number;
  /** permessage-deflate for messages of at least `threshold` bytes, without context takeover; undefined: off. */
  readonly compression: { readonly threshold: number } | undefined;
}

/**
 * A server that terminates HTTP and WebSocket.
 *
 * Any implementation MUST echo nothing on its own, MUST refuse requests whose framing is ambiguous, MUST keep order, and
 * MUST report backpressure truly.
 */
export interface ServerTransport {
  /** Resolves with the bound port; rejects with the system's error. */
  listen(
    address: { readonly host: string; readonly port: number },
    handler: TransportHandler,
  ): Promise<{ port: number }>;
  /** Accepts no more connections; open ones stay. */
  stopListening(): void;
  /** Ends whatever is still open. */
  close(): Promise<void>;
}
