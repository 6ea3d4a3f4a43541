import type { Invalidation } from '../../ports/auth.ts';
import type { Timer } from '../../ports/clock.ts';
import type { EventLossReason, SessionCloseReason } from '../../ports/metrics.ts';
import type { SessionSummary } from '../../ports/operator.ts';
import type { Channel, ChannelSink } from '../../ports/upstream.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import { CloseCode } from '../../protocol/close-code.ts';
import { exceedsCodePoints } from '../../protocol/engine-io.ts';
import { toastUpdate } from '../../protocol/reflex-update.ts';
import { parseHeader, SocketPacket, type PacketHeader } from '../../protocol/socket-io.ts';
import type { PlacedChannel } from '../backends/backend-pool.ts';
import type { EngineSession, EngineSink } from '../engine/engine-session.ts';
import type { ClientInfo } from './client-info.ts';
import { Downstream } from './downstream.ts';
import { ClientIdentity } from '../auth/client-identity.ts';
import { EventPipeline } from './event-pipeline.ts';
import { InboundQueue } from './inbound-queue.ts';
import { LatencyWatch } from './latency-watch.ts';
import type { RelayContext } from './relay-context.ts';
import { EventLimits } from '../limits/event-limits.ts';
import { farewell, type CountedSession } from '../limits/user-sessions.ts';
import { TokenBucket } from './token-bucket.ts';

/** A worker that has so many bytes unwritten is given nothing more until it has taken them. */
const UPSTREAM_HIGH_WATER = 256 * 1024;
/** A client that opens a transport and says nothing is closed; Reflex opens it up to 10 s early. Milliseconds. */
export const CONNECT_TIMEOUT = 45_000;
/** A handler that sends nothing for so long sends nothing at all, as far as a drain can wait. Milliseconds. */
const HANDLER_GRACE = 1_000;
/** At most one toast in so many milliseconds tells of refused events. */
const TOAST_INTERVAL = 2_000;

type Overflow = EventLossReason & ('queue_full' | 'total_queue_full');

