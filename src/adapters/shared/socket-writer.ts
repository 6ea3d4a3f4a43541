import type { Duplex } from 'node:stream';

/** Writers with something to write in this turn of the event loop. */
let due: SocketWriter[] = [];
/** The last turn had so little to write that nothing is gained by waiting for the end of this one. */
let isCalm = true;

/** Writers in one turn: more of them, and the process is busy. */
const CALM = 2;

function writeAll(): void {
  const writers = due;
  due = [];
  isCalm = writers.length <= CALM;
  for (const writer of writers) writer.endTurn();
}

/**
 * Writes to a socket once in a turn of the event loop, in one piece: many sessions that are busy at the same time then
 * cost their peers one wake-up instead of many. Nothing waits longer than the turn; while little happens, the first piece of a turn does not
 * wait at all, and what its writer still has to do is done while the peer reads it.
 */
export class SocketWriter {
  readonly #socket: Duplex;
  readonly #onDrained: () => void;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #isDue = false;
  #watching = false;

  /** `onDrained`: everything written so far has been handed to the kernel. Not called from within `write`. */
  constructor(socket: Duplex, onDrained: () => void) {
    this.#socket = socket;
    this.#onDrained = onDrained;
  }

  /** Bytes that the kernel has not taken yet. */
  get bufferedBytes(): number {
    return this.#pendingBytes + this.#socket.writableLength;
  }

  write(data: Buffer): void {
    if (isCalm && !this.#isDue && this.#socket.writable) this.#socket.write(data);
    else {
      this.#pending.push(data);
      this.#pendingBytes += data.length;
    }
    if (this.#isDue) return;
    this.#isDue = true;
    if (due.push(this) === 1) setImmediate(writeAll);
  }

  /** Writes at once what waits for the end of the turn. */
  flush(): void {
    const [first] = this.#pending;
    if (first === undefined) return;
    const data = this.#pending.length === 1 ? first : Buffer.concat(this.#pending, this.#pendingBytes);
    this.#pending = [];
    this.#pendingBytes = 0;
    if (this.#socket.writable) this.#socket.write(data);
  }

  endTurn(): void {
    this.#isDue = false;
    this.flush();
    if (!this.#socket.writable) return;
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
