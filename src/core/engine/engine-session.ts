import type { Clock, Timer } from '../../ports/clock.ts';
import type { SessionCloseReason } from '../../ports/metrics.ts';
import type { SendResult } from '../../ports/transport.ts';
import type { SessionId } from '../../protocol/brand.ts';
import { CloseCode } from '../../protocol/close-code.ts';
import {
  decodeBase64Packet,
  encodeOpen,
  EnginePacket,
  EnginePacketCode,
  joinPollingPackets,
} from '../../protocol/engine-io.ts';
import type { Lane, LaneEnd, LaneSink } from './lane.ts';
import { PollingLane } from './polling-lane.ts';
import { WebSocketLane } from './websocket-lane.ts';

/** Milliseconds, and for `maxPayload` code points of a text message. `pingTimeout` is at most `pingInterval`. */
export interface EngineOptions {
  readonly pingInterval: number;
  readonly pingTimeout: number;
  readonly upgradeTimeout: number;
  readonly maxPayload: number;
}

/** What an Engine.IO session brings to the one above it. No call comes after `closed`. */
export interface EngineSink {
  /** A message: text with its leading `4`. `raw` is the same as bytes, valid during the call, where there are any. */
  text(packet: string, raw: Buffer | undefined): void;
  binary(data: Buffer): void;
  drained(): void;
  closed(reason: SessionCloseReason): void;
}

const END_REASONS: Record<LaneEnd, SessionCloseReason> = {
  client: 'client_close',
  lost: 'connection_lost',
  too_large: 'too_large',
  bad_packet: 'bad_packet',
  queue_full: 'queue_full',
};

/** An Engine.IO 4 session on the server's side: handshake, heartbeat, and the move from polling to WebSocket. */
export class EngineSession implements LaneSink {
  readonly id: SessionId;
  #lane: Lane;
  #sink: EngineSink | undefined;
  readonly #options: EngineOptions;
  readonly #clock: Clock;
  #closed = false;
  #paused = false;
  #heartbeat: Timer | undefined;
  /** Whether anything arrived since the last ping: any packet shows that the client lives. */
  #heard = true;
  /** Told by whatever arrives next. */
  #onHeard: (() => void) | undefined;
  /** While the client is asked whether it lives. */
  #asking: Promise<boolean> | undefined;
  #probe: { readonly lane: WebSocketLane; readonly timeout: Timer } | undefined;

  /** `makeLane` gets the session as the lane's sink. */
  constructor(id: SessionId, makeLane: (sink: LaneSink) => Lane, options: EngineOptions, clock: Clock) {
    this.id = id;
    this.#options = options;
    this.#clock = clock;
    this.#lane = makeLane(this);
  }

  /** Sends the OPEN packet and begins the heartbeat. */
  open(sink: EngineSink): void {
    this.#sink = sink;
    const { pingInterval, pingTimeout, maxPayload } = this.#options;
    const upgrades = this.#lane.transport === 'polling' ? ['websocket'] : [];
    this.#lane.send(encodeOpen({ sid: this.id, upgrades, pingInterval, pingTimeout, maxPayload }), false);
    this.#schedulePing(pingInterval);
  }

  get transport(): Lane['transport'] {
    return this.#lane.transport;
  }

  get closedAlready(): boolean {
    return this.#closed;
  }

  get pollingLane(): PollingLane | undefined {
    return this.#lane instanceof PollingLane ? this.#lane : undefined;
  }

  get bufferedBytes(): number {
    return this.#lane.bufferedBytes;
  }

  /** Sends a message: text with its leading `4`, or a binary one as it is. */
  send(packet: string | Buffer, binary: boolean): SendResult {
    return this.#closed ? 'dropped' : this.#lane.send(packet, binary);
  }

  /** Sends the last messages a client gets, texts with their leading `4`; a polling client gets them in one answer. */
  sendLast(packets: readonly string[]): void {
    const pieces = this.#lane.transport === 'polling' ? [joinPollingPackets(packets)] : packets;
    for (const piece of pieces) this.send(piece, false);
  }

  /** Holds the client back where its lane can; its pongs are not read either, so the heartbeat waits. */
  pause(): void {
    if (!this.#closed && !this.#paused) this.#paused = this.#lane.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#heard = true;
    this.#lane.resume();
  }

  /** Whether the client shows within so many milliseconds that it lives: it is pinged. Who asks meanwhile gets the same answer. */
  probe(milliseconds: number): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    this.#asking ??= new Promise((resolve) => {
      const settle = (lives: boolean): void => {
        timer.cancel();
        this.#onHeard = this.#asking = undefined;
        if (this.#paused && !this.#closed) this.#paused = this.#lane.pause();
        resolve(lives);
      };
      const timer = this.#clock.setTimeout(() => settle(false), milliseconds);
      this.#onHeard = () => settle(!this.#closed);
      // Of a client that is held back not even a pong is read.
      if (this.#paused) this.#lane.resume();
      this.#lane.send(EnginePacket.ping, false);
    });
    return this.#asking;
  }

