import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { redisBus } from '../../src/adapters/bus/redis-bus.ts';
import { redisStreamBus } from '../../src/adapters/bus/redis-stream-bus.ts';
import { listeningConnection } from '../../src/adapters/redis/redis-client.ts';
import type { ChangeBus } from '../../src/ports/change-bus.ts';
import { encodeChanges } from '../../src/protocol/change.ts';
import { startRedisCluster, type RedisCluster } from '../../tools/services/redis-cluster.ts';
import { startRedisSentinel } from '../../tools/services/redis-sentinel.ts';
import { startRedis } from '../../tools/services/redis.ts';
import { eventually } from '../support/eventually.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';
import { change, publishingOn, startedBus } from './change-bus.ts';
import { parts, RedisStage } from './redis-stage.ts';

const stage = new RedisStage();

function channelBus(url = stage.redis.url): ChangeBus {
  const commands = stage.client('commands', url);
  const bus = redisBus({ ...parts, commands, listen: () => listeningConnection(commands), name: stage.name });
  stage.closes(() => bus.close());
  return bus;
}

/** A way to a port that can be held up: connections stay open and nothing passes. */
async function pausableWay(port: number): Promise<{ url: string; pause(): void; resume(): void; close(): void }> {
  const sockets = new Set<Socket>();
  let isPaused = false;
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => undefined).once('close', () => [near, far].forEach((end) => end.destroy()));
    }
    near.on('data', (data) => far.write(data));
    far.on('data', (data) => near.write(data));
    if (isPaused) [near, far].forEach((socket) => socket.pause());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    pause: () => {
      isPaused = true;
      for (const socket of sockets) socket.pause();
    },
    resume: () => {
      isPaused = false;
      for (const socket of sockets) socket.resume();
    },
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

describe('Redis pub/sub', () => {
  it('reads much of it a little at a time, in order, so that other work passes between', async () => {
    const { bus, heard } = await startedBus(channelBus());
    // Turns of the event loop, not milliseconds: how much is read in one of those is a matter of the machine.
    let turn = 0;
    let work = setImmediate(function next() {
      turn++;
      work = setImmediate(next);
    });
    const turns: number[] = [];
    const leave = bus.subscribe({
      changes: (batch) => void turns.push(...batch.map(() => turn)),
      gap: () => undefined,
    });
    const count = 20_000;
    await bus.publish(Array.from({ length: count }, (_, pk) => change(pk)));
    await eventually(() => heard.list.length).toBe(count);
    clearImmediate(work);
    leave();
    expect(heard.pks).toEqual(Array.from({ length: count }, (_, pk) => pk));
    expect(new Set(turns).size).toBeGreaterThan(20);
  });

  it('tells a gap when only its subscription was cut', async () => {
    const { bus, heard } = await startedBus(channelBus());
    await stage.operator.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await eventually(() => heard.gaps).toEqual([{ reason: 'reconnect' }]);
    await eventually(() => bus.state).toBe('up');
    await bus.publish([change(1)]);
    await eventually(() => heard.pks).toEqual([1]);
  });

  it('notices a server that stopped answering, and tells a gap when it goes on', async () => {
    const { bus, heard } = await startedBus(channelBus());
    process.kill(stage.redis.pid, 'SIGSTOP');
    try {
      await eventually(() => bus.state).toBe('down');
      await expect(bus.publish([change(1)])).rejects.toThrow('publish them again');
    } finally {
      process.kill(stage.redis.pid, 'SIGCONT');
    }
    await eventually(() => bus.state).toBe('up');
    expect(heard.gaps.length).toBeGreaterThan(0);
  });

  it('is not up by a beat that still waited to be read when its subscription ended', async () => {
    const commands = stage.client('commands');
    const connections: ReturnType<typeof listeningConnection>[] = [];
    let mayListen = true;
    const listen = (): (typeof connections)[0] | undefined => {
      const connection = mayListen ? listeningConnection(commands) : undefined;
      if (connection !== undefined) connections.push(connection);
      return connection;
    };
    const bus = redisBus({ ...parts, commands, listen, name: stage.name });
    stage.closes(() => bus.close());
    const { heard } = await startedBus(bus);
    mayListen = false;
    const last = change('last');
    connections[0]?.on('message', (_, text) => {
      if (text.includes(last.id)) connections[0]?.disconnect();
    });
    const [beats] = (await stage.operator.call('PUBSUB', 'CHANNELS', `*:${stage.name}:*:beat:*`)) as string[];
    // More than is read in one go.
    const much = stage.operator.pipeline();
    for (let n = 0; n < 5_000; n++) much.publish(`bridgehead:${stage.name}:changes`, 'x'.repeat(1_000));
    much.publish(beats ?? '', '');
    much.publish(`bridgehead:${stage.name}:changes`, encodeChanges([last])[0] ?? '');
    await much.exec();
    await eventually(() => heard.pks).toEqual(['last']);
    await eventually(() => bus.state).toBe('down');
    expect(heard.gaps).toEqual([]);
    mayListen = true;
    await eventually(() => heard.gaps).toEqual([{ reason: 'reconnect' }]);
    expect(bus.state).toBe('up');
  });

  it('takes what any other program publishes, and ignores what is no change', async () => {
    const { heard } = await startedBus(channelBus());
    for (const text of ['nonsense', '{"model":"shop.product","action":"updated","pk":42}']) {
      await stage.operator.publish(`bridgehead:${stage.name}:changes`, text);
    }
    await eventually(() => heard.list).toMatchObject([{ model: 'shop.product', action: 'updated', pk: 42 }]);
  });
});

