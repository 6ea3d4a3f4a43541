import type { ResolvableSession } from '../../ports/tiers.ts';
import type { Headers } from '../../ports/transport.ts';
import type { ChannelRequest } from '../../ports/upstream.ts';
import type { ClientToken } from '../../protocol/brand.ts';

/** Who a session's client is, as its handshake told. */
export interface ClientInfo extends ResolvableSession {
  /** Empty where the client gave none: then it is no Reflex frontend. */
  readonly token: ClientToken;
  /** The Cookie header. */
  readonly cookies: string | undefined;
  /** What a worker sees of the handshake. */
  readonly request: ChannelRequest;
}

/** Makes the client known to `resolve` functions and channels. `headers` are the cleaned ones that go upstream. */
export function clientInfo(parts: { token: ClientToken; address: string; request: ChannelRequest }): ClientInfo {
  const { headers } = parts.request;
  const cookies = headerText(headers, 'cookie');
  return {
    ...parts,
    cookies,
    hasSessionCookie: cookies !== undefined,
    header: (name) => headerText(headers, name.toLowerCase()),
  };
}

function headerText(headers: Headers, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'object' ? value.join(name === 'cookie' ? '; ' : ', ') : value;
}
