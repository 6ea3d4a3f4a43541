import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis as Client } from 'ioredis';
import { freePort } from '../ports.ts';
import { startProcess, waitUntil } from '../process.ts';
import { requireProgram } from './install.ts';
import { redisProgram, startRedis, type Redis } from './redis.ts';

export interface RedisSentinel {
  /** `redis+sentinel://` */
  url: string;
  /** The one that is primary at the start. */
  primary: Redis;
  stop(): Promise<void>;
}

/** A primary, a replica, and one sentinel that makes the replica primary within some seconds. */
export async function startRedisSentinel(): Promise<RedisSentinel> {
  const command = await requireProgram(redisProgram);
  const primary = await startRedis();
  const replica = await startRedis({ args: ['--replicaof', '127.0.0.1', String(primary.port)] });
  const folder = await mkdtemp(join(tmpdir(), 'bridgehead-sentinel-'));
  const port = await freePort();
  const file = join(folder, 'sentinel.conf');
  const lines = [
    `port ${port}`,
    'bind 127.0.0.1',
    `dir ${folder}`,
    `sentinel monitor shop 127.0.0.1 ${primary.port} 1`,
    'sentinel down-after-milliseconds shop 1000',
    'sentinel failover-timeout shop 5000',
  ];
  await writeFile(file, `${lines.join('\n')}\n`);
  const client = new Client({ port, lazyConnect: true, maxRetriesPerRequest: null });
  client.on('error', () => undefined);
  const sentinel = await startProcess({
    name: 'redis-sentinel',
    command,
    args: [file, '--sentinel'],
    logFile: join(folder, 'sentinel.log'),
    ready: async () => {
      if (client.status === 'wait') void client.connect().catch(() => undefined);
      return client.status === 'ready';
    },
  });
  // It finds replicas by asking the primary every ten seconds, at first at once.
  await waitUntil(async () => ((await client.call('SENTINEL', 'REPLICAS', 'shop')) as unknown[]).length === 1, {
    timeoutMs: 30_000,
    what: 'the sentinel to know the replica',
  });
  client.disconnect();
  return {
    url: `redis+sentinel://127.0.0.1:${port}/shop`,
    primary,
    stop: async () => {
      await sentinel.stop();
      await Promise.all([primary.stop(), replica.stop()]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
