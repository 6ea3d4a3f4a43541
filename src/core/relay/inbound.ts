import type { Timer } from '../../ports/clock.ts';
import type { EventLossReason, SessionCloseReason } from '../../ports/metrics.ts';
import { CloseCode } from '../../protocol/close-code.ts';
import { exceedsCodePoints } from '../../protocol/engine-io.ts';
import { toastUpdate } from '../../protocol/reflex-update.ts';
import { parseHeader, SocketPacket, type PacketHeader } from '../../protocol/socket-io.ts';
import { EventLimits } from '../limits/event-limits.ts';
import type { ClientInfo } from './client-info.ts';
import type { EventPipeline } from './event-pipeline.ts';
import { InboundQueue, type Waiting } from './inbound-queue.ts';
import type { RelayContext } from './relay-context.ts';
import type { SessionChannel } from './session-channel.ts';
import { TokenBucket } from './token-bucket.ts';

/** At most one toast in so many milliseconds tells of refused events. */
const TOAST_INTERVAL = 2_000;

type Overflow = EventLossReason & ('queue_full' | 'total_queue_full');

/** What the inbound side asks of its session. */
export interface InboundHost {
  /** A packet waits and there is no channel yet. */
  open(): void;
  /** A packet for the client, without the Engine.IO type. */
  answer(packet: string): void;
  close(reason: SessionCloseReason, code: number): void;
  /** Holds the client's transport back, or no longer. */
  hold(): void;
  release(): void;
  /** An event passed: its user may be known now. */
  handed(): void;
  /** The client disconnects from Reflex's namespace. */
  left(): void;
}

/** A client's packets on their way to its worker: size, rate, queue, pipeline. */
export class Inbound {
  readonly bucket: EventLimits;
  readonly #context: RelayContext;
  readonly #pipeline: EventPipeline;
  readonly #host: InboundHost;
  readonly #queue: InboundQueue;
  #channel: SessionChannel | undefined;
  #findingUser = false;
  #ended = false;
  /** Binary frames that still belong to the packet before; `#discard`: it was refused, and they with it. */
  #attachments = 0;
  #discard = false;
  /** Binary frames still to be dropped at hand-over: the edge has answered their packet. */
  #skip = 0;
  #rateTimer: Timer | undefined;
  #lastToast = -Infinity;

  constructor(context: RelayContext, client: ClientInfo, pipeline: EventPipeline, host: InboundHost) {
    this.#context = context;
    this.#pipeline = pipeline;
    this.#host = host;
    this.#queue = new InboundQueue(context.budget);
    const { clock, limits } = context;
    const own = new TokenBucket({ perSecond: limits.eventsPerSecond, burst: limits.eventBurst }, clock.monotonic());
    const ofAddress = context.shared.address?.bucket(client.address);
    this.bucket = new EventLimits(ofAddress === undefined ? [own] : [own, ofAddress]);
  }

