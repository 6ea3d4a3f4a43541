import type { ClientToken } from '../../protocol/brand.ts';

/** A request target, taken apart once. */
export interface Target {
  readonly path: string;
  readonly query: URLSearchParams;
}

export function parseTarget(target: string): Target {
  const mark = target.indexOf('?');
  if (mark === -1) return { path: target, query: new URLSearchParams() };
  return { path: target.slice(0, mark), query: new URLSearchParams(target.slice(mark + 1)) };
}

/** Reflex's client token, as a worker reads it: the first that is not blank. Empty where there is none. */
export function clientToken(query: URLSearchParams): ClientToken {
  return (query.getAll('token').find((token) => token !== '') ?? '') as ClientToken;
}

/** The same target with another client token. */
export function withToken(target: string, token: ClientToken): string {
  const { path, query } = parseTarget(target);
  query.set('token', token);
  return `${path}?${query.toString()}`;
}

/**
 * The target of a session's channel: always a new WebSocket handshake, whatever transport the client uses. Its own
 * parameters stay as they are.
 */
export function channelTarget({ path, query }: Target): string {
  const own = new URLSearchParams(query);
  for (const name of ['sid', 't', 'b64', 'j']) own.delete(name);
  own.set('EIO', '4');
  own.set('transport', 'websocket');
  return `${path}?${own.toString()}`;
}
