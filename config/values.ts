import { isIP } from 'node:net';
import { z } from 'zod';

/** Where a TCP listener binds. `port` 0 takes a free one. Fits `server.listen()`. */
export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

export type Address = TcpAddress | { readonly path: string };

/** As it is written in the configuration; IPv6 in brackets. */
export function formatAddress(address: Address): string {
  if ('path' in address) return `unix:${address.path}`;
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
}

/** Whether only this machine can reach a host. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Listeners there have no address of their own. */
export const ANY_HOST: ReadonlySet<string> = new Set(['0.0.0.0', '::']);

/** Where other sidecars reach this one's main listener; undefined where only the operator knows. */
export function announcedUrl(config: { peerUrl?: string | undefined; listen: TcpAddress }): string | undefined {
  if (config.peerUrl !== undefined) return config.peerUrl;
  return ANY_HOST.has(config.listen.host) ? undefined : `http://${formatAddress(config.listen)}`;
}

/** A fault with its own remedy; see faults.ts. */
function reject(context: z.RefinementCtx, message: string, remedy: string): never {
  context.addIssue({ code: 'custom', message, params: { remedy } });
  return z.NEVER;
}

function parseTcp(text: string, context: z.RefinementCtx): TcpAddress {
  const match = /^(?:\[(?<six>[^\]]+)\]|(?<host>[^:[\]\s/]+)):(?<port>\d{1,5})$/.exec(text);
  const { six, host, port } = match?.groups ?? {};
  if (port === undefined || (six !== undefined && isIP(six) !== 6)) {
    return reject(
      context,
      'is not an address',
      'Write host:port, for example 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080.',
    );
  }
  if (Number(port) > 65_535)
    return reject(context, 'has a port above 65535', 'Take a port from 1 to 65535, or 0 for a free one.');
  return { host: six ?? host ?? '', port: Number(port) };
}

export const tcpAddress = z.string().transform(parseTcp);

/** Also `unix:/absolute/path`. */
export const address = z.string().transform((text, context): Address => {
  if (!text.startsWith('unix:')) return parseTcp(text, context);
  const path = text.slice('unix:'.length);
  // sun_path holds 108 bytes with its end.
  if (!path.startsWith('/') || Buffer.byteLength(path) > 107) {
    return reject(context, 'is not a socket path', 'Write unix:/absolute/path, at most 107 bytes long.');
  }
  return { path };
});

/** An HTTP path without a slash at its end, query or fragment. */
export const httpPath = z.string().refine((text) => /^\/[\w\-.~%/]*[\w\-.~%]$/.test(text) && !text.includes('//'), {
  message: 'is not a path',
  params: { remedy: 'Write a path that begins with one slash and has no slash at its end, for example /_event.' },
});

/** `http://host:port` of a Python worker, in its normal form (no slash at the end). */
export const backendUrl = z.string().transform((text, context) => {
  const remedy = 'Write http://host:port without a path, for example http://127.0.0.1:8000.';
  return parseHostUrl(text, context, remedy, ' A prefix belongs in eventPath and uploadPath.');
});

/** `http://host:port` of a sidecar's main listener, in its normal form. */
export const sidecarUrl = z.string().transform((text, context) => {
  return parseHostUrl(text, context, 'Write http://host:port without a path, for example http://10.0.0.5:8080.', '');
});

function parseHostUrl(text: string, context: z.RefinementCtx, remedy: string, aboutPaths: string): string {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    return reject(context, 'is not an http or https URL', remedy);
  }
  if (url.username !== '' || url.password !== '') return reject(context, 'must not hold a user or password', remedy);
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    return reject(context, 'must not have a path', remedy + aboutPaths);
  }
  return url.origin;
}

/** `same-origin`, `*`, or one origin in its normal form. */
export const allowedOrigin = z.string().transform((text, context) => {
  if (text === 'same-origin' || text === '*') return text;
  const url = URL.parse(text);
  const remedy =
    'Write same-origin, *, or scheme://host[:port] as browsers send it, for example https://app.example.com.';
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    return reject(context, 'is not an origin', remedy);
  }
  if (url.username !== '' || url.password !== '' || url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    return reject(context, 'is more than an origin', remedy);
  }
  return url.origin;
});

const PROXY_NAMES = ['loopback', 'linklocal', 'uniquelocal'];

/** An address, a CIDR range, or one of the names that `proxy-addr` knows. */
export const trustedProxy = z.string().refine(
  (text) => {
    if (PROXY_NAMES.includes(text)) return true;
    const [address = '', bits, ...rest] = text.split('/');
    const family = isIP(address);
    if (family === 0 || rest.length > 0) return false;
    return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
  },
  {
    message: 'is neither an address, a range nor a known name',
    params: { remedy: 'Write an IP address, a range such as 10.0.0.0/8, or loopback, linklocal or uniquelocal.' },
  },
);

/** A URL of one of these schemes. The text itself stays as it is: drivers parse it. */
export function urlWith(...schemes: readonly string[]): z.ZodString {
  return z.string().refine((text) => schemes.includes(/^([a-z+]+):\/\/./i.exec(text)?.[1]?.toLowerCase() ?? ''), {
    message: `is not a ${schemes[0] ?? ''}:// URL`,
    params: { remedy: `Write a URL that begins with ${schemes.map((scheme) => `${scheme}://`).join(' or ')}.` },
  });
}

const MINIMUM_SECRET_BYTES = 32;

export const secretText = z.string().refine((text) => Buffer.byteLength(text) >= MINIMUM_SECRET_BYTES, {
  message: `is shorter than ${MINIMUM_SECRET_BYTES} bytes`,
  params: { remedy: 'Make one with: openssl rand -base64 48' },
});
