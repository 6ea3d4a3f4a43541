import type { AuthResult, Invalidation } from '../../ports/auth.ts';
import type { Timer } from '../../ports/clock.ts';
import type { PushDelivery } from '../../ports/live-metrics.ts';
import type { EventLossReason, SessionCloseReason } from '../../ports/metrics.ts';
import type { SessionSummary } from '../../ports/operator.ts';
import type { HandlerCall } from '../../ports/virtual-session.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import { CloseCode } from '../../protocol/close-code.ts';
import { toastUpdate } from '../../protocol/reflex-update.ts';
import { ClientIdentity } from '../auth/client-identity.ts';
import type { Rights } from '../auth/rights.ts';
import type { EngineSession, EngineSink } from '../engine/engine-session.ts';
import type { PushSession } from '../live/pushes.ts';
import { farewell, type CountedSession } from '../limits/user-sessions.ts';
import type { ClientInfo } from './client-info.ts';
import { Downstream } from './downstream.ts';
import { heritableKept, heritableWaiting, portableKept, type Estate } from './estate.ts';
import { EventPipeline } from './event-pipeline.ts';
import { Inbound } from './inbound.ts';
import type { Waiting } from './inbound-queue.ts';
import { KeptMessages, type KeptMessage } from './kept-messages.ts';
import { LatencyWatch } from './latency-watch.ts';
import type { RelayContext } from './relay-context.ts';
import {
  NOTHING_LEFT,
  type ProbeAnswer,
  type SessionChannel,
  type SessionChannelSink,
  type TokenClaim,
} from './session-channel.ts';

/** A client that opens a transport and says nothing is closed; Reflex opens it up to 10 s early. Milliseconds. */
export const CONNECT_TIMEOUT = 45_000;
/** A handler that sends nothing for so long sends nothing at all, as far as a drain can wait. Milliseconds. */
const HANDLER_GRACE = 1_000;
/** How long a client may take to show that it lives when another one comes with its token. Milliseconds. */
const PROBE_TIMEOUT = 2_000;

/** How a transport ends from the client's side. */
const BY_CLIENT: ReadonlySet<SessionCloseReason> = new Set(['client_close', 'connection_lost', 'ping_timeout']);

const UNKNOWN: AuthResult = { kind: 'unavailable', cause: 'no source' };
/** What may follow a tab to another sidecar (docs/PROTOCOL.md, "Two connections with one token"). Bytes. */
const MAX_KEPT = 1024 * 1024;

const INTERRUPTED = {
  id: 'bridgehead-interrupted',
  level: 'warning',
  text: 'The server was interrupted. Your last action may not have been carried out: please look before you repeat it.',
} as const;

/** One client's session: everything between its Engine.IO session and its channel to a worker. */
export class RelaySession implements EngineSink, CountedSession, PushSession {
  readonly engine: EngineSession;
  readonly #context: RelayContext;
  readonly #client: ClientInfo;
  readonly #onEnd: (session: RelaySession) => void;
  readonly #opened: number;
  readonly #inbound: Inbound;
  #userLimited = false;
  /** The user whose sessions this one is counted among. */
  #countedFor: string | undefined;
  readonly #latency: LatencyWatch;
  readonly #pipeline: EventPipeline;
  readonly #downstream: Downstream;
  #channel: SessionChannel | undefined;
  #opening: AbortController | undefined;
  /** While it takes over from others of its tab; while another one asks for this one. */
  #claiming: Promise<TokenClaim> | undefined;
  #yielding: Promise<'alive' | 'gone' | Estate> | undefined;
  #ended = false;
  /** Reflex's namespace is connected: until then the worker's messages are looked at. */
  #connected = false;
  /** The client has disconnected from it: it means to go, however its transport then ends. */
  #left = false;
  /** Since the client is gone: what it has missed. */
  #kept: { readonly messages: KeptMessages; readonly timer: Timer; readonly reason: SessionCloseReason } | undefined;
  /** Its tab is at another sidecar, and the worker itself hands on there what it still says. */
  #isElsewhere = false;
  /** What follows the CONNECT acknowledgement. */
  #inherited: KeptMessages | undefined;
  #heritage: readonly HandlerCall[] = [];
  /** It is to be told of an interruption as soon as it is connected. */
  #untold = false;
  #connectTimer: Timer | undefined;

