import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Decoder, Encoder, PacketType, type Packet } from 'socket.io-parser';
import { encodeConnectError, encodeEvent, parseHeader } from '../../../src/protocol/socket-io.ts';

/** What stands behind the head, or undefined where the packet is refused. */
function read(
  text: string,
): { type: number; attachments: number; namespace: string; ack: boolean; data: string } | undefined {
  const header = parseHeader(text, 0);
  if (header === undefined) return undefined;
  const { type, attachments, namespace, acknowledge, dataStart } = header;
  return { type, attachments, namespace, ack: acknowledge, data: text.slice(dataStart) };
}

describe("a packet's head", () => {
  it.each([
    ['0', 0, 0, '/', false, ''],
    ['0{"token":"x"}', 0, 0, '/', false, '{"token":"x"}'],
    ['0/_event,', 0, 0, '/_event', false, ''],
    ['0/_event', 0, 0, '/_event', false, ''],
    ['0/_event,{"event":{}}', 0, 0, '/_event', false, '{"event":{}}'],
    ['0/chat?a=1,', 0, 0, '/chat', false, ''],
    ['0/chat?a=1&b=2,{}', 0, 0, '/chat', false, '{}'],
    ['2["a",1]', 2, 0, '/', false, '["a",1]'],
    ['2/chat,["a?b"]', 2, 0, '/chat', false, '["a?b"]'],
    ['2/chat,12["a"]', 2, 0, '/chat', true, '["a"]'],
    ['213["a"]', 2, 0, '/', true, '["a"]'],
    ['3/chat,12[]', 3, 0, '/chat', true, '[]'],
    ['1/chat,', 1, 0, '/chat', false, ''],
    ['1', 1, 0, '/', false, ''],
    ['4{"message":"x"}', 4, 0, '/', false, '{"message":"x"}'],
    ['51-["a",{"_placeholder":true,"num":0}]', 5, 1, '/', false, '["a",{"_placeholder":true,"num":0}]'],
    ['51024-/chat,7["a"]', 5, 1024, '/chat', true, '["a"]'],
    ['61-7[]', 6, 1, '/', true, '[]'],
  ] as const)('of %s is read', (text, type, attachments, namespace, ack, data) => {
    expect(read(text)).toEqual({ type, attachments, namespace, ack, data });
  });

  it.each([
    ['no packet', ''],
    ['an unknown type', '7'],
    ['a letter as type', 'x["event"]'],
    ['a Unicode digit as type, which python-socketio takes for 2', '٢["event",{}]'],
    ['a full-width digit as type', '２["event",{}]'],
    ['a superscript as acknowledgement id, which str.isdigit takes', '2²["event",{}]'],
    ['an Arabic acknowledgement id', '2/_event,٣["event",{}]'],
    ['an attachment count on a plain event, which python-socketio skips', '21-/_event,["event",{}]'],
    ['an attachment count on CONNECT', '01-/_event,{}'],
    ['an attachment count on an acknowledgement', '31-["a"]'],
    ['a binary event without a count', '5["a"]'],
    ['a binary event whose count has no dash', '51["a"]'],
    ['a negative count', '5-1-["a"]'],
    ['an empty count', '5-["a"]'],
    ['a Unicode count', '5١-["a"]'],
    ['too many attachments', '51025-["a"]'],
    ['far too many attachments', '599999999999-["a"]'],
    ['a space before the data', '2/_event, ["event",{}]'],
    ['a line break before the data', '2\n["event",{}]'],
    ['an event with an object', '2{"a":1}'],
    ['an event with a string, which Python parses too', '2"event"'],
    ['an event without data', '2'],
    ['an event of a namespace without data', '2/_event,'],
    ['a CONNECT with a list', '0["a"]'],
    ['a CONNECT with a string', '0/_event,"x"'],
    ['a DISCONNECT with data', '1{"a":1}'],
    ['an acknowledgement without data', '31'],
    ['an acknowledgement id of 21 digits', `2${'1'.repeat(21)}["a"]`],
    ['an id and a sign', '2-1["a"]'],
    ['a packet as a JSON string, which python-engineio unwraps', '"2/_event,[\\"event\\",{}]"'],
    ['a namespace in the wrong place', '27/_event,["event",{}]'],
  ])('is refused: %s', (_why, text) => {
    expect(parseHeader(text, 0)).toBeUndefined();
  });

  it('does not look for a query behind the namespace', () => {
    expect(read('2/_event,["a","?x,y"]')?.namespace).toBe('/_event');
    expect(read('0/a?b?c,')?.namespace).toBe('/a');
  });

  it('is read in any packet of the reference encoder', () => {
    const packet = fc.record({
      type: fc.constantFrom(PacketType.EVENT, PacketType.ACK),
      nsp: fc.constantFrom('/', '/chat', '/_event', '/a/b'),
      id: fc.option(fc.nat(), { nil: undefined }),
      data: fc.array(
        fc.oneof(
          fc.jsonValue(),
          fc.uint8Array().map((bytes) => Buffer.from(bytes)),
        ),
        { minLength: 1 },
      ),
    });
    fc.assert(
      fc.property(packet, ({ type, nsp, id, data }) => {
        const whole: Packet = { type, nsp, data, ...(id !== undefined && { id }) };
        const [text = '', ...attachments] = new Encoder().encode(whole) as string[];
        const header = parseHeader(text, 0);
        expect(header?.attachments).toBe(attachments.length);
        expect(header?.namespace).toBe(nsp);
        expect(header?.acknowledge).toBe(id !== undefined);
        expect(Array.isArray(JSON.parse(text.slice(header?.dataStart)))).toBe(true);
      }),
    );
  });

  it('never makes the parser throw, and is never longer than the packet', () => {
    const piece = fc.constantFrom('0', '2', '5', '1-', '/', '/a', ',', '?', '[', '{', '"', '12', '٢', '-', ' ');
    fc.assert(
      fc.property(
        fc.array(piece).map((pieces) => pieces.join('')),
        (text) => {
          const header = parseHeader(text, 0);
          expect(header === undefined || header.dataStart <= text.length).toBe(true);
        },
      ),
    );
  });
});

describe('packets of our own', () => {
  it.each(['/', '/_event'])('are read by the reference decoder in %s', (namespace) => {
    const event = decoded(encodeEvent(namespace, 'event', { a: 'ü"' }));
    expect(event).toMatchObject({ type: PacketType.EVENT, nsp: namespace, data: ['event', { a: 'ü"' }] });
    const error = decoded(encodeConnectError(namespace, 'no "entry"'));
    expect(error).toMatchObject({ type: PacketType.CONNECT_ERROR, nsp: namespace, data: { message: 'no "entry"' } });
  });
});

function decoded(text: string): Packet {
  const decoder = new Decoder();
  let packet: Packet | undefined;
  decoder.on('decoded', (value: Packet) => (packet = value));
  decoder.add(text);
  return packet as Packet;
}
