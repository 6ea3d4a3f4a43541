import type { Config } from '../config/index.ts';
import { nodeTransport } from '../src/adapters/transport/node-transport.ts';
import { findUws } from '../src/adapters/transport/uws-api.ts';
import { uwsTransport } from '../src/adapters/transport/uws-transport.ts';
import type { Logger } from '../src/ports/logger.ts';
import type { ServerTransport, TransportOptions } from '../src/ports/transport.ts';

/** The configured server. `uws` needs uWebSockets.js, which is not on the registry and is installed by hand; `auto` takes it where it can be loaded. */
export async function loadTransport(
  kind: Config['transport'],
  options: TransportOptions,
  logger: Logger,
): Promise<ServerTransport> {
  if (kind === 'node') return nodeTransport(options);
  const uws = await findUws();
  if (uws !== undefined) {
    logger.info({}, 'WebSockets by uWebSockets.js');
    return uwsTransport(uws, options);
  }
  if (kind === 'auto') return nodeTransport(options);
  throw new Error(
    'transport: uws needs uWebSockets.js; install it beside bridgehead, or set transport to node or auto',
  );
}
