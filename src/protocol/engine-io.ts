/**
 * Engine.IO 4 packets (Engine.IO protocol, revision 4). Pure: text and bytes in, text and bytes out.
 */

export const ENGINE_IO_VERSION = '4';

/** The first character of a text packet ("Packet types"). */
export const EnginePacket = {
  open: '0',
  close: '1',
  ping: '2',
  pong: '3',
  message: '4',
  upgrade: '5',
  noop: '6',
} as const;

/** Character codes of the same, for frames that are looked at as bytes. */
export const EnginePacketCode = { close: 0x31, ping: 0x32, pong: 0x33, message: 0x34, upgrade: 0x35 } as const;

/** What a server says first ("Handshake"). Times in milliseconds; `maxPayload` in code points of a text frame. */
export interface Handshake {
  readonly sid: string;
  readonly upgrades: readonly string[];
  readonly pingInterval: number;
  readonly pingTimeout: number;
  readonly maxPayload: number;
}

export function encodeOpen(handshake: Handshake): string {
  return EnginePacket.open + JSON.stringify(handshake);
}

/** Reads an OPEN packet; undefined where it is none. Old servers leave `maxPayload` out: then 1,000,000. */
export function decodeOpen(text: string): Handshake | undefined {
  if (!text.startsWith(EnginePacket.open)) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text.slice(1));
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const open = value as Partial<Record<keyof Handshake, unknown>>;
  const { sid, pingInterval, pingTimeout, maxPayload = 1_000_000 } = open;
  if (typeof sid !== 'string' || typeof pingInterval !== 'number' || typeof pingTimeout !== 'number') return undefined;
  if (typeof maxPayload !== 'number') return undefined;
  return { sid, upgrades: [], pingInterval, pingTimeout, maxPayload };
}

/** Separates packets in a polling body ("HTTP long-polling"). */
const SEPARATOR = '\x1e';

/** A message's content: text as it stands after the type character, or the bytes of a binary message. */
export type MessageData = string | Buffer;

/** One message as a polling packet: binary goes as `b` and base64. */
export function encodePollingMessage(data: MessageData): string {
  return typeof data === 'string' ? EnginePacket.message + data : `b${data.toString('base64')}`;
}

export function joinPollingPackets(packets: readonly string[]): string {
  return packets.join(SEPARATOR);
}

export function splitPollingBody(body: string): string[] {
  return body.split(SEPARATOR);
}

/** The bytes behind a `b…` packet; undefined where it is not base64. */
export function decodeBase64Packet(packet: string): Buffer | undefined {
  const base64 = packet.slice(1);
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(base64)) return undefined;
  return Buffer.from(base64, 'base64');
}

/**
 * The length that python-engineio and Reflex's client compare with `maxPayload`: code points, not UTF-16 units or bytes.
 * Counts only while it can matter: a text of at most `limit` units cannot have more code points than that.
 */
export function exceedsCodePoints(text: string, limit: number): boolean {
  if (text.length <= limit) return false;
  if (text.length > limit * 2) return true;
  let points = text.length;
  for (let index = 0; index < text.length - 1; index++) {
    const unit = text.charCodeAt(index);
    if (unit >= 0xd800 && unit <= 0xdbff) {
      const next = text.charCodeAt(index + 1);
      if (next >= 0xdc00 && next <= 0xdfff) {
        points--;
        index++;
      }
    }
  }
  return points > limit;
}