describe('Redis Streams', () => {
  it('reads on from its cursor after its connections were cut under load: nothing is missed and no gap told', async () => {
    const [one, two] = await Promise.all([startedBus(stage.streamBus()), startedBus(stage.streamBus())]);
    const publisher = publishingOn(one.bus);
    for (let cut = 1; cut <= 3; cut++) {
      await eventually(() => two.heard.list.length).toBeGreaterThan(cut * 20);
      await stage.operator.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    }
    const before = two.heard.list.length;
    await eventually(() => two.heard.list.length).toBeGreaterThan(before + 20);
    const taken = await publisher.stop();
    for (const { heard } of [one, two]) {
      await eventually(() => taken.filter(({ id }) => !heard.has(id))).toEqual([]);
      expect(heard.gaps).toEqual([]);
    }
  });

  it('is up no sooner than it takes messages, though it could read before', async () => {
    const way = await TcpProxy.start(stage.redis.port);
    stage.closes(() => way.stop());
    way.refuses = true;
    const clients = {
      commands: stage.client('commands', `redis://127.0.0.1:${way.port}`),
      reader: stage.client('blocking'),
    };
    const bus = redisStreamBus({ ...parts, ...clients, name: stage.name });
    stage.closes(() => bus.close());
    const starting = startedBus(bus);
    await eventually(() => [clients.reader.status, bus.detail]).toEqual([
      'ready',
      'the stream cannot be read (not connected)',
    ]);
    expect(bus.state).toBe('starting');
    way.refuses = false;
    const { heard } = await starting;
    await bus.publish([change(1)]);
    await eventually(() => heard.pks).toEqual([1]);
  });

  it('keeps about maxLength messages, and tells a gap to whoever was cut off for more', async () => {
    const way = await pausableWay(stage.redis.port);
    stage.closes(() => way.close());
    const { bus, heard } = await startedBus(stage.streamBus(stage.redis.url, 100));
    const far = await startedBus(stage.streamBus(way.url, 100));
    await bus.publish([change('first')]);
    await eventually(() => far.heard.pks).toEqual(['first']);
    way.pause();
    for (let n = 0; n < 1_000; n++) await bus.publish([change(n)]);
    expect(await stage.operator.xlen(stage.stream)).toBeLessThan(400);
    await eventually(() => heard.list.length).toBe(1_001);
    expect(heard.gaps).toEqual([]);
    way.resume();
    await eventually(() => far.heard.gaps).toEqual([{ reason: 'trimmed' }]);
    await bus.publish([change('last')]);
    await eventually(() => far.heard.pks.at(-1)).toBe('last');
  });

  it('tells a gap when what it stood at is gone, and goes on', async () => {
    const { bus, heard } = await startedBus(stage.streamBus());
    await bus.publish([change(1)]);
    await eventually(() => heard.pks).toEqual([1]);
    await stage.operator.del(stage.stream);
    // A stream that begins anew may give an id of the same millisecond once more: then it would be the one that was read.
    const begun = Date.now();
    await eventually(() => Date.now()).toBeGreaterThan(begun + 1);
    await bus.publish([change(2)]);
    await eventually(() => heard.all.map((entry) => ('id' in entry ? entry.pk : entry.reason))).toEqual([
      1,
      'trimmed',
      2,
    ]);
  });

  it('reads on from the disk of a server that crashed, and says that the last may be missing', async () => {
    const args = ['--appendonly', 'yes', '--appendfsync', 'always'];
    const first = await startRedis({ args });
    const { bus, heard } = await startedBus(stage.streamBus(first.url));
    await bus.publish([change(1)]);
    await eventually(() => heard.pks).toEqual([1]);
    await first.kill();
    const second = await startRedis({ ...first, args });
    stage.closes(() => second.stop());
    await eventually(() => heard.gaps).toEqual([{ reason: 'server' }]);
    expect(bus.state).toBe('up');
    const next = change(2);
    const published = (): Promise<boolean> =>
      bus.publish([next]).then(
        () => true,
        () => false,
      );
    await eventually(published).toBe(true);
    await eventually(() => heard.pks).toEqual([1, 2]);
  });
});

