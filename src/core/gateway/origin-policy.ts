import type { Headers, RequestHead } from '../../ports/transport.ts';

export type OriginVerdict =
  | { readonly allowed: true }
  /** `origin` and `host` are safe to log; `remedy` is the line to add. */
  | { readonly allowed: false; readonly origin: string; readonly host: string; readonly remedy: string };

const ALLOWED: OriginVerdict = { allowed: true };
const LOOPBACK = /^(localhost|.+\.localhost|127(\.\d+){3}|\[::1\])$/;

interface HostPort {
  readonly host: string;
  readonly port: string;
}

/**
 * Which pages may connect. `same-origin` compares host and port without the scheme, since TLS often ends at a proxy; any
 * loopback page may talk to any loopback port; programs send no Origin and are allowed; `null` (sandboxed frames) is not.
 */
export class OriginPolicy {
  readonly #sameOrigin: boolean;
  readonly #any: boolean;
  readonly #listed: ReadonlySet<string>;

  /** `listed`: the configuration's. `fromApp`: the app's own CORS origins, of which `*` says nothing here. */
  constructor(listed: readonly string[], fromApp: readonly string[]) {
    this.#sameOrigin = listed.includes('same-origin');
    this.#any = listed.includes('*');
    const named = [...listed, ...fromApp.filter((origin) => origin !== '*')];
    this.#listed = new Set(named.map((origin) => originKey(origin) ?? origin));
  }

  check(head: Pick<RequestHead, 'headers' | 'encrypted'>): OriginVerdict {
    const origin = single(head.headers, 'origin');
    if (origin === undefined || this.#any) return ALLOWED;
    const host = single(head.headers, 'host') ?? '';
    const key = originKey(origin);
    if (key !== undefined && (this.#listed.has(key) || (this.#sameOrigin && isSameOrigin(origin, host))))
      return ALLOWED;
    return {
      allowed: false,
      origin: printable(origin),
      host: printable(host),
      remedy: `origins: ['same-origin', '${printable(origin)}']`,
    };
  }
}

function isSameOrigin(origin: string, host: string): boolean {
  const from = hostPort(origin);
  if (from === undefined) return false;
  // Without a scheme of its own the host takes the page's: only then do default ports mean the same.
  const to = hostPort(`${new URL(origin).protocol}//${host}`);
  if (to === undefined) return false;
  if (LOOPBACK.test(from.host) && LOOPBACK.test(to.host)) return true;
  return from.host === to.host && (from.port === to.port || (isDefault(from.port) && isDefault(to.port)));
}

/** 80 and 443 are one where TLS ends before us: a page on https meets a host header without a port. */
function isDefault(port: string): boolean {
  return port === '80' || port === '443';
}

function hostPort(url: string): HostPort | undefined {
  if (!URL.canParse(url)) return undefined;
  const { protocol, hostname, port } = new URL(url);
  if (protocol !== 'http:' && protocol !== 'https:') return undefined;
  return { host: hostname, port: port === '' ? (protocol === 'https:' ? '443' : '80') : port };
}

function originKey(origin: string): string | undefined {
  if (!URL.canParse(origin)) return undefined;
  const url = new URL(origin);
  return url.protocol === 'http:' || url.protocol === 'https:' ? url.origin : undefined;
}

/** Several values of a header that has one are none that could be allowed. */
function single(headers: Headers, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'object' ? value.join(', ') : value;
}

function printable(text: string): string {
  return text.replaceAll(/[^\x21-\x7e]/g, '?').slice(0, 200);
}
