import type { Config } from '../config/index.ts';
import { directUpstream } from '../src/adapters/upstream/direct-upstream.ts';
import { BackendPool, type BackendPoolParts } from '../src/core/backends/backend-pool.ts';

export interface Backends {
  readonly pool: BackendPool;
  /** Lets go of them; nothing goes there any more. */
  stop(): void;
}

/** How long a worker may take to answer a handshake, and how often an idle one is asked. Milliseconds. */
const CONNECT_TIMEOUT = 5_000;
const PROBE_INTERVAL = 5_000;

/** The unmodified workers. Without Redis their state is taken to be in their memory, and its sessions to end with them. */
export async function composeBackends(config: Config, parts: Omit<BackendPoolParts, 'records'>): Promise<Backends> {
  const upstreams = config.backends.map((url) => directUpstream({ url, eventPath: config.eventPath }));
  const { url } = config.redis;
  // Loaded where it is used: a start without Redis does not pay for it.
  const adapter =
    url === undefined || upstreams.length === 0
      ? undefined
      : await import('../src/adapters/redis/redis-token-records.ts');
  const records = url === undefined ? undefined : adapter?.redisTokenRecords({ url, logger: parts.logger });
  const options = {
    connectTimeout: CONNECT_TIMEOUT,
    wait: config.upstream.waitSeconds * 1000,
    probeInterval: PROBE_INTERVAL,
    namespace: config.namespace,
  };
  const pool = new BackendPool(upstreams, options, { ...parts, records });
  return {
    pool,
    stop() {
      pool.stop();
      records?.close();
    },
  };
}