  constructor(
    context: RelayContext,
    engine: EngineSession,
    client: ClientInfo,
    onEnd: (session: RelaySession) => void,
  ) {
    this.engine = engine;
    this.#context = context;
    this.#client = client;
    this.#onEnd = onEnd;
    const { clock } = context;
    this.#latency = new LatencyWatch(context.updatePrefix);
    this.#opened = clock.monotonic();
    this.#pipeline = new EventPipeline(context, client, new ClientIdentity(client.cookies), this.#latency);
    this.#inbound = new Inbound(context, client, this.#pipeline, {
      open: () => void this.#open(),
      answer: (packet) => this.#downstream.say(`4${packet}`),
      close: (reason, code) => this.close(reason, code),
      hold: () => engine.pause(),
      release: () => engine.resume(),
      handed: () => this.#limitUser(),
      left: () => this.#clientLeft(),
    });
    this.#downstream = new Downstream(context, engine, this.#latency, () =>
      this.close('slow_client', CloseCode.tryAgainLater),
    );
    const onSilence = (): void => this.close('connect_timeout', CloseCode.policyViolation);
    this.#connectTimer = clock.setTimeout(onSilence, CONNECT_TIMEOUT);
  }

  /**
   * Something is still on its way to the worker or the client, or a handler may still be at work. What waits for a worker that
   * is away, or for a poll that may never come, is nothing to wait for: the client comes back with it. Nor is a client that is away.
   */
  get busy(): boolean {
    if (this.#kept !== undefined) return false;
    const channel = this.#channel;
    const work = channel?.work ?? 'away';
    if (work === 'busy') return true;
    if (work === 'unknown' && this.#latency.waiting(this.#context.clock.monotonic(), HANDLER_GRACE)) return true;
    const { packets } = this.#inbound.waiting;
    if (channel !== undefined && work !== 'away' && (packets > 0 || channel.bufferedBytes > 0)) return true;
    return this.engine.transport === 'websocket' && this.engine.bufferedBytes > 0;
  }

  summary(): SessionSummary {
    return {
      id: this.engine.id,
      transport: this.engine.transport,
      user: this.user ?? null,
      path: this.path,
      away: this.isAway,
      address: this.#client.address,
      upstream: this.#channel?.where ?? '',
      work: this.#channel?.work ?? 'away',
      age: (this.#context.clock.monotonic() - this.#opened) / 1000,
      events: this.#pipeline.count,
      queued: { upstream: this.#inbound.waiting.bytes, client: this.engine.bufferedBytes },
    };
  }

  /** Its client is gone and may come back. */
  get isAway(): boolean {
    return this.#kept !== undefined;
  }

  get token(): ClientToken {
    return this.#pipeline.token;
  }

  /** Whether an invalidation is about this tab's user or session. */
  concerns(what: Invalidation, cookieName: string): boolean {
    return this.#pipeline.identity.concerns(what, cookieName);
  }

  get path(): string {
    return this.#pipeline.path;
  }

  get user(): string | undefined {
    return this.#pipeline.identity.user;
  }

  get rights(): Rights | undefined {
    return this.#pipeline.identity.rights;
  }

  known(): AuthResult | undefined {
    const { users, clock } = this.#context;
    return users === undefined ? UNKNOWN : this.#pipeline.identity.known(users.resolver, users.cookie, clock);
  }

  find(): Promise<AuthResult> {
    const { users, clock } = this.#context;
    if (users === undefined) return Promise.resolve(UNKNOWN);
    return this.#pipeline.identity.ask(users.resolver, users.cookie, clock);
  }

  /** Sends a message that the worker did not make. A client that is away gets it when it is back; one that reads too slowly does not. */
  tell(frame: Buffer): PushDelivery {
    if (!this.#connected || this.#ended) return 'away';
    if (this.#kept !== undefined) return this.#kept.messages.push(frame, false) ? 'sent' : 'away';
    const { limits, budget, metrics } = this.#context;
    const isSlow = limits.queueBytes > 0 && this.engine.bufferedBytes > limits.queueBytes;
    if (isSlow || !budget.fits(frame.length)) return 'slow';
    metrics.clientBytes('out', frame.length);
    this.#downstream.say(frame);
    return 'sent';
  }

  /** Runs a handler in the worker, after what the user does. */
  run(call: HandlerCall): PushDelivery {
    if (!this.#connected || this.#kept !== undefined) return 'away';
    return this.#channel?.run(call) ?? 'away';
  }

  /** Counts what waits for the client among what waits in all sessions, and returns it. Bytes. */
  countUnread(): number {
    return this.#ended || this.#kept !== undefined ? 0 : this.#downstream.count();
  }

  /** Whether a worker means this session: by its id on the link, or as the one that it has a connection with (null). */
  isKnownAs(id: string | null): boolean {
    const channel = this.#channel;
    if (channel === undefined) return false;
    // A worker has renamed whoever else claims the token by the time that it acknowledges the CONNECT.
    return id === null ? channel.linkedAs === undefined && this.#connected : channel.linkedAs === id;
  }

  /** A handler in the worker logged this tab in, or out (null). */
  setSession(cookie: string | null): void {
    this.#pipeline.identity.setSession(cookie);
  }

  /** Its user has opened too many others. */
  dismiss(): void {
    this.engine.sendLast(farewell(this.#context.namespace).map((packet) => `4${packet}`));
    this.close('user_sessions', CloseCode.policyViolation);
  }

  /** Ends the session by closing the transport. */
  close(reason: SessionCloseReason, code: number): void {
    this.engine.close(reason, code);
    // A client that is away has no transport to close.
    if (this.#kept !== undefined) this.#end(reason);
  }

  /**
   * Another connection came with this tab's token. `alive`: the client answers, so both live. Otherwise this session is over, and
   * what it leaves belongs to the newcomer, to one alone.
   */
  async yield(): Promise<'alive' | 'gone' | Estate> {
    if (this.#yielding !== undefined) return (await this.#yielding) === 'alive' ? 'alive' : 'gone';
    this.#yielding = this.#yield();
    const result = await this.#yielding;
    this.#yielding = undefined;
    return result;
  }

  async #yield(): Promise<'alive' | 'gone' | Estate> {
    if (this.#kept === undefined && !this.#ended && (await this.engine.probe(PROBE_TIMEOUT))) return 'alive';
    if (this.#ended) return 'gone';
    if (this.#kept === undefined) this.#keep('replaced');
    this.engine.close('replaced', CloseCode.goingAway);
    // What it was about to take over itself.
    await this.#claiming;
    const waiting = this.#inbound.give();
    // The worker's last words still come while it lets go.
    const left = (await this.#channel?.close('takeover')) ?? NOTHING_LEFT;
    const kept = heritableKept(this.#takeMissed());
    this.#end('replaced');
    return {
      kept,
      waiting: heritableWaiting([...left.again.map(paid), ...waiting]),
      unsure: left.unsure,
      background: [...this.#heritage, ...left.background],
    };
  }

  text(packet: string, raw: Buffer | undefined): void {
    this.#inbound.text(packet, raw);
  }

  binary(data: Buffer): void {
    this.#inbound.binary(data);
  }

  /** The Engine.IO session is over, whoever ended it. A client that is cut off may come back. */
  closed(reason: SessionCloseReason): void {
    if (this.#ended || this.#kept !== undefined) return;
    if (this.#left && BY_CLIENT.has(reason)) return this.#end('client_disconnect');
    const isCut = reason === 'connection_lost' || reason === 'ping_timeout';
    if (isCut && this.#connected && this.token !== '' && this.#context.retention > 0) this.#keep(reason);
    else this.#end(reason);
  }

  #clientLeft(): void {
    this.#left = true;
    this.#connected = false;
  }

  /** The client has read everything. */
  drained(): void {
    this.#downstream.drained();
  }

  /** The worker gave the tab another token. */
  rename(token: ClientToken): void {
    this.#pipeline.token = token;
    this.#channel?.rename(token);
  }

  #channelSink(): SessionChannelSink {
    return {
      message: (frame, binary) => this.#message(frame, binary),
      drained: () => this.#inbound.flush(),
      returned: (items) => this.#inbound.returned(items),
      interrupted: (events) => this.#interrupted(events),
      first: () => this.#inbound.first,
      cookies: (cookieName) => this.#pipeline.identity.header(cookieName),
      probe: () => this.#probed(),
      ended: (reason) => this.#channelEnded(reason),
    };
  }

  #message(frame: Buffer, binary: boolean): void {
    // The worker's last words, while it lets go.
    if (this.#ended) return;
    if (this.#kept !== undefined) {
      if (!this.#kept.messages.push(frame, binary)) this.#end(this.#kept.reason);
      return;
    }
    this.#downstream.message(frame, binary, this.#channel);
    if (!this.#connected && !binary) this.#watchConnect(frame);
  }

  #interrupted(events: number): void {
    const { metrics } = this.#context;
    metrics.eventLost('upstream_lost', events);
    this.#tellInterrupted();
  }

  #tellInterrupted(): void {
    // Before the acknowledgement of its CONNECT a client hears nothing.
    this.#untold = !this.#connected;
    if (this.#untold) return;
    this.#toast(INTERRUPTED.id, INTERRUPTED.level, INTERRUPTED.text);
  }

  /** The tab has come back to another sidecar, or lives twice. The worker ends this session where it does not live. */
  async #probed(): Promise<ProbeAnswer> {
    if (this.#kept === undefined && (await this.engine.probe(PROBE_TIMEOUT))) return { alive: true, kept: [] };
    if (this.#kept === undefined && !this.#ended) this.#keep('replaced');
    this.engine.close('replaced', CloseCode.goingAway);
    this.#isElsewhere = true;
    const { metrics, namespace } = this.#context;
    const { kept, lost } = portableKept(this.#takeMissed(), MAX_KEPT);
    if (lost > 0) metrics.messagesLost(lost);
    // The other sidecar cannot have them, and the worker is about to let this session go.
    const unsent = this.#inbound.give().filter(({ kind }) => kind === 'packet').length;
    if (unsent > 0) metrics.eventLost('session_closed', unsent);
    const told = unsent > 0 || this.#untold ? [`4${toastUpdate(namespace, INTERRUPTED)}`] : [];
    return { alive: false, kept: [...kept, ...told] };
  }

  /** A client that was not connected had nothing to miss but what it took over, and takes no other's acknowledgement. */
  #takeMissed(): KeptMessage[] {
    const said = this.#kept?.messages.take() ?? [];
    return [...(this.#inherited?.take() ?? []), ...(this.#connected ? said : [])];
  }

  #toast(id: string, level: 'error' | 'warning', text: string): void {
    const packet = `4${toastUpdate(this.#context.namespace, { id, level, text })}`;
    if (this.#kept === undefined) this.#downstream.say(packet);
    else this.#kept.messages.push(Buffer.from(packet), false);
  }

  #channelEnded(reason: Parameters<SessionChannelSink['ended']>[0]): void {
    this.#channel = undefined;
    if (reason === 'no_worker') return this.#withoutWorker();
    if (reason === 'slow') return this.close('slow_client', CloseCode.tryAgainLater);
    this.close('upstream_closed', CloseCode.serviceRestart);
  }

  #withoutWorker(): void {
    if (this.#inbound.waiting.packets > 0 && this.#connected) {
      this.#toast('bridgehead-away', 'error', 'The server does not answer. Your last actions were not carried out.');
    }
    this.close('upstream_unavailable', CloseCode.tryAgainLater);
  }

  #keep(reason: SessionCloseReason): void {
    const { clock, budget, limits, retention } = this.#context;
    const messages = new KeptMessages(budget, limits.queueBytes);
    this.#downstream.stop();
    this.#channel?.clientGone();
    this.#channel?.resume();
    this.#kept = { messages, reason, timer: clock.setTimeout(() => this.#end(reason), retention) };
  }

  #end(reason: SessionCloseReason): void {
    if (this.#ended) return;
    this.#ended = true;
    const { metrics, userSessions } = this.#context;
    this.#connectTimer?.cancel();
    this.#kept?.timer.cancel();
    const missed = this.#takeMissed().length;
    if (missed > 0 && !this.#isElsewhere) metrics.messagesLost(missed);
    this.#downstream.stop();
    if (this.#channel === undefined) this.#opening?.abort();
    const lost = this.#inbound.end();
    if (lost > 0) metrics.eventLost(lossReason(reason), lost);
    void this.#channel?.close(this.#kept === undefined ? 'closed' : 'lost').then((left) => {
      const events = left.unsure + left.again.filter(({ kind }) => kind === 'packet').length;
      if (events > 0) metrics.eventLost('upstream_lost', events);
    });
    if (this.#countedFor !== undefined) userSessions.leave(this, this.#countedFor);
    metrics.sessionClosed(reason);
    this.#onEnd(this);
  }

  #watchConnect(frame: Buffer): void {
    const news = this.#context.connectWatch.read(frame);
    if (news?.kind === 'new_token') this.#context.renamed(this, news.token as ClientToken);
    if (news?.kind !== 'connected') return;
    this.#connected = true;
    this.#left = false;
    for (const { frame: message, binary } of this.#inherited?.take() ?? []) this.engine.send(message, binary);
    if (this.#inherited !== undefined) this.#downstream.count();
    this.#inherited = undefined;
    if (this.#untold) this.#tellInterrupted();
  }

  /** From the first event on that tells who the user is, all of theirs share a rate, and the sessions are counted. */
  #limitUser(): void {
    const { shared, userSessions } = this.#context;
    const { user: known } = this.#pipeline.identity;
    if (known !== this.#countedFor && userSessions.count(this, this.#countedFor, known)) this.#countedFor = known;
    const { user: limits } = shared;
    const user = this.#userLimited ? undefined : known;
    if (limits === undefined || user === undefined) return;
    this.#userLimited = true;
    this.#inbound.bucket.add(limits.bucket(user));
  }

  async #open(): Promise<void> {
    if (this.#opening !== undefined) return;
    this.#connectTimer?.cancel();
    this.#opening = new AbortController();
    try {
      this.#claiming = this.#claim();
      const claim = await this.#claiming;
      this.#claiming = undefined;
      // Another one takes over from this one already.
      if (this.#ended || this.#kept !== undefined) return;
      const { signal } = this.#opening;
      const { channels } = this.#context;
      const channel = await channels.open(this.#client, this.#channelSink(), signal, claim, this.#heritage);
      if (this.#ended) return void channel.close('closed');
      this.#channel = channel;
      this.#heritage = [];
      this.#inbound.use(channel);
    } catch {
      this.#withoutWorker();
    }
  }

  async #claim(): Promise<TokenClaim> {
    const estates: Estate[] = [];
    let isShared = false;
    for (const before of this.#context.predecessors(this)) {
      const estate = await before.yield();
      isShared = estate === 'alive';
      if (isShared) break;
      if (estate !== 'gone' && estate !== 'alive') estates.unshift(estate);
    }
    this.#inherit(estates);
    if (isShared) return 'shared';
    return estates.length > 0 ? 'takeover' : 'own';
  }

  #inherit(estates: readonly Estate[]): void {
    const waiting = estates.flatMap((estate) => estate.waiting);
    const unsure = estates.reduce((sum, estate) => sum + estate.unsure, 0);
    if (unsure > 0) this.#interrupted(unsure);
    if (this.#ended) {
      const packets = waiting.filter(({ kind }) => kind === 'packet').length;
      if (packets > 0) this.#context.metrics.eventLost('session_closed', packets);
      return;
    }
    this.#heritage = estates.flatMap((estate) => estate.background);
    const kept = estates.flatMap((estate) => estate.kept);
    if (kept.length > 0) {
      this.#inherited = new KeptMessages(this.#context.budget, 0);
      this.#inherited.adopt(kept);
    }
    this.#inbound.take(waiting);
  }
}

/** The rate limit has let it through already. */
function paid(item: Waiting): Waiting {
  return item.kind === 'packet' ? { ...item, paid: true } : item;
}

function lossReason(reason: SessionCloseReason): EventLossReason {
  if (reason === 'upstream_unavailable') return 'upstream_unavailable';
  return reason === 'upstream_closed' ? 'upstream_lost' : 'session_closed';
}
