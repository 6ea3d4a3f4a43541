import { CloseCode } from '../../protocol/close-code.ts';
import { Opcode } from './websocket-frame.ts';

const FIN = 0x80;
const MASKED = 0x80;
const LENGTH_16 = 126;
const LENGTH_64 = 127;

/** What the peer sends. A `data` buffer is valid during the call alone. */
export interface FrameHandler {
  message(data: Buffer, binary: boolean): void;
  control(opcode: number, data: Buffer): void;
}

/** A peer that breaks the protocol, and the code to close with (RFC 6455, section 7.4.1). */
export class WebSocketProtocolError extends Error {
  override readonly name = 'WebSocketProtocolError';
  readonly closeCode: number;

  constructor(message: string, closeCode: number = CloseCode.protocolError) {
    super(message);
    this.closeCode = closeCode;
  }
}

const MAX_CONTROL = 125;
/** Endless empty fragments would cost memory that no byte limit sees. */
const MAX_FRAGMENTS = 16_384;

export interface FrameReaderOptions {
  /** Whether the peer must mask (a client) or must not (a server). */
  readonly masked: boolean;
  /** Largest message in bytes. */
  readonly maxMessage: number;
}

/** Reads a peer's frames from chunks of any size; keeps at most one unfinished message. No extensions. */
export class FrameReader {
  readonly #handler: FrameHandler;
  readonly #options: FrameReaderOptions;
  /** The beginning of a frame's head that a chunk cut off. */
  #head: Buffer | undefined;
  /** A payload that is longer than the chunk it began in. */
  #partial: { readonly first: number; readonly key: number; readonly data: Buffer; filled: number } | undefined;
  #fragments: Buffer[] = [];
  #fragmentedOpcode = 0;
  #fragmentedBytes = 0;

  constructor(handler: FrameHandler, options: FrameReaderOptions) {
    this.#handler = handler;
    this.#options = options;
  }

  /** Throws WebSocketProtocolError. Unmasks in the chunk itself, which may be reused afterwards. */
  push(input: Buffer): void {
    let chunk = input;
    if (this.#head !== undefined) {
      chunk = Buffer.concat([this.#head, input]);
      this.#head = undefined;
    }
    let offset = this.#fill(chunk);
    while (offset < chunk.length) {
      const next = this.#frame(chunk, offset);
      if (next === undefined) {
        this.#head = Buffer.from(chunk.subarray(offset));
        return;
      }
      offset = next;
    }
  }

  #fill(chunk: Buffer): number {
    const partial = this.#partial;
    if (partial === undefined) return 0;
    const wanted = partial.data.length - partial.filled;
    const taken = Math.min(wanted, chunk.length);
    chunk.copy(partial.data, partial.filled, 0, taken);
    partial.filled += taken;
    if (partial.filled === partial.data.length) {
      this.#partial = undefined;
      if (this.#options.masked) unmask(partial.data, 0, partial.data.length, partial.key);
      this.#complete(partial.first, partial.data);
    }
    return taken;
  }

  /** The index after the frame at `offset`, or undefined where not even its head is whole. */
  #frame(chunk: Buffer, offset: number): number | undefined {
    const available = chunk.length - offset;
    if (available < 2) return undefined;
    const first = chunk[offset] as number;
    const second = chunk[offset + 1] as number;
    const { masked } = this.#options;
    if (((second & MASKED) !== 0) !== masked) throw new WebSocketProtocolError('clients mask, servers do not');
    if ((first & 0x70) !== 0) throw new WebSocketProtocolError('no extension was agreed on');
    let size = second & 0x7f;
    let start = offset + 2;
    if (size === LENGTH_16) {
      if (available < 4) return undefined;
      size = chunk.readUInt16BE(start);
      start += 2;
    } else if (size === LENGTH_64) {
      if (available < 10) return undefined;
      size = chunk.readUInt32BE(start) * 0x1_0000_0000 + chunk.readUInt32BE(start + 4);
      start += 8;
    }
    this.#check(first, size);
    let key = 0;
    if (masked) {
      if (chunk.length < start + 4) return undefined;
      key = chunk.readInt32BE(start);
      start += 4;
    }
    const end = start + size;
    if (end <= chunk.length) {
      if (masked) unmask(chunk, start, end, key);
      this.#complete(first, chunk.subarray(start, end));
      return end;
    }
    const data = Buffer.allocUnsafe(size);
    this.#partial = { first, key, data, filled: chunk.copy(data, 0, start) };
    return chunk.length;
  }

  #check(first: number, size: number): void {
    const opcode = first & 0x0f;
    if (opcode >= Opcode.close) {
      if (opcode > Opcode.pong) throw new WebSocketProtocolError('an unknown opcode');
      if (size > MAX_CONTROL || (first & FIN) === 0) throw new WebSocketProtocolError('a control frame is too long');
      return;
    }
    if (opcode > Opcode.binary) throw new WebSocketProtocolError('an unknown opcode');
    const { maxMessage } = this.#options;
    if (this.#fragmentedBytes + size <= maxMessage && this.#fragments.length < MAX_FRAGMENTS) return;
    throw new WebSocketProtocolError(`a message exceeds ${maxMessage} bytes`, CloseCode.messageTooBig);
  }

  #complete(first: number, data: Buffer): void {
    const opcode = first & 0x0f;
    const isFinal = (first & FIN) !== 0;
    if (opcode >= Opcode.close) return this.#handler.control(opcode, data);
    const continues = opcode === Opcode.continuation;
    if (continues !== this.#fragments.length > 0) throw new WebSocketProtocolError('fragments out of order');
    if (isFinal && !continues) return this.#handler.message(data, opcode === Opcode.binary);
    if (!continues) this.#fragmentedOpcode = opcode;
    // An empty fragment counts as well: it holds the place of the message it began.
    this.#fragments.push(Buffer.from(data));
    this.#fragmentedBytes += data.length;
    if (!isFinal) return;
    const whole = Buffer.concat(this.#fragments);
    this.#fragments = [];
    this.#fragmentedBytes = 0;
    this.#handler.message(whole, this.#fragmentedOpcode === Opcode.binary);
  }
}

/** `key`: the four bytes of the masking key as one signed number (section 5.3). */
function unmask(buffer: Buffer, start: number, end: number, key: number): void {
  const k0 = (key >>> 24) & 0xff;
  const k1 = (key >>> 16) & 0xff;
  const k2 = (key >>> 8) & 0xff;
  const k3 = key & 0xff;
  let index = start;
  for (; index + 3 < end; index += 4) {
    buffer[index] = (buffer[index] as number) ^ k0;
    buffer[index + 1] = (buffer[index + 1] as number) ^ k1;
    buffer[index + 2] = (buffer[index + 2] as number) ^ k2;
    buffer[index + 3] = (buffer[index + 3] as number) ^ k3;
  }
  if (index < end) buffer[index] = (buffer[index] as number) ^ k0;
  if (index + 1 < end) buffer[index + 1] = (buffer[index + 1] as number) ^ k1;
  if (index + 2 < end) buffer[index + 2] = (buffer[index + 2] as number) ^ k2;
}
