import { Redis as Client } from 'ioredis';
import { freePorts } from '../ports.ts';
import { waitUntil } from '../process.ts';
import { startRedis, type Redis } from './redis.ts';

export interface RedisCluster {
  /** `redis+cluster://` with all nodes. */
  url: string;
  /** The primary that holds a key. */
  primaryOf(key: string): Promise<Redis>;
  stop(): Promise<void>;
}

const PRIMARIES = 3;
const SLOTS = 16_384;

/** Three primaries with a replica each, which takes over within some seconds. */
export async function startRedisCluster(): Promise<RedisCluster> {
  // All at once: of ports that were drawn one after the other two may be the same.
  const ports = await freePorts(4 * PRIMARIES);
  const nodes = await Promise.all(
    ports.slice(2 * PRIMARIES).map((port, index) => startNode(port, ports[index] as number)),
  );
  const clients = nodes.map(({ server }) => new Client({ port: server.port, maxRetriesPerRequest: null }));
  for (const client of clients) client.on('error', () => undefined);
  const call = async (index: number, ...words: string[]): Promise<unknown> => clients[index]?.call('CLUSTER', ...words);
  const infos = async (): Promise<string[]> =>
    Promise.all(nodes.map(async (_, index) => String(await call(index, 'INFO'))));
  for (const [index, { server, busPort }] of nodes.entries()) {
    await call(0, 'MEET', '127.0.0.1', String(server.port), String(busPort));
    if (index >= PRIMARIES) continue;
    const bounds = [index, index + 1].map((part) => Math.round((part * SLOTS) / PRIMARIES));
    await call(index, 'ADDSLOTSRANGE', String(bounds[0]), String((bounds[1] ?? 0) - 1));
  }
  const wait = { timeoutMs: 60_000, what: 'the cluster' };
  await waitUntil(
    async () => (await infos()).every((info) => info.includes(`cluster_known_nodes:${nodes.length}`)),
    wait,
  );
  const ids = await Promise.all(nodes.map(async (_, index) => String(await call(index, 'MYID'))));
  for (let index = PRIMARIES; index < nodes.length; index++) {
    const primary = ids[index - PRIMARIES] ?? '';
    // Not before it has heard of its primary.
    await waitUntil(async () => String(await call(index, 'REPLICATE', primary)) === 'OK', wait);
  }
  await waitUntil(async () => (await infos()).every((info) => info.includes('cluster_state:ok')), wait);
  await waitUntil(async () => {
    const roles = await Promise.all(clients.slice(PRIMARIES).map((client) => client.info('replication')));
    return roles.every((text) => text.includes('master_link_status:up'));
  }, wait);
  for (const client of clients) client.disconnect();
  const servers = nodes.map(({ server }) => server);
  return {
    url: `redis+cluster://${servers.map(({ port }) => `127.0.0.1:${port}`).join(',')}`,
    primaryOf: async (key) => {
      const client = new Client({ port: servers[0]?.port ?? 0 });
      const slot = Number(await client.call('CLUSTER', 'KEYSLOT', key));
      const ranges = (await client.call('CLUSTER', 'SLOTS')) as [number, number, [string, number]][];
      client.disconnect();
      const range = ranges.find(([from, to]) => from <= slot && slot <= to);
      const found = servers.find(({ port }) => port === range?.[2][1]);
      if (found === undefined) throw new Error(`no node holds the slot ${slot}`);
      return found;
    },
    stop: async () => {
      await Promise.all(servers.map((server) => server.stop()));
    },
  };
}

async function startNode(port: number, busPort: number): Promise<{ server: Redis; busPort: number }> {
  const options = { 'cluster-enabled': 'yes', 'cluster-node-timeout': '1000', 'cluster-port': String(busPort) };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  return { server: await startRedis({ port, args }), busPort };
}
