import type { Duplex } from 'node:stream';

/** Writers with something to write in this turn of the event loop. */
let due: SocketWriter[] = [];

function writeAll(): void {
  const writers = due;
  due = [];
  for (const writer of writers) writer.flush();
}

/**
 * Writes to a socket once in a turn of the event loop, in one piece: many sessions that are busy at the same time then
 * cost their peers one wake-up instead of many. Nothing waits longer than the turn.
 */
export class SocketWriter {
  readonly #socket: Duplex;
  readonly #onDrained: () => void;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #watching = false;

  /** `onDrained`: everything written so far has been handed to the kernel. */
  constructor(socket: Duplex, onDrained: () => void) {
    this.#socket = socket;
    this.#onDrained = onDrained;
  }

  /** Bytes that the kernel has not taken yet. */
  get bufferedBytes(): number {
    return this.#pendingBytes + this.#socket.writableLength;
  }

  write(data: Buffer): void {
    if (this.#pending.push(data) === 1 && due.push(this) === 1) setImmediate(writeAll);
    this.#pendingBytes += data.length;
  }

  /** Writes at once what waits for the end of the turn. */
  flush(): void {
    if (this.#pending.length === 0) return;
    const [first] = this.#pending;
    const data =
      this.#pending.length === 1 && first !== undefined ? first : Buffer.concat(this.#pending, this.#pendingBytes);
    this.#pending = [];
    this.#pendingBytes = 0;
    if (!this.#socket.writable) return;
    this.#socket.write(data);
    if (this.#socket.writableLength === 0) this.#onDrained();
    else this.#watch();
  }

  /** An empty write is done after everything before it; `drain` would come only above the high-water mark. */
  #watch(): void {
    if (this.#watching) return;
    this.#watching = true;
    this.#socket.write('', () => {
      this.#watching = false;
      if (this.#socket.writableLength === 0) this.#onDrained();
      else if (this.#socket.writable) this.#watch();
    });
  }
}
