import type { IncomingMessage } from 'node:http';
import type { PrometheusMetrics } from '../../src/adapters/metrics/index.ts';
import { userKey } from '../../src/ports/auth.ts';
import type { Invalidation, Operator } from '../../src/ports/index.ts';
import { sessionHash } from '../../src/protocol/keys.ts';
import { splitUserName } from '../../src/protocol/user-name.ts';
import type { Access, AccessGuard } from './access.ts';
import { readJson } from './body.ts';
import { AdminError, json, type Reply, text } from './reply.ts';

export interface Route {
  readonly method: 'GET' | 'POST';
  /** `:id` stands for one segment. */
  readonly path: string;
  readonly access: Access;
  handle(call: Call): Reply | Promise<Reply>;
}

interface Call {
  readonly request: IncomingMessage;
  readonly query: URLSearchParams;
  /** Decoded segments that stood for `:name`. */
  readonly segments: Readonly<Record<string, string>>;
}

export interface RouteParts {
  readonly operator: Operator;
  readonly metrics: PrometheusMetrics;
  readonly guard: AccessGuard;
}

const MOST_SESSIONS = 10_000;

export function adminRoutes({ operator, metrics, guard }: RouteParts): Route[] {
  const health = (details: boolean): Reply => {
    const ready = operator.ready();
    const dependencies = operator.health();
    // Also what can be done without, since events flow on. Everybody may read this: a kind, never an address.
    const down = dependencies
      .filter(({ state }) => state === 'down')
      .map(({ name }) => name.replace(/ \S+:\/\/.*/, ''));
    const degraded = [...new Set(down)];
    const body = { status: ready ? 'ready' : 'unready', degraded, ...(details && { dependencies }) };
    return json(ready ? 200 : 503, body);
  };
  return [
    { method: 'GET', path: '/health/live', access: 'open', handle: () => json(200, { status: 'live' }) },
    { method: 'GET', path: '/health/ready', access: 'open', handle: () => health(false) },
    { method: 'GET', path: '/health', access: 'open', handle: ({ request }) => health(guard.seesDetails(request)) },
    {
      method: 'GET',
      path: '/metrics',
      access: 'read',
      handle: async () => text(200, await metrics.text(), metrics.register.contentType),
    },
    {
      method: 'GET',
      path: '/api/stats',
      access: 'read',
      handle: () => json(200, { ...operator.stats(), metrics: metrics.snapshot() }),
    },
    { method: 'GET', path: '/api/doctor', access: 'read', handle: () => json(200, operator.doctor()) },
    {
      method: 'GET',
      path: '/api/sessions',
      access: 'read',
      handle: ({ query }) => json(200, { sessions: operator.sessions(limitOf(query)) }),
    },
    {
      method: 'POST',
      path: '/api/sessions/:id/close',
      access: 'write',
      handle: ({ segments }) => {
        if (operator.closeSession(segments['id'] ?? '', 'admin')) return json(200, { closed: true });
        throw new AdminError(404, 'unknown_session', 'No session has this id; see GET /api/sessions.');
      },
    },
    {
      method: 'POST',
      path: '/api/auth/invalidate',
      access: 'write',
      handle: async ({ request }) => {
        if (operator.invalidate(readTarget(await readJson(request), operator.userModel())))
          return json(202, { invalidated: true });
        throw new AdminError(
          409,
          'no_users',
          'Users are not resolved here: set a secret, and auth.source to other than none.',
        );
      },
    },
    {
      method: 'POST',
      path: '/api/drain',
      access: 'write',
      handle: () => {
        operator.drain();
        return json(202, { draining: true });
      },
    },
  ];
}

/** `{"user":"auth.user:42"}`, `{"user":42}` of the app's own user model, `{"session":"<cookie value>"}` or `{"all":true}`. */
function readTarget(body: Readonly<Record<string, unknown>>, userModel: string): Invalidation {
  const { user, session, all } = body;
  const given = [user, session, all].filter((value) => value !== undefined);
  if (given.length === 1) {
    if (all === true) return { all: true };
    if (typeof session === 'string' && session !== '') return { session: sessionHash(session) };
    if (typeof user === 'string' || Number.isSafeInteger(user)) {
      const { model = userModel, id } = splitUserName(String(user));
      if (id !== '') return { user: userKey({ m: model, id }) };
    }
  }
  throw new AdminError(
    400,
    'bad_target',
    'Say one of user ("auth.user:42", "42" or 42), session (a cookie value) or all (true).',
  );
}

function limitOf(query: URLSearchParams): number {
  const given = query.get('limit') ?? '100';
  const limit = /^\d{1,6}$/.test(given) ? Number(given) : 0;
  if (limit >= 1 && limit <= MOST_SESSIONS) return limit;
  throw new AdminError(400, 'bad_limit', `limit must be a whole number from 1 to ${MOST_SESSIONS}.`);
}

/** The route of a request, or what to answer where there is none. */
export function findRoute(
  routes: readonly Route[],
  method: string,
  path: string,
): { route: Route; segments: Record<string, string> } {
  const matches = routes.flatMap((route) => {
    const segments = match(route.path, path);
    return segments === undefined ? [] : [{ route, segments }];
  });
  const [first] = matches;
  if (first === undefined) throw new AdminError(404, 'not_found', 'There is nothing here.');
  // HEAD is GET without its body; node leaves the body out.
  const wanted = method === 'HEAD' ? 'GET' : method;
  const found = matches.find(({ route }) => route.method === wanted);
  if (found) return found;
  const allow = matches.flatMap(({ route }) => (route.method === 'GET' ? ['GET', 'HEAD'] : [route.method])).join(', ');
  throw new AdminError(405, 'method_not_allowed', `Use ${allow}.`, { allow });
}

function match(pattern: string, path: string): Record<string, string> | undefined {
  const [wanted, given] = [pattern.split('/'), path.split('/')];
  if (wanted.length !== given.length) return undefined;
  const segments: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const actual = given[index] ?? '';
    if (!part.startsWith(':')) {
      if (part !== actual) return undefined;
      continue;
    }
    const value = decode(actual);
    if (value === undefined || value === '') return undefined;
    segments[part.slice(1)] = value;
  }
  return segments;
}

function decode(segment: string): string | undefined {
  try {
    return decodeURIComponent(segment);
  } catch {
    return undefined;
  }
}
