import type { Clock, Timer } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { Upstream } from '../../ports/upstream.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import type { ClientInfo } from '../relay/client-info.ts';
import type { ChannelSource, SessionChannel, SessionChannelSink } from '../relay/session-channel.ts';
import { DirectSessionChannel } from './direct-session-channel.ts';

export interface Backend {
  readonly upstream: Upstream;
  state: 'starting' | 'up' | 'down';
  sessions: number;
  /** What it announced last. */
  maxPayload: number;
}

export interface BackendPoolOptions {
  /** How long one attempt may take, how long a session waits for a worker at all, and how often a backend is asked. Milliseconds. */
  readonly connectTimeout: number;
  readonly wait: number;
  readonly probeInterval: number;
}

/** Tokens remembered after their sessions ended, so that a client that comes back finds its state. */
const MAX_TOKENS = 100_000;
const RETRY_FIRST = 100;
const RETRY_MOST = 1_000;

/** The unmodified workers: least sessions first, one token to one backend while that lives. */
export class BackendPool implements ChannelSource {
  readonly backends: readonly Backend[];
  readonly #options: BackendPoolOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  readonly #tokens = new Map<ClientToken, Backend>();
  #timer: Timer | undefined;
  #stopped = false;

  constructor(
    upstreams: readonly Upstream[],
    options: BackendPoolOptions,
    parts: { clock: Clock; logger: Logger; metrics: Metrics },
  ) {
    this.backends = upstreams.map((upstream) => ({ upstream, state: 'starting', sessions: 0, maxPayload: Infinity }));
    this.#options = options;
    this.#clock = parts.clock;
    this.#logger = parts.logger;
    this.#metrics = parts.metrics;
  }

  /** The smallest message that any backend announced as its largest; Infinity before the first did. */
  get maxPayload(): number {
    return Math.min(...this.backends.map((backend) => backend.maxPayload));
  }

  /** Asks every backend once, and then again and again until `stop`. */
  async start(): Promise<void> {
    await Promise.all(this.backends.map((backend) => this.#probe(backend)));
    if (this.#stopped) return;
    const anyDown = this.backends.some(({ state }) => state !== 'up');
    const { probeInterval } = this.#options;
    this.#timer = this.#clock.setTimeout(
      () => void this.start(),
      anyDown ? Math.min(1_000, probeInterval) : probeInterval,
    );
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    for (const { upstream } of this.backends) upstream.close();
  }

  async open(client: ClientInfo, sink: SessionChannelSink, signal: AbortSignal): Promise<SessionChannel> {
    const deadline = this.#clock.monotonic() + this.#options.wait;
    let pause = RETRY_FIRST;
    for (;;) {
      for (const backend of this.#candidates(client.token)) {
        const placed = await this.#tryOpen(backend, client, sink, signal);
        if (placed !== undefined) return placed;
        signal.throwIfAborted();
      }
      if (this.#clock.monotonic() + pause > deadline) throw new Error('no backend answered in time');
      await this.#sleep(pause, signal);
      pause = Math.min(RETRY_MOST, pause * 2);
    }
  }

  /** The backend for a request of this token: the one that holds its session, else the one to begin with. */
  forToken(token: ClientToken | undefined): Backend | undefined {
    return this.#candidates(token)[0];
  }

  /** Backends in the order to try them. One that failed last time is tried last, but is tried. */
  #candidates(token: ClientToken | undefined): Backend[] {
    const rank = ({ state, sessions }: Backend): number => (state === 'down' ? 1e9 : 0) + sessions;
    const ordered = [...this.backends].sort((left, right) => rank(left) - rank(right));
    const home = token === undefined ? undefined : this.#tokens.get(token);
    if (home === undefined || home.state === 'down') return ordered;
    return [home, ...ordered.filter((backend) => backend !== home)];
  }

  async #tryOpen(
    backend: Backend,
    client: ClientInfo,
    sink: SessionChannelSink,
    signal: AbortSignal,
  ): Promise<SessionChannel | undefined> {
    const begun = this.#clock.monotonic();
    backend.sessions++;
    try {
      const timeout = AbortSignal.any([signal, AbortSignal.timeout(this.#options.connectTimeout)]);
      const placed = new DirectSessionChannel(backend.upstream.url, sink, () => backend.sessions--);
      const channel = await backend.upstream.open(client.request, placed, timeout);
      placed.attach(channel);
      this.#metrics.upstreamConnect('ok', (this.#clock.monotonic() - begun) / 1000);
      this.#mark(backend, 'up', '');
      backend.maxPayload = channel.maxPayload;
      this.#remember(client.token, backend);
      return placed;
    } catch (cause) {
      backend.sessions--;
      if (signal.aborted) return undefined;
      this.#metrics.upstreamConnect('failed', (this.#clock.monotonic() - begun) / 1000);
      this.#mark(backend, 'down', errorText(cause));
      return undefined;
    }
  }

  #remember(token: ClientToken, backend: Backend): void {
    if (this.backends.length < 2 || token === '') return;
    this.#tokens.delete(token);
    this.#tokens.set(token, backend);
    if (this.#tokens.size <= MAX_TOKENS) return;
    for (const oldest of this.#tokens.keys()) {
      this.#tokens.delete(oldest);
      break;
    }
  }

  async #probe(backend: Backend): Promise<void> {
    try {
      const { maxPayload } = await backend.upstream.probe(AbortSignal.timeout(this.#options.connectTimeout));
      backend.maxPayload = maxPayload;
      this.#mark(backend, 'up', '');
    } catch (cause) {
      if (!this.#stopped) this.#mark(backend, 'down', errorText(cause));
    }
  }

  #mark(backend: Backend, state: 'up' | 'down', reason: string): void {
    if (backend.state === state) return;
    backend.state = state;
    const { url } = backend.upstream;
    if (state === 'up') this.#logger.info({ backend: url }, 'backend is up');
    else this.#logger.warn({ backend: url, reason }, 'backend does not answer; sessions wait for it');
  }

  #sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        timer.cancel();
        reject(new Error('aborted'));
      };
      const timer = this.#clock.setTimeout(() => {
        signal.removeEventListener('abort', abort);
        resolve();
      }, milliseconds);
      signal.addEventListener('abort', abort, { once: true });
    });
  }
}

function errorText(cause: unknown): string {
  if (!(cause instanceof Error)) return 'unknown';
  return 'code' in cause && typeof cause.code === 'string' ? cause.code : cause.message;
}
