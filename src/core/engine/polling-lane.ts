import type { Clock } from '../../ports/clock.ts';
import type { Headers, HttpExchange, SendResult } from '../../ports/transport.ts';
import {
  decodeBase64Packet,
  encodePollingMessage,
  EnginePacket,
  joinPollingPackets,
  splitPollingBody,
} from '../../protocol/engine-io.ts';
import { readBody } from '../http/read-body.ts';
import { respondError } from '../http/respond.ts';
import type { QueueBudget } from '../limits/queue-budget.ts';
import type { Lane, LaneEnd, LaneSink } from './lane.ts';

const TEXT = { 'content-type': 'text/plain; charset=UTF-8', 'cache-control': 'no-store' } as const;

/** A body that stands still for so long, or up to twice that, is given up. Milliseconds. */
const BODY_IDLE = 15_000;

export interface PollingLimits {
  /** Largest request body in bytes. */
  readonly maxBody: number;
  /** Of what waits in all sessions together: bodies that come slowly are part of it. */
  readonly budget: QueueBudget;
  readonly clock: Clock;
}

/**
 * HTTP long-polling (Engine.IO 4, "HTTP long-polling"): packets wait here until the client asks for them; at most one
 * request of each method at a time.
 */
export class PollingLane implements Lane {
  readonly transport = 'polling';
  readonly #sink: LaneSink;
  readonly #limits: PollingLimits;
  #waiting: string[] = [];
  #bufferedBytes = 0;
  #poll: { readonly exchange: HttpExchange; readonly headers: Headers } | undefined;
  #posting = false;
  /** Ends the reading of a POST's body. */
  #reading: AbortController | undefined;
  #paused = false;
  /** Answers the POST that was handed on while the lane was paused. */
  #answerPost: (() => void) | undefined;
  #closed = false;
  /** While the client probes a WebSocket, polls are answered at once so that it can let go of them. */
  #upgrading = false;

  constructor(sink: LaneSink, limits: PollingLimits) {
    this.#sink = sink;
    this.#limits = limits;
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  send(packet: string | Buffer, binary: boolean): SendResult {
    if (this.#closed) return 'dropped';
    const text = binary ? encodePollingMessage(packet) : packet.toString();
    this.#waiting.push(text);
    this.#bufferedBytes += Buffer.byteLength(text);
    return this.#flush() ? 'flushed' : 'queued';
  }

  /** Takes a GET that waits for packets. */
  poll(exchange: HttpExchange, headers: Headers): void {
    if (this.#poll !== undefined) {
      respondError(exchange, 400, 'overlapping_poll', 'This session already has a poll waiting.', headers);
      this.#end('bad_packet');
      return;
    }
    if (this.#closed) {
      this.#refuseEnded(exchange, headers);
      return;
    }
    this.#poll = { exchange, headers };
    exchange.onAbort(() => {
      if (this.#poll?.exchange !== exchange) return;
      this.#poll = undefined;
      this.#end('lost');
    });
    if (!this.#flush() && this.#upgrading) this.send(EnginePacket.noop, false);
  }

  /** Takes a POST with packets; its answer follows once they have been handed on, and no sooner than the lane is paused no more. */
  async post(exchange: HttpExchange, headers: Headers): Promise<void> {
    if (this.#posting) {
      respondError(exchange, 400, 'overlapping_post', 'This session is already sending.', headers);
      this.#end('bad_packet');
      return;
    }
    if (this.#closed) return this.#refuseEnded(exchange, headers);
    this.#posting = true;
    this.#reading = new AbortController();
    const { maxBody, budget, clock } = this.#limits;
    const { signal } = this.#reading;
    const body = await readBody(exchange, { limit: maxBody, idle: BODY_IDLE, budget, clock, signal });
    this.#reading = undefined;
    if (body.kind === 'body') return this.#handOn(body.bytes.toString(), exchange, headers);
    this.#posting = false;
    switch (body.kind) {
      case 'aborted':
        return;
      case 'unwanted':
        return this.#refuseEnded(exchange, headers);
      case 'too_large':
        respondError(exchange, 413, 'too_large', `A polling body may have at most ${maxBody} bytes.`, headers);
        return this.#end('too_large');
      case 'idle':
        respondError(exchange, 408, 'idle', 'The body stood still for too long.', headers);
        return this.#end('lost');
      case 'no_room':
        respondError(exchange, 503, 'queue_full', 'Too much waits here already: please try again.', headers);
        return this.#end('queue_full');
    }
  }

  #handOn(packets: string, exchange: HttpExchange, headers: Headers): void {
    for (const packet of splitPollingBody(packets)) this.#receive(packet);
    this.#answerPost = () => {
      this.#answerPost = undefined;
      this.#posting = false;
      exchange.respond(200, { ...TEXT, ...headers }, 'ok');
    };
    if (!this.#paused || this.#closed) this.#answerPost();
  }

  #refuseEnded(exchange: HttpExchange, headers: Headers): void {
    respondError(exchange, 400, 'unknown_sid', 'This session has ended.', headers);
  }

  #receive(packet: string): void {
    if (this.#closed) return;
    if (!packet.startsWith('b')) {
      this.#sink.text(packet, undefined);
      return;
    }
    const data = decodeBase64Packet(packet);
    if (data === undefined) this.#end('bad_packet');
    else this.#sink.binary(data);
  }

  beginUpgrade(): void {
    this.#upgrading = true;
    if (this.#poll !== undefined) this.send(EnginePacket.noop, false);
  }

  cancelUpgrade(): void {
    this.#upgrading = false;
  }

  /** Ends the lane for an upgrade and returns what still waits. A poll that waits gets a NOOP. */
  release(): string[] {
    const rest = this.#waiting;
    this.#waiting = [EnginePacket.noop];
    this.#over();
    return rest;
  }

  /** A client sends nothing more before its last POST is answered. */
  pause(): boolean {
    this.#paused = true;
    return true;
  }

  resume(): void {
    this.#paused = false;
    this.#answerPost?.();
  }

  close(): void {
    if (this.#closed) return;
    this.#waiting.push(EnginePacket.close);
    this.#over();
  }

  terminate(): void {
    this.#waiting = [];
    this.#bufferedBytes = 0;
    this.close();
  }

  /** Nothing is taken any more; whoever waits is answered. */
  #over(): void {
    this.#closed = true;
    this.#flush();
    this.#answerPost?.();
    this.#reading?.abort();
  }

  #flush(): boolean {
    const poll = this.#poll;
    if (poll === undefined || this.#waiting.length === 0) return false;
    const body = joinPollingPackets(this.#waiting);
    const hadQueue = this.#bufferedBytes > 0;
    this.#waiting = [];
    this.#bufferedBytes = 0;
    this.#poll = undefined;
    poll.exchange.respond(200, { ...TEXT, ...poll.headers }, body);
    if (hadQueue && !this.#closed) queueMicrotask(() => this.#sink.drained());
    return true;
  }

  #end(how: LaneEnd): void {
    if (this.#closed) return;
    this.close();
    this.#sink.closed(how);
  }
}
