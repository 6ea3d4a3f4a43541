/**
 * Socket.IO 5 packets, as far as a relay must read them (Socket.IO protocol, revision 5, "Packet encoding"):
 *
 *     <type>[<attachments>-][<namespace>,][<acknowledgement id>][<JSON>]
 *
 * The grammar is held to the letter and to ASCII, because upstreams are lenient in different ways (python-socketio takes
 * Unicode digits and a query behind the namespace): what this module would read otherwise than a worker must not pass.
 */

export const SocketPacket = {
  connect: 0,
  disconnect: 1,
  event: 2,
  ack: 3,
  connectError: 4,
  binaryEvent: 5,
  binaryAck: 6,
} as const;

export type SocketPacketType = (typeof SocketPacket)[keyof typeof SocketPacket];

export interface PacketHeader {
  readonly type: SocketPacketType;
  /** Binary frames that follow and belong to this packet. */
  readonly attachments: number;
  /** Without the query some clients add; `/` where the packet names none. */
  readonly namespace: string;
  /** Whether the sender waits for an acknowledgement. */
  readonly acknowledge: boolean;
  /** Where the JSON begins in the text; the text's length where there is none. */
  readonly dataStart: number;
}

const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;
const MAX_ATTACHMENTS = 1024;
const MAX_ACK_DIGITS = 20;

function digitsEnd(text: string, from: number): number {
  let index = from;
  for (; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code < DIGIT_0 || code > DIGIT_9) break;
  }
  return index;
}

/** Reads the head of a packet that begins at `start`; undefined where it breaks the grammar. */
export function parseHeader(text: string, start: number): PacketHeader | undefined {
  const type = text.charCodeAt(start) - DIGIT_0;
  if (!(type >= SocketPacket.connect && type <= SocketPacket.binaryAck)) return undefined;
  let position = start + 1;

  let attachments = 0;
  if (type === SocketPacket.binaryEvent || type === SocketPacket.binaryAck) {
    const end = digitsEnd(text, position);
    if (end === position || end - position > 4 || text[end] !== '-') return undefined;
    attachments = Number(text.slice(position, end));
    if (attachments > MAX_ATTACHMENTS) return undefined;
    position = end + 1;
  }

  let namespace = '/';
  if (text[position] === '/') {
    const comma = text.indexOf(',', position);
    const end = comma === -1 ? text.length : comma;
    namespace = text.slice(position, end);
    const query = namespace.indexOf('?');
    if (query !== -1) namespace = namespace.slice(0, query);
    position = comma === -1 ? end : end + 1;
  }

  const acknowledgement = digitsEnd(text, position);
  const acknowledge = acknowledgement > position;
  if (acknowledgement - position > MAX_ACK_DIGITS) return undefined;
  position = acknowledgement;

  const header = { type: type as SocketPacketType, attachments, namespace, acknowledge, dataStart: position };
  return isDataStart(header.type, text, position) ? header : undefined;
}

function isDataStart(type: SocketPacketType, text: string, position: number): boolean {
  const first = text[position];
  switch (type) {
    case SocketPacket.connect:
      return first === undefined || first === '{';
    case SocketPacket.disconnect:
      return first === undefined;
    case SocketPacket.event:
    case SocketPacket.binaryEvent:
    case SocketPacket.ack:
    case SocketPacket.binaryAck:
      return first === '[';
    case SocketPacket.connectError:
      return first === undefined || first === '{' || first === '"';
  }
}

/** The text of an event packet, without the Engine.IO type. */
export function encodeEvent(namespace: string, name: string, payload: unknown): string {
  const prefix = namespace === '/' ? '' : `${namespace},`;
  return `${SocketPacket.event}${prefix}${JSON.stringify([name, payload])}`;
}

/** The text of a DISCONNECT packet, without the Engine.IO type. */
export function encodeDisconnect(namespace: string): string {
  return `${SocketPacket.disconnect}${namespace === '/' ? '' : `${namespace},`}`;
}

/** The text of a CONNECT_ERROR packet, without the Engine.IO type. */
export function encodeConnectError(namespace: string, message: string): string {
  const prefix = namespace === '/' ? '' : `${namespace},`;
  return `${SocketPacket.connectError}${prefix}${JSON.stringify({ message })}`;
}
