import type { Socket } from 'node:net';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { SendResult } from '../../ports/transport.ts';
import { encodeControl, FrameError, FrameReader, LinkFrame, type Frame } from '../../protocol/link.ts';
import { SocketWriter } from '../shared/socket-writer.ts';

/** `lost`: the stream was read to its end. `silent`: what the worker sent last, or did, nobody can tell. */
export type StreamEnd = 'lost' | 'silent';

export interface ConnectionEvents {
  /** Valid during the call. May throw FrameError. */
  frame(frame: Frame): void;
  /** All that came with it was given to `frame`. May throw FrameError. */
  read(): void;
  /** The worker broke the protocol: say so with `fail`. */
  broken(cause: FrameError): void;
  /** It was slow, and all has been written out. */
  drained(): void;
  /** Once, after everything that came was given to `frame`. */
  ended(end: StreamEnd, reason: string): void;
}

/**
 * A worker that hangs holds its users up until this is noticed, after three heartbeats of silence: 5.1 s. It cannot be much
 * shorter: a handler that is not asynchronous stands in the way of the worker's answers, and 2 or 3 s of that are no reason to take
 * its sessions away. Milliseconds.
 */
export const HEARTBEAT = 1_700;
const SILENCE = 3 * HEARTBEAT;
/** A timer that is later than this tells that the process itself stood still. Milliseconds. */
const STOOD_STILL = 100;
/** With more than this unsent, sessions are to wait. Bytes. */
const HIGH_WATER = 1024 * 1024;
/** What comes on top is the message that went over it, and control frames. More than this: the worker does not read. Bytes. */
const MAX_UNSENT = 64 * 1024 * 1024;
/** What waits is sent within this, else the worker does not read. Milliseconds. */
const MAX_SLOW = 15_000;
/** How long a connection stays that was told to end. Milliseconds. */
const LINGER = 1_000;
const RESET = 'ECONNRESET';
const probe = encodeControl(LinkFrame.ping, { t: 0 });

/** Frames over one socket: one write a turn of the loop, heartbeat, and a true word about how it ended. */
export class LinkConnection {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #events: ConnectionEvents;
  readonly #reader = new FrameReader();
  readonly #writer: SocketWriter;
  #phase: 'open' | 'leaving' | 'over' = 'open';
  #reason = 'closed by the worker';
  #timer: Timer | undefined;
  #heardAt: number;
  #sentAt: number;
  #slowSince: number | undefined;

