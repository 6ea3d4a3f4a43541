import type { Clock, Timer } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { TokenRecords } from '../../ports/token-records.ts';
import type { Upstream } from '../../ports/upstream.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import { Slots, type Slot } from '../links/slots.ts';
import type { ClientInfo } from '../relay/client-info.ts';
import { ConnectWatch } from '../relay/connect-watch.ts';
import type { ChannelSource, SessionChannel, SessionChannelSink } from '../relay/session-channel.ts';
import { DirectSessionChannel, type Renewal } from './direct-session-channel.ts';
import { backendFor, backendOf, type WorkerAddress } from './request-home.ts';

export interface Backend {
  readonly upstream: Upstream;
  state: 'starting' | 'up' | 'down';
  sessions: number;
  /** What it announced last. */
  maxPayload: number;
  /** The sessions that it begins, and those that wait for it to. */
  readonly begins: Slots;
}

export interface BackendPoolOptions {
  /** How long one attempt may take, how long a session waits for a worker at all, and how often a backend is asked. Milliseconds. */
  readonly connectTimeout: number;
  readonly wait: number;
  readonly probeInterval: number;
  /** Reflex's Socket.IO namespace. */
  readonly namespace: string;
}

export interface BackendPoolParts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** undefined: where the state of a session lies is not known, and it ends with its worker. */
  readonly records: TokenRecords | undefined;
  /** The linked worker that has a session of this token. */
  readonly linkedHome: (token: ClientToken) => WorkerAddress | undefined;
}

/** Tokens remembered after their sessions ended, so that a client that comes back finds its state. */
const MAX_TOKENS = 100_000;
const RETRY_FIRST = 100;
const RETRY_MOST = 1_000;
/** Sessions that go to another worker at a time, and how long one may keep the next from it (milliseconds): running ones come first. */
const RENEWALS = 16;
const RENEWAL_HOLD = 2_000;
/** Sessions that one backend begins at a time, each until the backend says something to it, and how long that keeps the next one waiting at most. */
const BEGINS = 16;
const BEGIN_HOLD = 1_000;

/** The unmodified workers: least sessions first, one token to one backend while that lives. */
export class BackendPool implements ChannelSource {
  readonly backends: readonly Backend[];
  readonly #options: BackendPoolOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  readonly #records: TokenRecords | undefined;
  readonly #linkedHome: BackendPoolParts['linkedHome'];
  readonly #connectWatch: ConnectWatch;
  readonly #renewals: Slots;
  readonly #tokens = new Map<ClientToken, Backend>();
  #timer: Timer | undefined;
  #stopped = false;

  constructor(upstreams: readonly Upstream[], options: BackendPoolOptions, parts: BackendPoolParts) {
    this.backends = upstreams.map((upstream) => ({
      upstream,
      state: 'starting',
      sessions: 0,
      maxPayload: Infinity,
      begins: new Slots({ limit: BEGINS, hold: BEGIN_HOLD }, parts.clock),
    }));
    this.#options = options;
    this.#clock = parts.clock;
    this.#logger = parts.logger;
    this.#metrics = parts.metrics;
    this.#records = parts.records;
    this.#linkedHome = parts.linkedHome;
    this.#connectWatch = new ConnectWatch(options.namespace);
    this.#renewals = new Slots({ limit: RENEWALS, hold: RENEWAL_HOLD }, parts.clock);
  }

  /** The smallest message that any backend announced as its largest; Infinity before the first did. */
  get maxPayload(): number {
    // Asked for each packet.
    let smallest = Infinity;
    for (const { maxPayload } of this.backends) smallest = Math.min(smallest, maxPayload);
    return smallest;
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
    this.#renewals.close();
    for (const { upstream, begins } of this.backends) {
      begins.close();
      upstream.close();
    }
  }

  async open(client: ClientInfo, sink: SessionChannelSink, signal: AbortSignal): Promise<SessionChannel> {
    const channel = new DirectSessionChannel(sink, this.#renewal(client));
    await this.#place(client, channel, signal);
    return channel;
  }

  async #place(client: ClientInfo, channel: DirectSessionChannel, signal: AbortSignal): Promise<void> {
    const deadline = this.#clock.monotonic() + this.#options.wait;
    let pause = RETRY_FIRST;
    for (;;) {
      for (const backend of this.#candidates(client.token)) {
        if (await this.#tryOpen(backend, client, channel, signal)) return;
        signal.throwIfAborted();
      }
      if (this.#clock.monotonic() + pause > deadline) throw new Error('no backend answered in time');
      await this.#sleep(pause, signal);
      pause = Math.min(RETRY_MOST, pause * 2);
    }
  }

  #renewal(client: ClientInfo): Renewal | undefined {
    const records = this.#records;
    if (records === undefined || client.token === '') return undefined;
    let slot: Slot | undefined;
    return {
      namespace: this.#options.namespace,
      connectWatch: this.#connectWatch,
      clock: this.#clock,
      metrics: this.#metrics,
      wait: 2 * this.#options.wait,
      forget: () => records.forget(client.token),
      reopen: async (channel, signal) => {
        slot = await placeIn(this.#renewals, signal);
        await this.#place(client, channel, signal);
      },
      settled: () => slot?.release(),
    };
  }

  /**
   * The backend for a request of this token: the one that holds its session, or stands before the linked worker that does. Else always the
   * same one, so that load is shared out.
   */
  forToken(token: ClientToken | undefined): Backend | undefined {
    if (token === undefined || token === '') return this.#candidates(token)[0];
    const up = this.backends.filter(({ state }) => state !== 'down');
    const home = this.#tokens.get(token);
    if (home !== undefined && up.includes(home)) return home;
    const worker = this.#linkedHome(token);
    const near = worker === undefined ? undefined : backendOf(up, worker);
    return near ?? backendFor(up.length > 0 ? up : this.backends, token);
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
    channel: DirectSessionChannel,
    signal: AbortSignal,
  ): Promise<boolean> {
    // Who stands in line counts, so that the lines are of one length.
    backend.sessions++;
    let turn: Slot | undefined;
    let begun = 0;
    try {
      turn = await placeIn(backend.begins, signal);
      begun = this.#clock.monotonic();
      const timeout = AbortSignal.any([signal, AbortSignal.timeout(this.#options.connectTimeout)]);
      const opened = await backend.upstream.open(client.request, channel, timeout);
      channel.attach({ channel: opened, where: backend.upstream.url, release: () => backend.sessions-- }, turn);
      this.#metrics.upstreamConnect('ok', (this.#clock.monotonic() - begun) / 1000);
      this.#mark(backend, 'up', '');
      backend.maxPayload = opened.maxPayload;
      this.#remember(client.token, backend);
      return true;
    } catch (cause) {
      backend.sessions--;
      turn?.release();
      if (signal.aborted) return false;
      this.#metrics.upstreamConnect('failed', (this.#clock.monotonic() - begun) / 1000);
      this.#mark(backend, 'down', errorText(cause));
      return false;
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

function placeIn(slots: Slots, signal: AbortSignal): Promise<Slot> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const abort = (): void => {
      slots.leave(granted);
      reject(new Error('aborted'));
    };
    const granted = (slot: Slot): void => {
      signal.removeEventListener('abort', abort);
      resolve(slot);
    };
    signal.addEventListener('abort', abort, { once: true });
    const slot = slots.take();
    if (slot === undefined) slots.wait(granted);
    else granted(slot);
  });
}

function errorText(cause: unknown): string {
  if (!(cause instanceof Error)) return 'unknown';
  return 'code' in cause && typeof cause.code === 'string' ? cause.code : cause.message;
}
