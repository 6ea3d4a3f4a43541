import { pipeline } from 'node:stream/promises';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Headers, HttpExchange } from '../../ports/transport.ts';
import type { ForwardResponse, Upstream } from '../../ports/upstream.ts';
import { clientAddress, responseHeaders, upstreamHeaders, type TrustsProxy } from '../http/forwarded.ts';
import { respondError } from '../http/respond.ts';
import { ByteMeter } from './byte-meter.ts';

export interface ForwardOptions {
  readonly upstream: Upstream;
  /** Added to what the client sent. */
  readonly headers?: Headers;
  /** Largest body in bytes; 0 means none. */
  readonly maxBytes: number;
  /** The answer where nobody answers. Default: 502. */
  readonly failure?: Failure;
}

export interface Failure {
  readonly status: number;
  readonly code: string;
  readonly message: string;
}

export type ForwardResult = 'ok' | 'too_large' | 'aborted' | 'upstream_error';

/** A request's body that stands still for so long is given up. Milliseconds. */
const IDLE_TIMEOUT = 60_000;
/** How long a worker may be silent over a whole request: as long as the edge configurations in proxy/ wait. Milliseconds. */
const ANSWER_TIMEOUT = 3_600_000;

/** Passes HTTP requests to a worker and back, piece by piece, in constant memory. */
export class HttpProxy {
  readonly #trusts: TrustsProxy;
  readonly #clock: Clock;
  readonly #logger: Logger;
  /** Requests under way. */
  active = 0;

  constructor(parts: { trusts: TrustsProxy; clock: Clock; logger: Logger }) {
    this.#trusts = parts.trusts;
    this.#clock = parts.clock;
    this.#logger = parts.logger;
  }

  /** Resolves when the exchange is over, with its result and the bytes of the request's body. */
  async forward(exchange: HttpExchange, options: ForwardOptions): Promise<{ result: ForwardResult; bytes: number }> {
    const { head } = exchange;
    const { maxBytes } = options;
    if (maxBytes > 0 && Number(head.headers['content-length'] ?? 0) > maxBytes) {
      respondTooLarge(exchange, maxBytes);
      return { result: 'too_large', bytes: 0 };
    }
    this.active++;
    const abort = new AbortController();
    const limits = { limit: maxBytes, idle: IDLE_TIMEOUT, answer: ANSWER_TIMEOUT };
    const meter = new ByteMeter(this.#clock, limits, (fault) => abort.abort(fault));
    exchange.onAbort(() => abort.abort('aborted'));
    try {
      await this.#pass(exchange, options, meter, abort);
      return { result: 'ok', bytes: meter.bytes };
    } catch (cause) {
      return { result: this.#failed(exchange, abort.signal, cause, options), bytes: meter.bytes };
    } finally {
      meter.stop();
      this.active--;
    }
  }

  async #pass(
    exchange: HttpExchange,
    options: ForwardOptions,
    meter: ByteMeter,
    abort: AbortController,
  ): Promise<void> {
    const { head } = exchange;
    const address = clientAddress(head, this.#trusts);
    const { expect: _answered, ...headers } = upstreamHeaders(head, address, this.#trusts);
    const hasBody = head.headers['content-length'] !== undefined || head.headers['transfer-encoding'] !== undefined;
    if (hasBody) meter.watch(exchange.body);
    const response = await options.upstream.forward(
      {
        method: head.method,
        target: head.target,
        headers: { ...headers, ...options.headers },
        body: hasBody ? exchange.body : undefined,
      },
      abort.signal,
    );
    await this.#answer(exchange, response, meter, abort);
  }

  async #answer(
    exchange: HttpExchange,
    response: ForwardResponse,
    meter: ByteMeter,
    abort: AbortController,
  ): Promise<void> {
    const out = exchange.stream(response.status, responseHeaders(response.headers));
    response.body.on('data', () => meter.progress());
    // Before the pipeline ends the other side: that would look as if the client had gone.
    response.body.once('error', () => abort.abort('upstream'));
    await pipeline(response.body, out, { signal: abort.signal });
  }

  #failed(
    exchange: HttpExchange,
    signal: AbortSignal,
    cause: unknown,
    { upstream, maxBytes, failure = UNAVAILABLE }: ForwardOptions,
  ): ForwardResult {
    if (signal.reason === 'too_large') {
      respondTooLarge(exchange, maxBytes);
      return 'too_large';
    }
    if (signal.reason === 'silent') {
      this.#logger.warn({ backend: upstream.url }, 'a request got no answer from the backend for an hour');
      respondError(exchange, 504, 'upstream_timeout', 'The application did not answer for an hour.', CLOSE);
      return 'upstream_error';
    }
    if (signal.aborted && signal.reason !== 'upstream') {
      if (signal.reason !== 'aborted')
        respondError(exchange, 408, 'idle', 'Nothing of the body came for a minute.', CLOSE);
      return 'aborted';
    }
    const reason = cause instanceof Error ? ('code' in cause ? cause.code : cause.message) : 'unknown';
    this.#logger.warn({ backend: upstream.url, reason }, 'a request could not be passed to the backend');
    const { status, code, message } = failure;
    respondError(exchange, status, code, message, { 'retry-after': '1', ...CLOSE });
    return 'upstream_error';
  }
}

const CLOSE = { connection: 'close' } as const;
const UNAVAILABLE: Failure = {
  status: 502,
  code: 'upstream_unavailable',
  message: 'The application does not answer.',
};

function respondTooLarge(exchange: HttpExchange, maxBytes: number): void {
  respondError(exchange, 413, 'upload_size', `The body may have at most ${maxBytes} bytes.`, CLOSE);
}
