import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeBase64Packet,
  decodeOpen,
  encodeOpen,
  encodePollingMessage,
  exceedsCodePoints,
  joinPollingPackets,
  splitPollingBody,
} from '../../../src/protocol/engine-io.ts';

const handshake = { sid: 'a', upgrades: [], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: 1_000_000 };

describe('the OPEN packet', () => {
  it('is read as it was written', () => {
    expect(decodeOpen(encodeOpen(handshake))).toEqual(handshake);
  });

  it('of an old server says nothing of maxPayload, which then is 1,000,000', () => {
    const { maxPayload: _unsaid, ...old } = handshake;
    expect(decodeOpen(`0${JSON.stringify(old)}`)).toEqual(handshake);
  });

  it.each([
    '',
    '0',
    '0{',
    '0null',
    '0[]',
    '0{"sid":1,"pingInterval":1,"pingTimeout":1}',
    '0{"sid":"a","pingInterval":"1","pingTimeout":1}',
    '0{"sid":"a","pingInterval":1}',
    '0{"sid":"a","pingInterval":1,"pingTimeout":1,"maxPayload":"big"}',
    '4{"sid":"a","pingInterval":1,"pingTimeout":1}',
  ])('is not %s', (text) => {
    expect(decodeOpen(text)).toBeUndefined();
  });
});

describe('polling packets', () => {
  it('are cut where they were joined', () => {
    const text = fc.string({ unit: 'binary' }).filter((packet) => !packet.includes('\x1e'));
    fc.assert(
      fc.property(fc.array(text, { minLength: 1 }), (packets) => {
        expect(splitPollingBody(joinPollingPackets(packets))).toEqual(packets);
      }),
    );
  });

  it('carry any bytes as base64', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const data = Buffer.from(bytes);
        expect(decodeBase64Packet(encodePollingMessage(data))).toEqual(data);
      }),
    );
  });

  it.each(['b*', 'bAA-_', 'bA===', 'b=A', 'bAA A', 'bÄ'])('refuse %s', (packet) => {
    expect(decodeBase64Packet(packet)).toBeUndefined();
  });
});

describe('the length of a text', () => {
  it('is counted in code points, also where surrogates stand alone', () => {
    const unit = fc.constantFrom('a', '漢', '🌉', '\ud83c', '\udf09');
    fc.assert(
      fc.property(fc.array(unit, { maxLength: 40 }), fc.nat(60), (units, limit) => {
        const text = units.join('');
        expect(exceedsCodePoints(text, limit)).toBe(Array.from(text).length > limit);
      }),
    );
  });
});
