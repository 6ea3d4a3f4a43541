import type { Config } from '../config/index.ts';
import { formatAddress } from '../config/values.ts';
import { UsageError } from './command.ts';

/** How long the sidecar may take to answer. Milliseconds. */
const TIMEOUT = 10_000;

/** Why a running sidecar could not be asked; the message is for the terminal. */
export class AdminUnreachable extends Error {}

/** The admin listener of the configuration; one that listens on every address is asked on this machine. */
export function adminUrl({ admin: { listen } }: Config): string {
  const local: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };
  return `http://${formatAddress({ host: local[listen.host] ?? listen.host, port: listen.port })}`;
}

/** Asks a running sidecar for JSON. Throws AdminUnreachable, and UsageError where the address is none. */
export async function askAdmin(url: string, path: string, apiKey: string | undefined): Promise<unknown> {
  const response = await requestAdmin(url, path, apiKey, { signal: AbortSignal.timeout(TIMEOUT) });
  try {
    return await response.json();
  } catch (error) {
    throw unreachable(url, error);
  }
}

/** The answer of a running sidecar, if it is a good one. Throws as `askAdmin` does. */
export async function requestAdmin(
  url: string,
  path: string,
  apiKey: string | undefined,
  init: RequestInit = {},
): Promise<Response> {
  const base = URL.canParse(url) ? new URL(url) : undefined;
  if (base === undefined || !/^https?:$/.test(base.protocol))
    throw new UsageError(`--url ${JSON.stringify(url)} is no address; write http://host:port`);
  const headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  let response: Response;
  try {
    response = await fetch(new URL(path, base), { ...init, headers, redirect: 'error' });
  } catch (error) {
    throw unreachable(url, error);
  }
  if (response.ok) return response;
  throw new AdminUnreachable(`the sidecar at ${base.origin} answers ${response.status}: ${await remedy(response)}`);
}

function unreachable(url: string, error: unknown): AdminUnreachable {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
  const why = code ?? (cause instanceof Error ? cause.message : String(cause));
  return new AdminUnreachable(
    `no sidecar answers at ${new URL(url).origin} (${why}); start it with bridgehead serve, or give --url`,
    { cause: error },
  );
}

async function remedy(response: Response): Promise<string> {
  try {
    const { error } = (await response.json()) as { readonly error?: { readonly message?: unknown } };
    return typeof error?.message === 'string' ? error.message : response.statusText;
  } catch {
    return 'is this the admin listener of a Bridgehead of the same version?';
  }
}
