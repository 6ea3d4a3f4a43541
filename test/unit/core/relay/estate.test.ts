import { describe, expect, it } from 'vitest';
import { heritableKept, heritableWaiting, portableKept } from '../../../../src/core/relay/estate.ts';
import type { Waiting } from '../../../../src/core/relay/inbound-queue.ts';
import { parseHeader, type PacketHeader } from '../../../../src/protocol/socket-io.ts';

const packet = (text: string): Waiting => ({
  kind: 'packet',
  text,
  header: parseHeader(text, 1) as PacketHeader,
  bytes: text.length,
});
const attachment = (byte: number): Waiting => ({ kind: 'attachment', data: Buffer.of(byte), bytes: 1 });
const said = (frame: string | number) =>
  typeof frame === 'string' ? { frame: Buffer.from(frame), binary: false } : { frame: Buffer.of(frame), binary: true };

describe('what a session leaves to the next one of its tab', () => {
  it('is whole packets: neither the rest of one that was begun nor the beginning of one that never ended', () => {
    const [whole, half] = [packet('452-/_event,["a"]'), packet('452-/_event,["b"]')];
    const [first, last] = [packet('42/_event,["event",{}]'), packet('42/_event,["event",{}]')];
    const waiting = [attachment(0), first, whole, attachment(1), attachment(2), half, attachment(3), last, half];
    expect(heritableWaiting(waiting)).toEqual([first, whole, attachment(1), attachment(2), last]);
    const kept = [said(0), said('42["a"]'), said('451-/a,["b"]'), said(1), said('452-["c"]'), said(2)];
    expect(heritableKept(kept)).toEqual(kept.slice(1, 4));
  });

  it('goes to another sidecar as texts, in whole packets up to a limit, and the rest is counted', () => {
    const kept = [said('42["a"]'), said('451-["b"]'), said(1), said('42["c"]')];
    expect(portableKept(kept, 1_000)).toEqual({ kept: ['42["a"]', '451-["b"]', 'bAQ==', '42["c"]'], lost: 0 });
    const before = '42["a"]451-["b"]'.length;
    expect(portableKept(kept, before + 5)).toEqual({ kept: ['42["a"]', '451-["b"]', 'bAQ=='], lost: 1 });
    expect(portableKept(kept, before + 4)).toEqual({ kept: ['42["a"]'], lost: 3 });
    expect(portableKept([], 0)).toEqual({ kept: [], lost: 0 });
  });

  it('is no CONNECT and no DISCONNECT: the next one has its own', () => {
    const event = packet('42/_event,["event",{}]');
    const waiting = [packet('40/_event,{"event":{}}'), event, packet('40/chat,'), packet('41/_event,')];
    expect(heritableWaiting(waiting)).toEqual([event]);
  });
});