  constructor(socket: Socket, clock: Clock, events: ConnectionEvents) {
    this.#socket = socket;
    this.#clock = clock;
    this.#events = events;
    this.#writer = new SocketWriter(socket, () => this.#drained());
    this.#heardAt = this.#sentAt = clock.monotonic();
    const isLocal = socket.remoteAddress === undefined;
    let isReset = false;
    keepReading(socket, (cause) => (isReset ||= codeOf(cause) === RESET));
    socket.on('data', (chunk: Buffer) => this.#data(chunk));
    // A process that is killed with something unread resets its connection. Over TCP its kernel then drops what it has not sent yet,
    // receipts too; over a Unix socket everything that was written is there to be read. Who is told of the reset by a
    // write reads the end of the stream like any other.
    socket.on('end', () => {
      // libuv tells a reset that follows the last bytes as an end. The socket still has the error, and a write gets it.
      if (!isLocal && !socket.destroyed) socket._write(probe, 'buffer' as BufferEncoding, () => undefined);
      this.#finish(isReset && !isLocal ? 'silent' : 'lost');
    });
    socket.on('error', (cause) => {
      const code = codeOf(cause);
      if (this.#phase === 'open') this.#reason = code ?? cause.message;
      this.#finish(code === RESET && isLocal ? 'lost' : 'silent');
    });
    socket.on('close', () => this.#finish('silent'));
  }

  /** Bytes that a frame's length may say. */
  set limit(bytes: number) {
    this.#reader.limit = bytes;
  }

  /** Neither told to end nor over. */
  get open(): boolean {
    return this.#phase === 'open';
  }

  /** So much waits that sessions should send nothing until `drained`. */
  get slow(): boolean {
    return this.#slowSince !== undefined;
  }

  send(type: number, message: object): void {
    this.write(encodeControl(type, message));
  }

  write(frame: Buffer): SendResult {
    if (this.#phase !== 'open') return 'dropped';
    this.#sentAt = this.#clock.monotonic();
    this.#writer.write(frame);
    const { bufferedBytes } = this.#writer;
    if (bufferedBytes > HIGH_WATER) this.#slowSince ??= this.#sentAt;
    // Not from within a session's own call.
    if (bufferedBytes > MAX_UNSENT) queueMicrotask(() => this.abort('the worker does not read'));
    return 'queued';
  }

  /** From now on the worker must be heard. */
  beat(): void {
    const due = Math.min(this.#heardAt + SILENCE, this.#sentAt + HEARTBEAT);
    this.#timer = this.#clock.setTimeout(() => this.#onBeat(due), Math.max(0, due - this.#clock.monotonic()));
  }

  /** Sends what waits and no more. What the worker still says is read, but not for longer than `milliseconds`. */
  leave(reason: string, milliseconds = LINGER): void {
    if (this.#phase !== 'open') return;
    this.#reason = reason;
    this.#endWriting();
    this.#phase = 'leaving';
    this.#timer?.cancel();
    this.#timer = this.#clock.setTimeout(() => this.#finish('silent'), milliseconds);
  }

  /** Sends this as the last word and hears nothing more. */
  fail(type: number, message: object, reason: string): void {
    if (this.#phase === 'over') return;
    this.#reason = reason;
    this.send(type, message);
    this.#endWriting();
    this.#clock.setTimeout(() => this.#socket.destroy(), LINGER);
    this.#socket.destroySoon();
    this.#over('silent');
  }

  /** Ends it at once. */
  abort(reason: string): void {
    if (this.#phase === 'open') this.#reason = reason;
    this.#finish('silent');
  }

  #endWriting(): void {
    this.#writer.flush();
    this.#socket.end();
  }

  #data(chunk: Buffer): void {
    if (this.#phase === 'over') return;
    this.#heardAt = this.#clock.monotonic();
    try {
      this.#read(chunk);
    } catch (cause) {
      if (!(cause instanceof FrameError)) throw cause;
      this.#events.broken(cause);
    }
  }

  #read(chunk: Buffer): void {
    try {
      this.#reader.push(chunk, this.#take);
    } finally {
      this.#events.read();
    }
  }

  readonly #take = (frame: Frame): boolean => {
    this.#events.frame(frame);
    return this.#phase !== 'over';
  };

  #onBeat(due: number): void {
    const now = this.#clock.monotonic();
    // What the worker said while this process stood still is yet to be read.
    if (now - due > STOOD_STILL) this.#heardAt = Math.min(now, this.#heardAt + now - due);
    if (now - this.#heardAt >= SILENCE) return this.abort('no word from the worker');
    if (this.#slowSince !== undefined && now - this.#slowSince >= MAX_SLOW)
      return this.abort('the worker does not read');
    if (now - this.#sentAt >= HEARTBEAT) this.send(LinkFrame.ping, { t: this.#clock.now() });
    this.beat();
  }

  #drained(): void {
    if (this.#slowSince === undefined || this.#phase !== 'open') return;
    this.#slowSince = undefined;
    this.#events.drained();
  }

  #finish(end: StreamEnd): void {
    if (this.#phase === 'over') return;
    this.#socket.destroy();
    this.#over(end);
  }

  #over(end: StreamEnd): void {
    this.#phase = 'over';
    this.#timer?.cancel();
    this.#events.ended(end, this.#reason);
  }
}

/**
 * Node destroys a socket when a write fails, and with it what the worker had sent before it went. Here a failed write is left to
 * the reading side: the end of the stream, or the reset, comes there as well, after everything else.
 */
function keepReading(socket: Socket, failed: (cause: Error) => void): void {
  const quietly =
    (done: () => void) =>
    (cause?: Error | null): void => {
      if (cause instanceof Error) failed(cause);
      done();
    };
  const write = socket._write.bind(socket);
  socket._write = (chunk, encoding, done) => write(chunk, encoding, quietly(done));
  const writev = socket._writev?.bind(socket);
  if (writev !== undefined) socket._writev = (chunks, done) => writev(chunks, quietly(done));
}

function codeOf(cause: Error): string | undefined {
  return 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
}
