import type { SendResult } from '../../ports/transport.ts';
import type { Channel, ChannelEnd, ChannelSink } from '../../ports/upstream.ts';
import { decodeOpen, EnginePacket, EnginePacketCode, type Handshake } from '../../protocol/engine-io.ts';
import { RawWebSocket, type RawWebSocketSink, type RawWebSocketTarget } from './raw-websocket.ts';

/** Opens a WebSocket to a worker and completes the Engine.IO handshake (Engine.IO 4, "Handshake"). */
export function openDirectChannel(
  target: RawWebSocketTarget,
  sink: ChannelSink,
  signal: AbortSignal,
): Promise<Channel> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const fail = (error: Error): void => {
      signal.removeEventListener('abort', abort);
      socket.destroy();
      reject(error);
    };
    const abort = (): void => fail(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    signal.addEventListener('abort', abort, { once: true });
    const channel = new DirectChannel(sink, (error) => {
      if (error !== undefined) return fail(error);
      signal.removeEventListener('abort', abort);
      resolve(channel);
    });
    const socket = new RawWebSocket(target, channel, (error) => {
      if (error !== undefined) fail(error);
    });
    channel.attach(socket);
  });
}

class DirectChannel implements Channel, RawWebSocketSink {
  maxPayload = 0;
  readonly #sink: ChannelSink;
  #onOpen: ((error: Error | undefined) => void) | undefined;
  #socket: RawWebSocket | undefined;
  #watchdog: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(sink: ChannelSink, onOpen: (error: Error | undefined) => void) {
    this.#sink = sink;
    this.#onOpen = onOpen;
  }

  attach(socket: RawWebSocket): void {
    this.#socket = socket;
  }

  get bufferedBytes(): number {
    return this.#socket?.bufferedBytes ?? 0;
  }

  send(frame: string | Buffer, binary: boolean): SendResult {
    if (this.#closed || this.#socket?.open !== true) return 'dropped';
    this.#socket.send(frame, binary);
    return 'queued';
  }

  pause(): void {
    this.#socket?.pause();
  }

  resume(): void {
    this.#watchdog?.refresh();
    this.#socket?.resume();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#watchdog);
    this.#socket?.close();
  }

  message(data: Buffer, binary: boolean): void {
    if (this.#closed) return;
    if (this.#onOpen !== undefined) return this.#open(binary ? undefined : decodeOpen(data.toString()));
    if (binary) return this.#sink.message(data, true);
    switch (data[0] ?? 0) {
      case EnginePacketCode.message:
        return this.#sink.message(data, false);
      case EnginePacketCode.ping:
        this.#watchdog?.refresh();
        // A probe's content comes back with it; a heartbeat has none.
        this.#socket?.send(EnginePacket.pong + data.toString('utf8', 1), false);
        return;
      case EnginePacketCode.close:
        this.#socket?.close();
        return this.#end('closed');
      default:
        return;
    }
  }

  drained(): void {
    if (!this.#closed && this.#onOpen === undefined) this.#sink.drained();
  }

  ended(orderly: boolean): void {
    if (this.#onOpen !== undefined) this.#settle(new Error('the worker closed before the handshake was complete'));
    else this.#end(orderly ? 'closed' : 'lost');
  }

  #open(handshake: Handshake | undefined): void {
    if (handshake === undefined) return this.#settle(new Error('the worker does not speak Engine.IO 4'));
    this.maxPayload = handshake.maxPayload;
    // Without a word from the worker for this long it is gone: it pings every interval. Milliseconds.
    const silence = handshake.pingInterval + handshake.pingTimeout;
    this.#watchdog = setTimeout(() => this.#onSilence(), silence).unref();
    this.#settle(undefined);
  }

  #settle(error: Error | undefined): void {
    const onOpen = this.#onOpen;
    this.#onOpen = undefined;
    // Who never got the channel must not hear of its end.
    if (error !== undefined) this.#closed = true;
    onOpen?.(error);
  }

  #onSilence(): void {
    if (this.#socket?.paused === true) this.#watchdog?.refresh();
    else this.#socket?.destroy();
  }

  #end(reason: ChannelEnd): void {
    clearTimeout(this.#watchdog);
    if (this.#closed) return;
    this.#closed = true;
    this.#sink.ended(reason);
  }
}
