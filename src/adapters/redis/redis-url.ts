export interface RedisAddress {
  readonly kind: 'single' | 'unix' | 'sentinel' | 'cluster';
  readonly hosts: { readonly host: string; readonly port: number }[];
  readonly tls: boolean;
  readonly user: { readonly username?: string; readonly password?: string };
  readonly database: number;
  /** Of a Unix socket. */
  readonly path: string;
  /** The name under which sentinels know the primary. */
  readonly primary: string;
  /** For log lines: hosts and ports alone. */
  readonly label: string;
}

const SHAPE = /^(rediss?|unix)(?:\+(sentinel|cluster))?:\/\/(?:([^@/]*)@)?([^/?]*)(\/[^?]*)?(?:\?(.*))?$/i;

/** Reads the forms of a Redis URL, also those with several hosts. Throws a RangeError that holds nothing of the URL. */
export function parseRedisUrl(url: string): RedisAddress {
  const match = SHAPE.exec(url);
  if (match === null) throw new RangeError('not a Redis URL');
  const [, scheme = '', form, userinfo, authority = '', path = '', query = ''] = match;
  const segments = path.split('/').slice(1);
  const common = { tls: scheme.toLowerCase() === 'rediss', user: readUser(userinfo), path: '', primary: '' };
  if (scheme.toLowerCase() === 'unix') {
    const database = readDatabase(new URLSearchParams(query).get('db') ?? '');
    return { ...common, kind: 'unix', hosts: [], database, path: decode(path), label: `unix:${path}` };
  }
  const kind = (form?.toLowerCase() ?? 'single') as 'single' | 'sentinel' | 'cluster';
  const hosts = authority.split(',').map((part) => readHost(part, kind === 'sentinel' ? 26_379 : 6_379));
  if (kind === 'single' && hosts.length > 1) throw new RangeError('a Redis URL with several hosts needs a form');
  const label = hosts.map(({ host, port }) => `${host}:${port}`).join(',');
  if (kind !== 'sentinel') return { ...common, kind, hosts, database: readDatabase(segments[0] ?? ''), label };
  const [primary = '', database = ''] = segments;
  if (primary === '') throw new RangeError("a sentinel URL needs the primary's name as its path");
  return { ...common, kind, hosts, database: readDatabase(database), primary: decode(primary), label };
}

function readUser(userinfo: string | undefined): RedisAddress['user'] {
  if (userinfo === undefined || userinfo === '') return {};
  const colon = userinfo.indexOf(':');
  const username = decode(colon < 0 ? userinfo : userinfo.slice(0, colon));
  const password = colon < 0 ? '' : decode(userinfo.slice(colon + 1));
  return { ...(username === '' ? {} : { username }), ...(password === '' ? {} : { password }) };
}

function readHost(text: string, defaultPort: number): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*))(?::(\d{1,5}))?$/.exec(text);
  if (match === null) throw new RangeError('a host of the Redis URL cannot be read');
  const host = match[1] ?? match[2] ?? '';
  return { host: host === '' ? '127.0.0.1' : host, port: match[3] === undefined ? defaultPort : Number(match[3]) };
}

function readDatabase(text: string): number {
  if (text === '') return 0;
  if (!/^\d{1,5}$/.test(text)) throw new RangeError("a Redis URL's database must be a number");
  return Number(text);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A password with a bare percent sign.
    return text;
  }
}