  /** Packets that wait, and their bytes. */
  get waiting(): { readonly packets: number; readonly bytes: number } {
    return { packets: this.#queue.length, bytes: this.#queue.bytes };
  }

  /** What waits first. */
  get first(): Waiting | undefined {
    return this.#queue.peek();
  }

  text(packet: string, raw: Buffer | undefined): void {
    const { metrics, maxPayload, namespace } = this.#context;
    const bytes = raw?.length ?? Buffer.byteLength(packet);
    metrics.clientBytes('in', bytes);
    if (exceedsCodePoints(packet, maxPayload)) return this.#host.close('too_large', CloseCode.messageTooBig);
    const header = parseHeader(packet, 1);
    if (header === undefined || this.#attachments > 0) {
      return this.#host.close('bad_packet', CloseCode.policyViolation);
    }
    if (header.type === SocketPacket.disconnect && header.namespace === namespace) this.#host.left();
    this.#attachments = header.attachments;
    this.#discard = false;
    const item: Waiting = { kind: 'packet', text: packet, header, bytes };
    const channel = this.#mayPass(header);
    if (channel !== undefined) this.#hand(channel, item, raw);
    else this.#enqueue(item);
  }

  binary(data: Buffer): void {
    const { metrics, maxPayload, limits } = this.#context;
    metrics.clientBytes('in', data.length);
    if (data.length > maxPayload) return this.#host.close('too_large', CloseCode.messageTooBig);
    if (this.#attachments === 0) return this.#host.close('bad_packet', CloseCode.policyViolation);
    this.#attachments--;
    if (this.#discard) return;
    const channel = this.#queue.length === 0 && this.#channel?.ready() === true ? this.#channel : undefined;
    const item: Waiting = { kind: 'attachment', data: Buffer.from(data), bytes: data.length };
    if (channel !== undefined) return this.#handBinary(channel, item);
    const verdict = this.#queue.admits(data.length, limits.queueBytes);
    // Its packet has been accepted: half of it cannot be refused, so the client is told by the close.
    if (verdict !== 'yes') return this.#overflow(verdict);
    this.#queue.push(item);
  }

  /** The session has its channel. */
  use(channel: SessionChannel): void {
    this.#channel = channel;
    this.flush();
  }

  /** These had left the queue and never ran. */
  returned(items: readonly Waiting[]): void {
    for (const item of items.toReversed()) {
      this.#queue.unshift(item.kind === 'packet' ? { ...item, paid: true } : item);
    }
    this.flush();
  }

  /** What another session of the same tab had accepted. */
  take(items: readonly Waiting[]): void {
    for (const item of items) this.#queue.push(item);
  }

  /** Empties the queue into another's hands. */
  give(): Waiting[] {
    const items: Waiting[] = [];
    for (let item = this.#queue.peek(); item !== undefined; item = this.#queue.peek()) {
      items.push(item);
      this.#queue.shift();
    }
    return items;
  }

  /** Hands over what may pass now. */
  flush(): void {
    const { clock, metrics, limits } = this.#context;
    for (;;) {
      const item = this.#queue.peek();
      const channel = this.#channel;
      if (item === undefined || channel === undefined || this.#findingUser || this.#ended || !channel.ready()) break;
      if (
        item.kind === 'packet' &&
        item.paid !== true &&
        isLimited(item.header) &&
        !this.bucket.take(clock.monotonic())
      ) {
        if (this.#rateTimer === undefined) metrics.eventDelayed();
        this.#scheduleFlush();
        break;
      }
      this.#queue.shift();
      if (item.kind === 'packet') this.#hand(channel, item, undefined);
      else this.#handBinary(channel, item);
    }
    if (this.#queue.bytes <= limits.queueBytes / 4) this.#host.release();
  }

  /** Nothing passes any more; returns how many packets are lost with it. */
  end(): number {
    this.#ended = true;
    this.#rateTimer?.cancel();
    return this.#queue.clear();
  }

  /** The channel, where this packet may go to it at once. */
  #mayPass(header: PacketHeader): SessionChannel | undefined {
    const channel = this.#channel;
    if (channel === undefined || this.#queue.length > 0 || this.#findingUser || !channel.ready()) return undefined;
    return !isLimited(header) || this.bucket.take(this.#context.clock.monotonic()) ? channel : undefined;
  }

  #enqueue(item: Waiting & { kind: 'packet' }): void {
    const verdict = this.#queue.admits(item.bytes, this.#context.limits.queueBytes);
    if (verdict !== 'yes') return this.#refuse(item.header, verdict);
    this.#queue.push(item);
    if (this.#channel === undefined) this.#host.open();
    else this.flush();
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
    this.#host.answer(toastUpdate(namespace, { id: 'bridgehead-refused', level: 'error', text }));
  }

  #overflow(reason: Overflow): void {
    this.#context.metrics.eventLost(reason, 1);
    this.#host.close('queue_full', CloseCode.tryAgainLater);
  }

  /** While the worker is slow or away, TCP holds the client back before its queue is full. */
  #holdClientBack(): void {
    const { queueBytes } = this.#context.limits;
    if (queueBytes === 0 || this.#queue.bytes <= queueBytes / 2) return;
    if (this.#channel?.ready() !== true) this.#host.hold();
  }

  #scheduleFlush(): void {
    if (this.#rateTimer !== undefined) return;
    const { clock } = this.#context;
    const onToken = (): void => {
      this.#rateTimer = undefined;
      this.flush();
    };
    this.#rateTimer = clock.setTimeout(onToken, this.bucket.wait(clock.monotonic()));
  }

  #hand(channel: SessionChannel, item: Waiting & { kind: 'packet' }, raw: Buffer | undefined): void {
    const { text, header } = item;
    const prepared = this.#pipeline.prepare(text, header, channel);
    this.#host.handed();
    if (typeof prepared === 'string') {
      channel.send(prepared === text ? (raw ?? text) : prepared, false, item, this.#pipeline.decision);
      return;
    }
    switch (prepared.kind) {
      case 'invalid':
        return this.#host.close('bad_packet', CloseCode.policyViolation);
      case 'refused':
        this.#skip = header.attachments;
        return this.#host.answer(prepared.answer);
      case 'wait':
        return this.#waitFor(item, prepared.until);
    }
  }

  #handBinary(channel: SessionChannel, item: Waiting & { kind: 'attachment' }): void {
    if (this.#skip > 0) this.#skip--;
    else channel.send(item.data, true, item, undefined);
  }

  /** Puts the packet back at the head of the queue: what came after it waits with it. */
  #waitFor(item: Waiting & { kind: 'packet' }, until: Promise<void>): void {
    this.#queue.unshift({ ...item, paid: true });
    this.#findingUser = true;
    void until.then(() => {
      this.#findingUser = false;
      this.flush();
    });
  }
}

function isLimited({ type }: PacketHeader): boolean {
  return type === SocketPacket.event || type === SocketPacket.binaryEvent || type === SocketPacket.connect;
}