  /** Closes the transport alone: a Socket.IO DISCONNECT would keep Reflex's client from coming back. */
  close(reason: SessionCloseReason, code: number): void {
    if (this.#closed) return;
    // A close frame behind what is not read would keep that in memory.
    if (reason === 'slow_client') this.#lane.terminate();
    else this.#lane.close(code, reason);
    this.#end(reason);
  }

  /** A WebSocket that wants to take over from polling ("Upgrade"). False where none may. */
  beginUpgrade(): WebSocketLane | undefined {
    if (this.#closed || this.#probe !== undefined || !(this.#lane instanceof PollingLane)) return undefined;
    const lane = new WebSocketLane({
      text: (packet) => this.#probePacket(packet),
      binary: () => this.#cancelProbe(),
      drained: () => undefined,
      closed: () => this.#cancelProbe(),
    });
    const timeout = this.#clock.setTimeout(() => this.#cancelProbe(), this.#options.upgradeTimeout);
    this.#probe = { lane, timeout };
    return lane;
  }

  #probePacket(packet: string): void {
    const probe = this.#probe;
    const polling = this.pollingLane;
    if (probe === undefined || polling === undefined) return;
    if (packet === `${EnginePacket.ping}probe`) {
      probe.lane.send(`${EnginePacket.pong}probe`, false);
      polling.beginUpgrade();
      return;
    }
    if (packet !== EnginePacket.upgrade) {
      this.#cancelProbe();
      return;
    }
    probe.timeout.cancel();
    this.#probe = undefined;
    probe.lane.handTo(this);
    this.#lane = probe.lane;
    if (this.#paused) this.#paused = this.#lane.pause();
    for (const waiting of polling.release()) this.#sendPollingPacket(waiting);
    // What the kernel took at once tells of no drain, and a worker may be held back for what waited.
    if (this.#lane.bufferedBytes === 0) this.drained();
  }

  #sendPollingPacket(packet: string): void {
    const binary = packet.startsWith('b') ? decodeBase64Packet(packet) : undefined;
    this.#lane.send(binary ?? packet, binary !== undefined);
  }

  #cancelProbe(): void {
    this.#probe?.timeout.cancel();
    this.#probe?.lane.close(CloseCode.policyViolation, 'upgrade failed');
    this.#probe = undefined;
    this.pollingLane?.cancelUpgrade();
  }

  text(packet: string, raw: Buffer | undefined): void {
    if (this.#closed) return;
    this.#hear();
    switch (packet.charCodeAt(0)) {
      case EnginePacketCode.message:
        this.#sink?.text(packet, raw);
        return;
      case EnginePacketCode.pong:
        return;
      case EnginePacketCode.close:
        this.close('client_close', CloseCode.normal);
        return;
      default:
        this.#textOfOtherType(packet);
    }
  }

  /** Clients that cannot send binary frames write `b` and base64 on a WebSocket too. */
  #textOfOtherType(packet: string): void {
    const data = packet.startsWith('b') ? decodeBase64Packet(packet) : undefined;
    if (data === undefined) this.close('bad_packet', CloseCode.protocolError);
    else this.#sink?.binary(data);
  }

  binary(data: Buffer): void {
    if (this.#closed) return;
    this.#hear();
    this.#sink?.binary(data);
  }

  #hear(): void {
    this.#heard = true;
    this.#onHeard?.();
  }

  drained(): void {
    if (!this.#closed) this.#sink?.drained();
  }

  closed(how: LaneEnd): void {
    this.#end(END_REASONS[how]);
  }

  /** One ping each interval, from ping to ping: a client gives up an interval and a timeout after the last one. */
  #schedulePing(wait: number): void {
    const { pingTimeout, pingInterval } = this.#options;
    this.#heartbeat = this.#clock.setTimeout(() => {
      this.#heard = false;
      this.#lane.send(EnginePacket.ping, false);
      this.#heartbeat = this.#clock.setTimeout(() => this.#checkPong(pingInterval - pingTimeout), pingTimeout);
    }, wait);
  }

  #checkPong(untilNextPing: number): void {
    if (this.#heard || this.#paused) this.#schedulePing(untilNextPing);
    else this.close('ping_timeout', CloseCode.goingAway);
  }

  #end(reason: SessionCloseReason): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#heartbeat?.cancel();
    this.#onHeard?.();
    if (this.#probe !== undefined) this.#cancelProbe();
    this.#sink?.closed(reason);
  }
}
