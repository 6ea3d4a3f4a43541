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
import type { Lane, LaneSink } from './lane.ts';

const TEXT = { 'content-type': 'text/plain; charset=UTF-8', 'cache-control': 'no-store' } as const;

/**
 * HTTP long-polling (Engine.IO 4, "HTTP long-polling"): packets wait here until the client asks for them; at most one
 * request of each method at a time.
 */
export class PollingLane implements Lane {
  readonly transport = 'polling';
  readonly #sink: LaneSink;
  /** Largest request body in bytes. */
  readonly #maxBody: number;
  #waiting: string[] = [];
  #bufferedBytes = 0;
  #poll: { readonly exchange: HttpExchange; readonly headers: Headers } | undefined;
  #posting = false;
  #closed = false;
  /** While the client probes a WebSocket, polls are answered at once so that it can let go of them. */
  #upgrading = false;

  constructor(sink: LaneSink, maxBody: number) {
    this.#sink = sink;
    this.#maxBody = maxBody;
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
      respondError(exchange, 400, 'unknown_sid', 'This session has ended.', headers);
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

  /** Takes a POST with packets; its answer follows once they have been handed on. */
  async post(exchange: HttpExchange, headers: Headers): Promise<void> {
    if (this.#posting) {
      respondError(exchange, 400, 'overlapping_post', 'This session is already sending.', headers);
      this.#end('bad_packet');
      return;
    }
    this.#posting = true;
    const body = await readBody(exchange, this.#maxBody);
    this.#posting = false;
    switch (body.kind) {
      case 'aborted':
        return;
      case 'too_large':
        respondError(exchange, 413, 'too_large', `A polling body may have at most ${this.#maxBody} bytes.`, headers);
        this.#end('too_large');
        return;
      case 'body':
        exchange.respond(200, { ...TEXT, ...headers }, 'ok');
        for (const packet of splitPollingBody(body.bytes.toString())) this.#receive(packet);
    }
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
    this.#closed = true;
    this.#flush();
    return rest;
  }

  /** Reading stops by itself: no further POST is answered before the one before was handed on. */
  pause(): boolean {
    return false;
  }

  resume(): void {
    // Nothing was paused.
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waiting.push(EnginePacket.close);
    this.#flush();
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

  #end(how: 'lost' | 'bad_packet' | 'too_large'): void {
    if (this.#closed) return;
    this.close();
    this.#sink.closed(how);
  }
}
