import { SocketPacket } from '../../protocol/socket-io.ts';
import type { HandlerCall } from '../../ports/virtual-session.ts';
import type { Waiting } from './inbound-queue.ts';
import type { KeptMessage } from './kept-messages.ts';

/** What a session leaves to the one that takes its tab over. */
export interface Estate {
  /** What the worker said since the client was gone. */
  readonly kept: readonly KeptMessage[];
  /** What the client said and no worker ran. */
  readonly waiting: readonly Waiting[];
  /** Events that may have run or not: the client has to be told. */
  readonly unsure: number;
  /** Background handlers that ran in a worker that is gone. */
  readonly background: readonly HandlerCall[];
}

/** How the frame of a packet with binary frames begins. */
const BINARY_HEAD = /^4[56](\d{1,9})-/;

/** Binary frames that follow this one; undefined for one of those. */
export function attachmentsOf({ frame, binary }: KeptMessage): number | undefined {
  return binary ? undefined : Number(BINARY_HEAD.exec(frame.toString('latin1', 0, 16))?.[1] ?? 0);
}

/** What a newcomer's client can make sense of: a part of a packet would be taken for the next one's. */
export function heritableKept(kept: readonly KeptMessage[]): KeptMessage[] {
  return wholePackets(kept, attachmentsOf);
}

/** What a worker can make sense of after the newcomer's own CONNECT: a second one would be another client's to it. */
export function heritableWaiting(waiting: readonly Waiting[]): Waiting[] {
  const whole = wholePackets(waiting, (item) => (item.kind === 'packet' ? item.header.attachments : undefined));
  return whole.filter((item) => item.kind === 'attachment' || !isAboutConnection(item.header.type));
}

function isAboutConnection(type: number): boolean {
  return type === SocketPacket.connect || type === SocketPacket.disconnect;
}

function wholePackets<T>(items: readonly T[], countOf: (item: T) => number | undefined): T[] {
  const whole: T[] = [];
  for (let index = 0; index < items.length;) {
    const item = items[index] as T;
    const count = countOf(item);
    const rest = items.slice(index + 1, index + 1 + (count ?? 0));
    const isWhole = rest.length === count && rest.every((frame) => countOf(frame) === undefined);
    if (isWhole) whole.push(item, ...rest);
    index += isWhole ? 1 + rest.length : 1;
  }
  return whole;
}
