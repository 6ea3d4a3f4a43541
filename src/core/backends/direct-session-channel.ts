import type { Clock, Timer } from '../../ports/clock.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { SendResult } from '../../ports/transport.ts';
import type { Channel, ChannelEnd, ChannelSink } from '../../ports/upstream.ts';
import { SocketPacket } from '../../protocol/socket-io.ts';
import { Connects } from '../links/connects.ts';
import type { Slot } from '../links/slots.ts';
import type { ConnectWatch } from '../relay/connect-watch.ts';
import type { Waiting } from '../relay/inbound-queue.ts';
import {
  NOTHING_LEFT,
  type Leftovers,
  type SessionChannel,
  type SessionChannelSink,
} from '../relay/session-channel.ts';
import { Stillness } from './stillness.ts';

/** A worker that has so many bytes unwritten is given nothing more until it has taken them. */
const HIGH_WATER = 256 * 1024;
/** How long a worker may take to connect a session's namespaces again. Milliseconds. */
const JOIN_TIMEOUT = 15_000;
/** Workers that take a session and lose it again, one after the other: more of them, and its client begins anew. */
const MAX_TRIES = 5;
/** An Engine.IO text frame with Socket.IO's DISCONNECT. */
const DISCONNECT = Buffer.from('41');

/** What brings a session whose worker has gone to another one. */
export interface Renewal {
  readonly namespace: string;
  readonly connectWatch: ConnectWatch;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** How long a session may be without a worker. Milliseconds. */
  readonly wait: number;
  /** Takes the dead worker's claim on the token away. Resolves in any case, soon. */
  forget(): Promise<void>;
  /** Calls `attach` of the channel with another connection; rejects where there was none in time, or `signal` ended. */
  reopen(channel: DirectSessionChannel, signal: AbortSignal): Promise<void>;
  /** The session is at its worker again, or over: who waits for its turn may come. */
  settled(channel: DirectSessionChannel): void;
}

/** A connection, and whose. */
interface Placement {
  readonly channel: Channel;
  readonly where: string;
  /** Called once, when the session lets go. */
  readonly release: () => void;
}

/**
 * A session's own connection to an unmodified worker. What was sent is the worker's, and nothing comes back. When the worker goes while
 * nothing of the session is at work there, another one takes the session and the client never notices; otherwise only the client itself can
 * begin anew, since nobody else knows what it has missed.
 */
export class DirectSessionChannel implements SessionChannel, ChannelSink {
  readonly #sink: SessionChannelSink;
  /** undefined: the state may be gone with its worker. */
  readonly #renewal: Renewal | undefined;
  readonly #connects: Connects | undefined;
  readonly #stillness: Stillness | undefined;
  #placement: Placement | undefined;
  /** Its place among those that the worker begins, until it has said something. */
  #turn: Slot | undefined;
  /** `joining`: the client's namespaces are being connected at another worker. */
  #state: 'open' | 'reopening' | 'joining' | 'closed' = 'open';
  #opening: AbortController | undefined;
  #timer: Timer | undefined;
  #full = false;
  #paused = false;
  /** Another worker would not know the session: it has another token by now, or its worker has ended it. */
  #isBound = false;
  /** Binary frames of the last packet that are still to come from the client. */
  #attachments = 0;
  #tries = 0;

  constructor(sink: SessionChannelSink, renewal: Renewal | undefined) {
    this.#sink = sink;
    this.#renewal = renewal;
    if (renewal === undefined) return;
    this.#connects = new Connects(renewal.namespace);
    this.#stillness = new Stillness(renewal.clock);
  }