/** One client's session: everything between its Engine.IO session and its channel to a worker. */
export class RelaySession implements EngineSink, CountedSession {
  readonly engine: EngineSession;
  readonly #context: RelayContext;
  readonly #client: ClientInfo;
  readonly #onEnd: (session: RelaySession) => void;
  readonly #opened: number;
  readonly #queue: InboundQueue;
  readonly #bucket: EventLimits;
  #userLimited = false;
  /** The user whose sessions this one is counted among. */
  #countedFor: string | undefined;
  readonly #latency: LatencyWatch;
  readonly #pipeline: EventPipeline;
  readonly #downstream: Downstream;
  #placed: PlacedChannel | undefined;
  #opening: AbortController | undefined;
  #upstreamFull = false;
  #findingUser = false;
  #ended = false;
  /** Binary frames that still belong to the packet before; `#discard`: it was refused, and they with it. */
  #attachments = 0;
  #discard = false;
  /** Binary frames still to be dropped at hand-over: the edge has answered their packet. */
  #skip = 0;
  #rateTimer: Timer | undefined;
  #connectTimer: Timer | undefined;
  #lastToast = -Infinity;

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
    const { clock, limits } = context;
    const latency = new LatencyWatch(context.updatePrefix);
    this.#latency = latency;
    this.#opened = clock.monotonic();
    this.#queue = new InboundQueue(context.budget);
    const own = new TokenBucket({ perSecond: limits.eventsPerSecond, burst: limits.eventBurst }, this.#opened);
    const ofAddress = context.shared.address?.bucket(client.address);
    this.#bucket = new EventLimits(ofAddress === undefined ? [own] : [own, ofAddress]);
    this.#pipeline = new EventPipeline(context, client, new ClientIdentity(client.cookies), latency);
    this.#downstream = new Downstream(context, engine, latency, () =>
      this.close('slow_client', CloseCode.tryAgainLater),
    );
    const onSilence = (): void => this.close('connect_timeout', CloseCode.policyViolation);
    this.#connectTimer = clock.setTimeout(onSilence, CONNECT_TIMEOUT);
  }

  /**
   * Something is still on its way to the worker or the client, or a handler may still be at work. What waits for a worker that
   * is away, or for a poll that may never come, is nothing to wait for: the client comes back with it.
   */
  get busy(): boolean {
    if (this.#latency.waiting(this.#context.clock.monotonic(), HANDLER_GRACE)) return true;
    const channel = this.#channel;
    if (channel !== undefined && (this.#queue.length > 0 || channel.bufferedBytes > 0)) return true;
    return this.engine.transport === 'websocket' && this.engine.bufferedBytes > 0;
  }

  get #channel(): Channel | undefined {
    return this.#placed?.channel;
  }

  summary(): SessionSummary {
    return {
      id: this.engine.id,
      transport: this.engine.transport,
      address: this.#client.address,
      upstream: this.#placed?.url ?? '',
      age: (this.#context.clock.monotonic() - this.#opened) / 1000,
      events: this.#pipeline.count,
      queued: { upstream: this.#queue.bytes, client: this.engine.bufferedBytes },
    };
  }

  get token(): ClientToken {
    return this.#client.token;
  }

  /** Whether an invalidation is about this tab's user or session. */
  concerns(what: Invalidation, cookieName: string): boolean {
    return this.#pipeline.identity.concerns(what, cookieName);
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
  }

  text(packet: string, raw: Buffer | undefined): void {
    const { metrics, maxPayload } = this.#context;
    const bytes = raw?.length ?? Buffer.byteLength(packet);
    metrics.clientBytes('in', bytes);
    if (exceedsCodePoints(packet, maxPayload)) return this.close('too_large', CloseCode.messageTooBig);
    const header = parseHeader(packet, 1);
    if (header === undefined || this.#attachments > 0) return this.close('bad_packet', CloseCode.policyViolation);
    this.#attachments = header.attachments;
    this.#discard = false;
    if (this.#mayPass(header)) this.#hand(packet, raw, header);
    else this.#enqueue(packet, header, bytes);
  }

  binary(data: Buffer): void {
    const { metrics, maxPayload, limits } = this.#context;
    metrics.clientBytes('in', data.length);
    if (data.length > maxPayload) return this.close('too_large', CloseCode.messageTooBig);
    if (this.#attachments === 0) return this.close('bad_packet', CloseCode.policyViolation);
    this.#attachments--;
    if (this.#discard) return;
    if (this.#queue.length === 0 && this.#channel !== undefined) return this.#handBinary(data);
    const verdict = this.#queue.admits(data.length, limits.queueBytes);
    // Its packet has been accepted: half of it cannot be refused, so the client is told by the close.
    if (verdict !== 'yes') return this.#overflow(verdict);
    this.#queue.push({ kind: 'attachment', data: Buffer.from(data), bytes: data.length });
  }

  drained(): void {
    this.#downstream.drained();
  }

  /** The Engine.IO session is over, whoever ended it. */
  closed(reason: SessionCloseReason): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#rateTimer?.cancel();
    this.#connectTimer?.cancel();
    this.#downstream.stop();
    this.#opening?.abort();
    const lost = this.#queue.clear();
    if (lost > 0) this.#context.metrics.eventLost(lossReason(reason), lost);
    this.#placed?.close();
    if (this.#countedFor !== undefined) this.#context.userSessions.leave(this, this.#countedFor);
    this.#context.metrics.sessionClosed(reason);
    this.#onEnd(this);
  }

  #mayPass(header: PacketHeader): boolean {
    if (this.#queue.length > 0 || this.#channel === undefined || this.#upstreamFull) return false;
    return !isLimited(header) || this.#bucket.take(this.#context.clock.monotonic());
  }

  #enqueue(text: string, header: PacketHeader, bytes: number): void {
    const verdict = this.#queue.admits(bytes, this.#context.limits.queueBytes);
    if (verdict !== 'yes') return this.#refuse(header, verdict);
    this.#queue.push({ kind: 'packet', text, header, bytes });
    if (this.#placed === undefined) this.#openChannel();
    else this.#flush();
    this.#holdClientBack();
  }

  /** An event that finds the queue full is told by a toast, everything else by the end of the session. */
  #refuse(header: PacketHeader, reason: Overflow): void {
    const { namespace, metrics, clock } = this.#context;
    const isEvent = header.type === SocketPacket.event || header.type === SocketPacket.binaryEvent;
    if (!isEvent || header.namespace !== namespace) return this.#overflow(reason);
    metrics.eventLost(reason, 1);
    this.#discard = true;
    const now = clock.monotonic();
    if (now - this.#lastToast < TOAST_INTERVAL) return;
    this.#lastToast = now;
    const text = 'Too much at once: some of your last actions were not carried out. Please try again.';
    this.engine.send(`4${toastUpdate(namespace, { id: 'bridgehead-refused', level: 'error', text })}`, false);
  }

  #overflow(reason: Overflow): void {
    this.#context.metrics.eventLost(reason, 1);
    this.close('queue_full', CloseCode.tryAgainLater);
  }

  /** While the worker is slow or away, TCP holds the client back before its queue is full. */
  #holdClientBack(): void {
    const waitsForWorker = this.#channel === undefined || this.#upstreamFull;
    const { queueBytes } = this.#context.limits;
    if (waitsForWorker && queueBytes > 0 && this.#queue.bytes > queueBytes / 2) this.engine.pause();
  }

  #flush(): void {
    const { clock, metrics, limits } = this.#context;
    for (;;) {
      const item = this.#queue.peek();
      if (item === undefined || this.#channel === undefined || this.#upstreamFull || this.#findingUser || this.#ended)
        break;
      if (
        item.kind === 'packet' &&
        item.paid !== true &&
        isLimited(item.header) &&
        !this.#bucket.take(clock.monotonic())
      ) {
        if (this.#rateTimer === undefined) metrics.eventDelayed();
        this.#scheduleFlush();
        break;
      }
      this.#queue.shift();
      if (item.kind === 'packet') this.#hand(item.text, undefined, item.header);
      else this.#handBinary(item.data);
    }
    if (this.#queue.bytes <= limits.queueBytes / 4) this.engine.resume();
  }

  #scheduleFlush(): void {
    if (this.#rateTimer !== undefined) return;
    const { clock } = this.#context;
    const onToken = (): void => {
      this.#rateTimer = undefined;
      this.#flush();
    };
    this.#rateTimer = clock.setTimeout(onToken, this.#bucket.wait(clock.monotonic()));
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
    this.#bucket.add(limits.bucket(user));
  }

  #hand(packet: string, raw: Buffer | undefined, header: PacketHeader): void {
    const prepared = this.#pipeline.prepare(packet, header, this.#channel?.maxPayload ?? 0);
    this.#limitUser();
    if (typeof prepared === 'string') return this.#send(prepared === packet ? (raw ?? packet) : prepared, false);
    switch (prepared.kind) {
      case 'invalid':
        return this.close('bad_packet', CloseCode.policyViolation);
      case 'refused':
        this.#skip = header.attachments;
        this.engine.send(`4${prepared.answer}`, false);
        return;
      case 'wait':
        return this.#waitFor(packet, header, prepared.until);
    }
  }

  #handBinary(data: Buffer): void {
    if (this.#skip > 0) this.#skip--;
    else this.#send(data, true);
  }

  /** Puts the packet back at the head of the queue: what came after it waits with it. */
  #waitFor(text: string, header: PacketHeader, until: Promise<void>): void {
    this.#queue.unshift({ kind: 'packet', text, header, bytes: Buffer.byteLength(text), paid: true });
    this.#findingUser = true;
    void until.then(() => {
      this.#findingUser = false;
      this.#flush();
    });
  }

  #send(frame: string | Buffer, binary: boolean): void {
    const channel = this.#channel;
    if (channel === undefined) return;
    const result = channel.send(frame, binary);
    if (result === 'queued' && channel.bufferedBytes > UPSTREAM_HIGH_WATER) this.#upstreamFull = true;
  }

  #openChannel(): void {
    if (this.#opening !== undefined) return;
    this.#connectTimer?.cancel();
    this.#opening = new AbortController();
    this.#context.channels.open(this.#client, this.#channelSink(), this.#opening.signal).then(
      (placed) => this.#channelOpen(placed),
      () => this.close('upstream_unavailable', CloseCode.tryAgainLater),
    );
  }

  #channelSink(): ChannelSink {
    return {
      message: (frame, binary) => this.#downstream.message(frame, binary, this.#channel),
      drained: () => {
        this.#upstreamFull = false;
        this.#flush();
      },
      ended: () => this.close('upstream_closed', CloseCode.serviceRestart),
    };
  }

  #channelOpen(placed: PlacedChannel): void {
    if (this.#ended) return placed.close();
    this.#placed = placed;
    this.#flush();
  }
}

function isLimited({ type }: PacketHeader): boolean {
  return type === SocketPacket.event || type === SocketPacket.binaryEvent || type === SocketPacket.connect;
}

function lossReason(reason: SessionCloseReason): EventLossReason {
  if (reason === 'upstream_unavailable') return 'upstream_unavailable';
  return reason === 'upstream_closed' ? 'upstream_lost' : 'session_closed';
}
