import type { RequestHead } from '../../ports/transport.ts';

/** Why a request is refused by its head alone: what two servers could read differently; undefined: it is in order. */
export function requestFault({ target, headers }: RequestHead): string | undefined {
  if (!isOriginForm(target)) return 'The request target must begin with one slash.';
  // None is in order in HTTP/1.0, which is how HAProxy asks for a server's health.
  if (Array.isArray(headers['host'])) return 'There may be one Host only.';
  const length = headers['content-length'];
  if (length !== undefined && (typeof length !== 'string' || !/^\d+$/.test(length))) {
    return 'There must be one Content-Length, in digits.';
  }
  const coding = headers['transfer-encoding'];
  // Node tells of an unknown coding only once it reads the body (RFC 9112, section 6.1).
  const isKnown = coding === undefined || (typeof coding === 'string' && coding.toLowerCase() === 'chunked');
  return isKnown ? undefined : 'The only transfer coding is chunked.';
}

/** Absolute-form targets and `//host` would lead a URL parser to another host. */
function isOriginForm(target: string): boolean {
  return target.startsWith('/') && !target.startsWith('//') && !target.startsWith('/\\');
}

/** Whether a handshake is complete (RFC 6455, section 4.2.1). */
export function isHandshake({ method, headers }: RequestHead): boolean {
  const key = headers['sec-websocket-key'];
  const isKey = typeof key === 'string' && /^[A-Za-z0-9+/]{22}==$/.test(key);
  const upgrade = headers['upgrade'];
  const isWebSocket = typeof upgrade === 'string' && upgrade.toLowerCase() === 'websocket';
  return method === 'GET' && isWebSocket && isKey && headers['sec-websocket-version'] === '13';
}
