import { describe, expect, it } from 'vitest';
import { Connects } from '../../../../src/core/links/connects.ts';
import type { Waiting } from '../../../../src/core/relay/inbound-queue.ts';
import { parseHeader, type PacketHeader } from '../../../../src/protocol/socket-io.ts';

const MAIN = '40/_event,';

const packet = (text: string): Waiting & { kind: 'packet' } => ({
  kind: 'packet',
  text,
  header: parseHeader(text, 1) as PacketHeader,
  bytes: text.length,
});

/** Of a client that is connected to Reflex's namespace and to these. */
function connected(...namespaces: readonly string[]) {
  const connects = new Connects('/_event');
  const client = (text: string): boolean => connects.noteClient(packet(text));
  const worker = (text: string): string => connects.noteWorker(Buffer.from(text));
  for (const head of [MAIN, ...namespaces.map((name) => `40${name},`)]) {
    client(head);
    worker(`${head}{"sid":"a"}`);
  }
  return { connects, client, worker };
}

describe('a session that is connected again at another worker', () => {
  it('asks for every namespace of its client, and keeps the answers', () => {
    const { connects, worker } = connected('/chat');
    expect(connects.again(false)).toEqual([`${MAIN}{}`, '40/chat,']);
    expect([connects.incomplete, connects.pending]).toEqual([true, true]);
    expect(worker('42/_event,["event",{}]')).toBe('pass');
    expect([worker(`${MAIN}{"sid":"b"}`), worker('40/chat,{"sid":"c"}')]).toEqual(['swallow', 'joined']);
    expect([connects.incomplete, connects.pending]).toEqual([false, false]);
  });

  it('asks for Reflex’s namespace where another one’s CONNECT is sent again, and for that one once', () => {
    const { connects, client } = connected();
    client('40/chat,{"room":1}');
    expect(connects.returned([packet('40/chat,{"room":1}')])).toBe(false);
    expect(connects.again(false)).toEqual([`${MAIN}{}`]);
    expect(connects.returned([packet(`${MAIN}{"event":{}}`)])).toBe(true);
    expect(connects.again(true)).toEqual([]);
  });

  it('hands on an answer that its client still waits for', () => {
    const { connects, client, worker } = connected();
    client('40/chat,');
    expect(connects.again(false)).toEqual([`${MAIN}{}`, '40/chat,']);
    expect([worker(`${MAIN}{}`), worker('40/chat,{"sid":"c"}')]).toEqual(['joined', 'pass']);
  });

  it('asks for none that a worker refused or ended, or that its client left', () => {
    const { connects, client, worker } = connected('/chat', '/news');
    client('40/closed,');
    expect(worker('44/closed,{"message":"no"}')).toBe('pass');
    expect(worker('41/chat,')).toBe('pass');
    client('41/news,');
    expect(connects.again(false)).toEqual([`${MAIN}{}`]);
    connects.noteWorker(Buffer.from(`${MAIN}{}`));
    expect(worker('41/_event,')).toBe('pass');
    expect([connects.again(false), connects.pending]).toEqual([[], true]);
  });

  it('is over where one of them refuses it there', () => {
    const { connects, worker } = connected('/chat');
    connects.again(false);
    expect(worker('44/chat,{"message":"no"}')).toBe('refused');
  });
});
