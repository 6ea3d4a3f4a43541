import type { WebSocketConnection, WebSocketSink } from '../../ports/transport.ts';
import { CloseCode } from '../../protocol/close-code.ts';
import type { Lane, LaneEnd, LaneSink } from './lane.ts';

/** An Engine.IO session's WebSocket. The sink changes hands once, when a polling session upgrades to it. */
export class WebSocketLane implements Lane, WebSocketSink {
  readonly transport = 'websocket';
  #connection: WebSocketConnection | undefined;
  #sink: LaneSink;

  constructor(sink: LaneSink) {
    this.#sink = sink;
  }

  /** The connection that this lane's own sink half belongs to. */
  attach(connection: WebSocketConnection): void {
    this.#connection = connection;
  }

  handTo(sink: LaneSink): void {
    this.#sink = sink;
  }

  get bufferedBytes(): number {
    return this.#connection?.bufferedBytes ?? 0;
  }

  send(packet: string | Buffer, binary: boolean): ReturnType<WebSocketConnection['send']> {
    return this.#connection?.send(packet, binary) ?? 'dropped';
  }

  pause(): boolean {
    return this.#connection?.pause() ?? false;
  }

  resume(): void {
    this.#connection?.resume();
  }

  close(code: number, reason: string): void {
    this.#connection?.close(code, reason);
  }

  terminate(): void {
    this.#connection?.terminate();
  }

  message(data: Buffer, binary: boolean): void {
    if (binary) this.#sink.binary(data);
    else this.#sink.text(data.toString(), data);
  }

  drained(): void {
    this.#sink.drained();
  }

  closed(code: number, clean: boolean): void {
    this.#sink.closed(laneEnd(code, clean));
  }
}

function laneEnd(code: number, clean: boolean): LaneEnd {
  if (clean) return 'client';
  if (code === CloseCode.messageTooBig) return 'too_large';
  return code === CloseCode.protocolError || code === 1007 ? 'bad_packet' : 'lost';
}
