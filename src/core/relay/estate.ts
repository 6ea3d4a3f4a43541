import { encodePollingMessage } from '../../protocol/engine-io.ts';
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
function attachmentsOf({ frame, binary }: KeptMessage): number | undefined {
  return binary ? undefined : Number(BINARY_HEAD.exec(frame.toString('latin1', 0, 16))?.[1] ?? 0);
}

/** What a newcomer's client can make sense of: a part of a packet would be taken for the next one's. */
export function heritableKept(kept: readonly KeptMessage[]): KeptMessage[] {
  return wholePackets(kept, attachmentsOf);
}

/** What may go along with a word to another sidecar, as Engine.IO texts of at most so many bytes, and how many messages may not. */
export function portableKept(kept: readonly KeptMessage[], limit: number): { kept: string[]; lost: number } {
  let bytes = 0;
  const tooMany = kept.findIndex((message) => (bytes += textOf(message).length) > limit);
  const whole = heritableKept(tooMany === -1 ? kept : kept.slice(0, tooMany));
  return { kept: whole.map(textOf), lost: kept.length - whole.length };
}

function textOf({ frame, binary }: KeptMessage): string {
  return binary ? encodePollingMessage(frame) : frame.toString();
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
