import type { Headers, RequestHead } from '../../ports/transport.ts';

/** Decides whether a peer's word about other addresses is taken. `hop` counts from the peer, which is 0. */
export type TrustsProxy = (address: string, hop: number) => boolean;

/** Headers that speak of one hop only (RFC 9110, section 7.6.1), and those that a WebSocket handshake makes anew. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
/** What a proxy says of the client: from anyone else it is a claim. */
const PROXY_CLAIMS = new Set(['forwarded', 'x-real-ip', 'x-forwarded-host', 'x-forwarded-port', 'x-forwarded-prefix']);
const OWN_HEADER = /^x-bridgehead-/;
const DECIDED_HERE = new Set(['x-forwarded-for', 'x-forwarded-proto']);

/** The client behind the peer: the last address in X-Forwarded-For that no trusted proxy stands for. */
export function clientAddress(head: Pick<RequestHead, 'peer' | 'headers'>, trusts: TrustsProxy): string {
  const chain = textOf(head.headers['x-forwarded-for'])
    .split(',')
    .map((address) => address.trim())
    .filter((address) => address !== '');
  let address = normalise(head.peer);
  for (let hop = 0; trusts(address, hop); hop++) {
    const before = chain.pop();
    if (before === undefined) break;
    address = normalise(before);
  }
  return address;
}

/** IPv4 in IPv6 form is the same client; a port behind an address is not part of it. */
function normalise(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  return /^(\d+\.\d+\.\d+\.\d+):\d+$/.exec(address)?.[1] ?? /^\[([^\]]+)\](?::\d+)?$/.exec(address)?.[1] ?? address;
}

function textOf(value: Headers[string]): string {
  if (value === undefined) return '';
  return typeof value === 'string' ? value : value.join(',');
}

/** What the client wrote and a worker may see: end to end, without our own names, with addresses decided here. */
export function upstreamHeaders(
  head: RequestHead,
  address: string,
  trusts: TrustsProxy,
): Record<string, Headers[string]> {
  const named = textOf(head.headers['connection']).toLowerCase().split(',');
  const dropped = new Set(named.map((name) => name.trim()));
  const trusted = trusts(normalise(head.peer), 0);
  const headers: Record<string, Headers[string]> = {};
  for (const [name, value] of Object.entries(head.headers)) {
    if (HOP_BY_HOP.has(name) || dropped.has(name)) continue;
    // Servers that hand headers on as CGI variables take an underscore for a dash.
    const read = name.replaceAll('_', '-');
    if (OWN_HEADER.test(read) || DECIDED_HERE.has(read)) continue;
    if (PROXY_CLAIMS.has(read) && (!trusted || read !== name)) continue;
    headers[name] = value;
  }
  headers['x-forwarded-for'] = address;
  const claimed = trusted ? textOf(head.headers['x-forwarded-proto']).split(',')[0]?.trim() : undefined;
  headers['x-forwarded-proto'] =
    claimed === 'https' || claimed === 'http' ? claimed : head.encrypted ? 'https' : 'http';
  return headers;
}

/** The same for a WebSocket channel: the handshake's own headers are made anew. */
export function channelHeaders(headers: Headers): Headers {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !name.startsWith('sec-websocket-') && name !== 'content-length'),
  );
}

/** End-to-end headers of a worker's response. */
export function responseHeaders(headers: Headers): Headers {
  const dropped = new Set(
    textOf(headers['connection'])
      .toLowerCase()
      .split(',')
      .map((name) => name.trim()),
  );
  return Object.fromEntries(
    Object.entries(headers).filter(
      ([name]) => !HOP_BY_HOP.has(name) && !dropped.has(name) && !OWN_HEADER.test(name.replaceAll('_', '-')),
    ),
  );
}
