import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TcpAddress } from '../../config/values.ts';
import { formatAddress } from '../../config/values.ts';
import type { PrometheusMetrics } from '../../src/adapters/metrics/index.ts';
import type { Logger, Operator } from '../../src/ports/index.ts';
import { opened } from '../opened.ts';
import type { Live } from '../compose-bus.ts';
import type { PushGate } from '../compose-live.ts';
import { AccessGuard } from './access.ts';
import { dashboardRoutes } from './dashboard-routes.ts';
import { liveRoutes } from './live-routes.ts';
import { pushRoutes } from './push-routes.ts';
import { AdminError, type Reply } from './reply.ts';
import { adminRoutes, findRoute, type Route } from './routes.ts';

export interface AdminOptions {
  readonly address: TcpAddress;
  readonly apiKey: string | undefined;
  readonly hosts: readonly string[];
}

export interface AdminParts {
  readonly operator: Operator;
  readonly metrics: PrometheusMetrics;
  readonly logger: Logger;
  /** The change bus, where there is one. */
  readonly live?: Pick<Live, 'bus' | 'deadLetters'>;
  /** What may be pushed over it. */
  readonly pushes?: PushGate;
}

export interface Admin {
  readonly url: string;
  close(): Promise<void>;
}

/** The admin listener: health, metrics and the operator's API, on a port of its own. */
export async function startAdmin({ address, apiKey, hosts }: AdminOptions, parts: AdminParts): Promise<Admin> {
  const guard = new AccessGuard({ host: address.host, apiKey, hosts });
  const { live, pushes } = parts;
  const routes = [
    ...adminRoutes({ ...parts, guard }),
    ...dashboardRoutes(),
    ...(live === undefined ? [] : liveRoutes(live)),
    ...(live === undefined || pushes === undefined ? [] : pushRoutes(live.bus, pushes)),
  ];
  const server = createServer(
    { requestTimeout: 30_000, headersTimeout: 10_000, keepAliveTimeout: 10_000 },
    (request, response) => {
      // A body is never needed, but must not hold the connection up.
      request.resume();
      void answer(request, routes, guard, parts.logger).then((reply) => send(response, reply));
    },
  );
  await opened('admin.listen', address, listen(server, address));
  const { port } = server.address() as AddressInfo;
  return { url: `http://${formatAddress({ host: address.host, port })}`, close: () => close(server) };
}

async function answer(
  request: IncomingMessage,
  routes: readonly Route[],
  guard: AccessGuard,
  logger: Logger,
): Promise<Reply> {
  const [path = '', query = ''] = (request.url ?? '').split('?', 2);
  try {
    const { route, segments } = findRoute(routes, request.method ?? '', path);
    guard.require(route.access, request);
    return await route.handle({ request, query: new URLSearchParams(query), segments });
  } catch (error) {
    if (error instanceof AdminError) return error.reply();
    logger.error({ err: error, path }, 'an admin request failed');
    return new AdminError(500, 'internal', 'The request failed; see the log.').reply();
  }
}

function send(response: ServerResponse, { status, contentType, body, headers, stream }: Reply): void {
  response.writeHead(status, {
    'content-type': contentType,
    ...(stream === undefined && { 'content-length': Buffer.byteLength(body) }),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  if (stream === undefined || response.req.method === 'HEAD') response.end(body);
  else stream(response);
}

function listen(server: Server, address: TcpAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