describe.each([
  ['pub/sub', channelBus],
  ['Streams', (url: string) => stage.streamBus(url)],
])('Redis %s behind several servers', (_, make) => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await startRedisCluster();
  });
  afterAll(() => cluster.stop());

  it('works over a cluster, also after the node that holds the stream has failed', async () => {
    const [one, two] = await Promise.all([startedBus(make(cluster.url)), startedBus(make(cluster.url))]);
    const publisher = publishingOn(one.bus);
    await eventually(() => two.heard.list.length).toBeGreaterThan(20);
    await (await cluster.primaryOf(stage.stream)).kill();
    await eventually(() => [one.bus.state, two.bus.state], { timeout: 40_000 }).toEqual(['up', 'up']);
    const probe = async (): Promise<boolean> => {
      const next = change('probe');
      await one.bus.publish([next]).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 50));
      return one.heard.has(next.id) && two.heard.has(next.id);
    };
    await eventually(probe, { timeout: 40_000 }).toBe(true);
    const taken = await publisher.stop();
    await new Promise((resolve) => setImmediate(resolve));
    for (const { heard } of [one, two]) {
      const missing = (): unknown[] => taken.filter(({ id }) => !heard.has(id));
      await eventually(() => missing().length === 0 || heard.gaps.length > 0).toBe(true);
    }
  }, 120_000);

  it('follows a sentinel to the new primary', async () => {
    const sentinel = await startRedisSentinel();
    stage.closes(() => sentinel.stop());
    const { bus, heard } = await startedBus(make(sentinel.url));
    await bus.publish([change(1)]);
    await eventually(() => heard.pks).toEqual([1]);
    await sentinel.primary.kill();
    await eventually(() => bus.state).toBe('down');
    await eventually(() => bus.state, { timeout: 40_000 }).toBe('up');
    expect(heard.gaps.length).toBeGreaterThan(0);
    const probe = async (): Promise<boolean> => {
      const next = change('probe');
      await bus.publish([next]).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 50));
      return heard.has(next.id);
    };
    await eventually(probe, { timeout: 40_000 }).toBe(true);
  }, 120_000);
});
