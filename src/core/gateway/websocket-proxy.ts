import type { Logger } from '../../ports/logger.ts';
import type { Headers, SendResult, UpgradeRequest, WebSocketConnection, WebSocketSink } from '../../ports/transport.ts';
import type { Upstream } from '../../ports/upstream.ts';
import { CloseCode } from '../../protocol/close-code.ts';
import { channelHeaders, clientAddress, upstreamHeaders, type TrustsProxy } from '../http/forwarded.ts';
import { refuseUpgrade } from '../http/respond.ts';
import type { Failure } from './http-proxy.ts';

/** One side of a passed-through WebSocket: what comes in goes out on the other. */
class Side implements WebSocketSink {
  connection: WebSocketConnection | undefined;
  other: Side | undefined;
  /** What came before the other side was open: the client may speak at once. */
  #early: { readonly data: Buffer; readonly binary: boolean }[] = [];
  #over = false;

  message(data: Buffer, binary: boolean): void {
    const target = this.other?.connection;
    if (target === undefined) {
      this.#early.push({ data: Buffer.from(data), binary });
      this.connection?.pause();
      return;
    }
    const result: SendResult = target.send(data, binary);
    if (result === 'queued') this.connection?.pause();
  }

  drained(): void {
    this.other?.connection?.resume();
  }

  closed(code: number, clean: boolean): void {
    this.#over = true;
    // 1005 and 1006 stand for codes that were never sent, so they cannot be passed on.
    const sendable = clean && code !== 1005 && code !== 1006 ? code : CloseCode.normal;
    if (clean) this.other?.connection?.close(sendable, '');
    else this.other?.connection?.terminate();
  }

  /** The other side is open now. */
  begin(): void {
    for (const { data, binary } of this.#early.splice(0)) this.other?.connection?.send(data, binary);
    this.connection?.resume();
    if (this.#over) this.other?.connection?.close(CloseCode.normal, '');
  }
}

const CONNECT_TIMEOUT = 5_000;
const REFUSED: Failure = {
  status: 502,
  code: 'upstream_unavailable',
  message: 'The application does not accept this WebSocket.',
};

export interface WebSocketProxyParts {
  readonly trusts: TrustsProxy;
  readonly logger: Logger;
  /** Added to what the client sent. */
  readonly headers?: Headers;
  /** The answer where it is not accepted. Default: 502. */
  readonly failure?: Failure;
}

/** Passes a WebSocket on as it is: of any other path to the worker (`proxyOther`), or to the sidecar that has its session. */
export async function proxyWebSocket(
  request: UpgradeRequest,
  upstream: Upstream,
  parts: WebSocketProxyParts,
): Promise<void> {
  const { head, protocols } = request;
  const address = clientAddress(head, parts.trusts);
  const headers = { ...channelHeaders(upstreamHeaders(head, address, parts.trusts)), ...parts.headers };
  const client = new Side();
  const worker = new Side();
  try {
    const signal = AbortSignal.timeout(CONNECT_TIMEOUT);
    const { connection, protocol } = await upstream.connect(
      { target: head.target, headers, protocols },
      worker,
      signal,
    );
    worker.connection = connection;
    client.other = worker;
    worker.other = client;
    client.connection = request.accept({ protocol, sink: client });
    if (client.connection === undefined) connection.terminate();
    else worker.begin();
  } catch {
    parts.logger.warn({ backend: upstream.url }, 'a WebSocket could not be passed to the backend');
    const { status, code, message } = parts.failure ?? REFUSED;
    refuseUpgrade(request, status, code, message);
  }
}
