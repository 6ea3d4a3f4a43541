import type { Headers, HttpExchange, UpgradeRequest } from '../../ports/transport.ts';

const JSON_HEADERS = { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' } as const;

/** Every refusal has this body: a stable code to script against, and a sentence that says what to do. */
export function errorBody(code: string, message: string): string {
  return JSON.stringify({ error: { code, message } });
}

export function respondError(
  exchange: Pick<HttpExchange, 'respond'>,
  status: number,
  code: string,
  message: string,
  headers: Headers = {},
): void {
  exchange.respond(status, { ...JSON_HEADERS, ...headers }, errorBody(code, message));
}

export function refuseUpgrade(
  request: UpgradeRequest,
  status: number,
  code: string,
  message: string,
  headers: Headers = {},
): void {
  request.refuse(status, { ...JSON_HEADERS, ...headers }, errorBody(code, message));
}