  /** The worker takes the session. `turn`: whoever is next in line waits for it. */
  attach(placement: Placement, turn: Slot): void {
    if (this.#state === 'closed') {
      placement.channel.close();
      turn.release();
      return placement.release();
    }
    this.#placement = placement;
    this.#turn = turn;
    if (this.#paused) placement.channel.pause();
    if (this.#state !== 'reopening') return;
    this.#state = 'joining';
    this.#timer?.cancel();
    this.#timer = this.#renewal?.clock.setTimeout(() => this.#end('lost'), JOIN_TIMEOUT);
    for (const packet of this.#connects?.again(false) ?? []) placement.channel.send(packet, false);
  }

  /** Whatever answers at the backend's address: it may run the companion, or not. */
  readonly linkedAs = undefined;

  get where(): string {
    return this.#placement?.where ?? '';
  }

  get work(): 'unknown' | 'away' {
    return this.#placement === undefined ? 'away' : 'unknown';
  }

  get maxPayload(): number {
    return this.#placement?.channel.maxPayload ?? 0;
  }

  get bufferedBytes(): number {
    return this.#placement?.channel.bufferedBytes ?? 0;
  }

  ready(): boolean {
    return this.#placement !== undefined && this.#state === 'open' && !this.#full;
  }

  send(frame: string | Buffer, binary: boolean, item: Waiting): SendResult {
    const channel = this.#placement?.channel;
    if (channel === undefined || this.#state !== 'open') return 'dropped';
    this.#noteClient(item);
    const result = channel.send(frame, binary);
    if (result === 'queued' && channel.bufferedBytes > HIGH_WATER) this.#full = true;
    return result;
  }

  /** An unmodified worker takes events from its client alone. */
  run(): 'unable' {
    return 'unable';
  }

  rename(): void {
    this.#isBound = true;
  }

  clientGone(): void {
    // Nothing was begun, and nobody is there for whom another worker should be found.
    this.#isBound = true;
  }

  pause(): void {
    this.#paused = true;
    this.#placement?.channel.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#placement?.channel.resume();
  }

  close(): Promise<Leftovers> {
    const placement = this.#leave('closed');
    placement?.channel.close();
    return Promise.resolve(NOTHING_LEFT);
  }

  message(frame: Buffer, binary: boolean): void {
    if (this.#state === 'closed') return;
    if (this.#turn !== undefined) this.#endTurn();
    const renewal = this.#renewal;
    if (renewal === undefined) return this.#sink.message(frame, binary);
    if (this.#state === 'open') this.#stillness?.said();
    if (binary) return this.#sink.message(frame, true);
    if (frame.length > 1 && frame[1] === DISCONNECT[1]) this.#isBound = true;
    switch (this.#connects?.noteWorker(frame)) {
      case 'refused':
        return this.#end('refused');
      case 'swallow':
        return;
      case 'joined':
        return this.#joined();
      case 'pass':
        // Somebody else has the token there: the client comes back and is told so itself.
        if (this.#state === 'joining' && renewal.connectWatch.read(frame)?.kind === 'new_token')
          return this.#end('lost');
        return this.#sink.message(frame, false);
      case 'connected':
      case undefined:
        return this.#sink.message(frame, false);
    }
  }

  drained(): void {
    this.#full = false;
    if (this.#state === 'open') this.#sink.drained();
  }

  ended(reason: ChannelEnd): void {
    const renewal = this.#renewal;
    if (this.#state === 'closed') return;
    if (renewal === undefined || reason === 'refused' || this.#isBound) return this.#end(reason);
    const goesOn = this.#mayGoOn();
    this.#leave('reopening');
    void renewal.forget().then(() => {
      if (this.#state !== 'reopening') return;
      // Its client comes back, and finds its state.
      if (!goesOn) return this.#end(reason);
      renewal.metrics.sessionMoved(reason === 'closed' ? 'drained' : 'crashed');
      void this.#reopen(renewal);
    });
  }

  #noteClient(item: Waiting): void {
    if (item.kind === 'attachment') {
      this.#attachments--;
      return;
    }
    this.#attachments = item.header.attachments;
    const { type } = item.header;
    if (type !== SocketPacket.ack && type !== SocketPacket.disconnect) this.#stillness?.asked();
    this.#connects?.noteClient(item);
  }

  /** A session that is being connected anew has nothing at work either. */
  #mayGoOn(): boolean {
    if (this.#attachments > 0) return false;
    if (this.#state !== 'open') return this.#tries < MAX_TRIES;
    return this.#connects?.pending === false && this.#stillness?.holds === true;
  }

  async #reopen(renewal: Renewal): Promise<void> {
    this.#tries++;
    this.#opening = new AbortController();
    this.#timer = renewal.clock.setTimeout(() => this.#end('no_worker'), renewal.wait);
    try {
      await renewal.reopen(this, this.#opening.signal);
    } catch {
      if (this.#state === 'reopening') this.#end('no_worker');
    }
  }

  #joined(): void {
    if (this.#state !== 'joining') return;
    this.#timer?.cancel();
    this.#tries = 0;
    this.#state = 'open';
    this.#renewal?.settled(this);
    this.#sink.drained();
  }

  #end(reason: Parameters<SessionChannelSink['ended']>[0]): void {
    this.#leave('closed')?.channel.close();
    this.#sink.ended(reason);
  }

  /** Lets go of the worker. */
  #leave(state: 'reopening' | 'closed'): Placement | undefined {
    const placement = this.#placement;
    this.#placement = undefined;
    this.#state = state;
    this.#full = false;
    this.#timer?.cancel();
    this.#opening?.abort();
    this.#renewal?.settled(this);
    this.#endTurn();
    placement?.release();
    return placement;
  }

  #endTurn(): void {
    this.#turn?.release();
    this.#turn = undefined;
  }
}
