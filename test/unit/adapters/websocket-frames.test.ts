import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameReader, WebSocketProtocolError } from '../../../src/adapters/shared/frame-reader.ts';
import { encodeWebSocketFrame, Opcode } from '../../../src/adapters/shared/websocket-frame.ts';

interface Message {
  readonly data: Buffer;
  readonly binary: boolean;
}

function read(chunks: readonly Buffer[], options: { masked: boolean; maxMessage?: number }): Message[] {
  const messages: Message[] = [];
  const handler = {
    message: (data: Buffer, binary: boolean): void => void messages.push({ data: Buffer.from(data), binary }),
    control: (): void => undefined,
  };
  const reader = new FrameReader(handler, { maxMessage: 1_000_000, ...options });
  for (const chunk of chunks) {
    // As from a socket that reads into one buffer again and again.
    const reused = Buffer.from(chunk);
    reader.push(reused);
    reused.fill(0xee);
  }
  return messages;
}

/** Cuts a stream into pieces of the given sizes, over and over. */
function cut(stream: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (let offset = 0, turn = 0; offset < stream.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    chunks.push(stream.subarray(offset, offset + size));
    offset += size;
  }
  return chunks;
}

const message = fc.record({
  data: fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.uint8Array({ minLength: 65_530, maxLength: 65_540 })),
  binary: fc.boolean(),
});

describe('WebSocket frames', () => {
  it.each([true, false])('survive any way of being cut into chunks (masked: %s)', (masked) => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 70_000 }), { minLength: 1 }),
        (sent, sizes) => {
          const frames = sent.map(({ data, binary }) =>
            encodeWebSocketFrame(binary ? Opcode.binary : Opcode.text, Buffer.from(data), masked),
          );
          const received = read(cut(Buffer.concat(frames), sizes), { masked });
          expect(received.map(({ data, binary }) => ({ data: [...data], binary }))).toEqual(
            sent.map(({ data, binary }) => ({ data: [...data], binary })),
          );
        },
      ),
      { numRuns: 60 },
    );
  });

  it('puts fragments together, with control frames between them', () => {
    const fragment = (opcode: number, text: string, final: boolean): Buffer => {
      const frame = encodeWebSocketFrame(opcode, text, false);
      if (!final) frame[0] = (frame[0] as number) & 0x7f;
      return frame;
    };
    const stream = Buffer.concat([
      fragment(Opcode.text, '', false),
      fragment(Opcode.continuation, 'one ', false),
      encodeWebSocketFrame(Opcode.ping, 'still there?', false),
      fragment(Opcode.continuation, 'two', true),
    ]);
    const received = read(cut(stream, [3]), { masked: false });
    expect(received.map(({ data }) => data.toString())).toEqual(['one two']);
  });

  const broken: [string, Buffer, number][] = [
    ['an unmasked frame of a client', Buffer.from([0x81, 0x01, 0x61]), 1002],
    ['a reserved bit', Buffer.from([0xc1, 0x80, 0, 0, 0, 0]), 1002],
    ['an unknown opcode', Buffer.from([0x83, 0x80, 0, 0, 0, 0]), 1002],
    ['an unknown control opcode', Buffer.from([0x8b, 0x80, 0, 0, 0, 0]), 1002],
    ['a control frame in fragments', Buffer.from([0x09, 0x80, 0, 0, 0, 0]), 1002],
    ['a control frame of 126 bytes', Buffer.from([0x89, 0xfe, 0x00, 0x7e]), 1002],
    ['a continuation of nothing', Buffer.from([0x80, 0x80, 0, 0, 0, 0]), 1002],
    ['a message over the limit, by its length alone', Buffer.from([0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0]), 1009],
  ];

  it.each(broken)('refuses %s', (_what, bytes, code) => {
    let thrown: unknown;
    try {
      read([bytes], { masked: true, maxMessage: 1_000 });
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(WebSocketProtocolError);
    expect((thrown as WebSocketProtocolError).closeCode).toBe(code);
  });

  it('refuses fragments that together exceed the limit', () => {
    const first = encodeWebSocketFrame(Opcode.text, 'a'.repeat(600), true);
    first[0] = Opcode.text;
    const second = encodeWebSocketFrame(Opcode.continuation, 'b'.repeat(600), true);
    expect(() => read([first, second], { masked: true, maxMessage: 1_000 })).toThrow(/exceeds 1000 bytes/);
  });
});
