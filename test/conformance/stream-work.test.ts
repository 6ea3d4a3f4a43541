import { beforeEach, describe, expect, it } from 'vitest';
import {
  addDeadLetter,
  countDeadLetters,
  listDeadLetters,
  replayDeadLetter,
} from '../../src/adapters/bus/dead-letters.ts';
import { appendToStream } from '../../src/adapters/bus/redis-stream.ts';
import { streamWork, type StreamWorkOptions } from '../../src/adapters/bus/stream-work.ts';
import { connectRedis } from '../../src/adapters/redis/redis-client.ts';
import { systemClock } from '../../src/ports/clock.ts';
import { silentLogger } from '../../src/ports/logger.ts';
import { encodeChanges, type Change, type Gap } from '../../src/protocol/change.ts';
import { startRedis } from '../../tools/services/redis.ts';
import { eventually } from '../support/eventually.ts';
import { change, startedBus } from './change-bus.ts';
import { parts, RedisStage } from './redis-stage.ts';

const stage = new RedisStage();
let gaps: Gap[] = [];

beforeEach(() => {
  gaps = [];
});

describe('one-of-many work on the stream', () => {
  const work = (options: Pick<StreamWorkOptions, 'consumer' | 'handle'> & Partial<StreamWorkOptions>) => {
    const made = streamWork({
      ...parts,
      client: stage.client('blocking'),
      name: stage.name,
      group: 'mail',
      claimAfter: 50,
      maxTries: 3,
      missed: (gap) => void gaps.push(gap),
      ...options,
    });
    stage.closes(() => made.close());
    return made;
  };
  const pending = async (): Promise<number> => ((await stage.operator.xpending(stage.stream, 'mail')) as [number])[0];
  const groupExists = async (group = 'mail'): Promise<boolean> =>
    JSON.stringify(await stage.operator.xinfo('GROUPS', stage.stream).catch(() => [])).includes(`"${group}"`);

  it('gives each change to one consumer of a group, and to each group', async () => {
    const { bus } = await startedBus(stage.streamBus());
    const done: [string, number | string][] = [];
    const handle = (who: string) => (one: { pk: number | string }) => {
      done.push([who, one.pk]);
      return Promise.resolve();
    };
    work({ consumer: 'a', handle: handle('mail'), claimAfter: 60_000 });
    work({ consumer: 'b', handle: handle('mail'), claimAfter: 60_000 });
    work({ consumer: 'a', group: 'search', handle: handle('search'), claimAfter: 60_000 });
    await eventually(async () => (await groupExists()) && (await groupExists('search'))).toBe(true);
    for (let n = 0; n < 50; n++) await bus.publish([change(n)]);
    await eventually(() => done.length).toBe(100);
    for (const group of ['mail', 'search']) {
      const pks = done.flatMap(([who, pk]) => (who === group ? [Number(pk)] : []));
      expect(pks.toSorted((x, y) => x - y)).toEqual(Array.from({ length: 50 }, (_, n) => n));
    }
  });

  it("does a dead consumer's work", async () => {
    const { bus } = await startedBus(stage.streamBus());
    const dead = work({ consumer: 'dead', handle: () => Promise.reject(new Error('died')) });
    await eventually(groupExists).toBe(true);
    await bus.publish([change(7)]);
    await eventually(pending).toBe(1);
    await dead.close();
    const done: unknown[] = [];
    work({
      consumer: 'alive',
      handle: ({ pk }) => {
        done.push(pk);
        return Promise.resolve();
      },
    });
    await eventually(() => done).toEqual([7]);
    await eventually(pending).toBe(0);
  });

  it('puts aside what fails too often, lists it, and replays it to its group alone', async () => {
    const { bus, heard } = await startedBus(stage.streamBus());
    const tried: (number | string)[] = [];
    const elsewhere: (number | string)[] = [];
    let isBroken = true;
    const said: string[] = [];
    work({
      consumer: 'a',
      logger: { ...silentLogger, warn: (_, message) => void said.push(message) },
      handle: ({ pk }) => {
        tried.push(pk);
        return isBroken && pk === 13 ? Promise.reject(new Error('unlucky')) : Promise.resolve();
      },
    });
    work({
      consumer: 'a',
      group: 'search',
      handle: ({ pk }) => {
        elsewhere.push(pk);
        return Promise.resolve();
      },
    });
    await eventually(async () => (await groupExists()) && (await groupExists('search'))).toBe(true);
    await bus.publish([change(13)]);
    await bus.publish([change(14)]);
    await eventually(() => listDeadLetters(stage.operator, stage.name, 10)).toMatchObject([
      { group: 'mail', tries: 3 },
    ]);
    expect(tried.filter((pk) => pk === 13)).toHaveLength(3);
    expect(tried).toContain(14);
    const [letter] = await listDeadLetters(stage.operator, stage.name, 10);
    expect(letter?.message).toContain('"pk":13');
    expect(said.filter((line) => line.includes('dead letter'))).toHaveLength(1);
    isBroken = false;
    expect(await replayDeadLetter(stage.operator, stage.name, '-')).toBe('unknown');
    expect(await replayDeadLetter(stage.operator, stage.name, letter?.id ?? '')).toBe('replayed');
    await eventually(() => tried.filter((pk) => pk === 13)).toHaveLength(4);
    await bus.publish([change(15)]);
    await eventually(() => elsewhere).toEqual([13, 14, 15]);
    await eventually(() => heard.pks).toEqual([13, 14, 15]);
    expect(await listDeadLetters(stage.operator, stage.name, 10)).toEqual([]);
    expect(await replayDeadLetter(stage.operator, stage.name, letter?.id ?? '')).toBe('unknown');
  });

  it('keeps a dead letter whose group is gone', async () => {
    const { bus } = await startedBus(stage.streamBus());
    const broken = work({ consumer: 'a', handle: () => Promise.reject(new Error('unlucky')) });
    await eventually(groupExists).toBe(true);
    await bus.publish([change(13)]);
    await eventually(() => listDeadLetters(stage.operator, stage.name, 10)).toHaveLength(1);
    await broken.close();
    await stage.operator.xgroup('DESTROY', stage.stream, 'mail');
    const [letter] = await listDeadLetters(stage.operator, stage.name, 10);
    expect(await replayDeadLetter(stage.operator, stage.name, letter?.id ?? '')).toBe('groupless');
    await stage.operator.del(stage.stream);
    expect(await replayDeadLetter(stage.operator, stage.name, letter?.id ?? '')).toBe('groupless');
    expect(await listDeadLetters(stage.operator, stage.name, 10)).toEqual([letter]);
  });

  it('says how many dead letters had to go for a new one', async () => {
    const letter = { group: 'mail', entry: '1-1', tries: 3, message: '{}' };
    const dropped = await Promise.all(
      Array.from({ length: 1_200 }, () => addDeadLetter(stage.operator, stage.name, letter)),
    );
    const kept = await countDeadLetters(stage.operator, stage.name);
    expect(kept).toBeLessThan(1_200);
    expect(dropped.reduce((sum, count) => sum + count, 0) + kept).toBe(1_200);
  });

  it('gives healthy consumers nothing twice, however slow they are and however much waits', async () => {
    const { bus } = await startedBus(stage.streamBus());
    const done: (number | string)[] = [];
    const handle = async ({ pk }: Change): Promise<void> => {
      // Longer than claimAfter: only who says nothing is taken for dead.
      const until = systemClock.monotonic() + 4_000;
      await eventually(() => systemClock.monotonic(), { interval: 100 }).toBeGreaterThan(until);
      done.push(pk);
    };
    for (const consumer of ['a', 'b', 'c']) work({ consumer, handle, claimAfter: 3_000 });
    await eventually(groupExists).toBe(true);
    for (let n = 0; n < 6; n++) await bus.publish([change(n)]);
    await eventually(async () => new Set(done).size === 6 && (await pending()) === 0).toBe(true);
    expect(done).toHaveLength(6);
    expect(await listDeadLetters(stage.operator, stage.name, 10)).toEqual([]);
  });

  it('tells a group that was away for longer than the stream keeps, once, and only then', async () => {
    const { bus } = await startedBus(stage.streamBus(stage.redis.url, 100));
    const done: (number | string)[] = [];
    const handle = ({ pk }: Change): Promise<void> => {
      done.push(pk);
      return Promise.resolve();
    };
    const first = work({ consumer: 'a', handle });
    await eventually(groupExists).toBe(true);
    await bus.publish([change(0)]);
    await eventually(pending).toBe(0);
    await eventually(() => done).toEqual([0]);
    await first.close();
    for (let n = 1; n <= 20; n++) await bus.publish([change(n)]);
    const second = work({ consumer: 'a', handle });
    await eventually(() => done).toHaveLength(21);
    expect(gaps).toEqual([]);
    await second.close();
    for (let n = 21; n <= 1_000; n++) await bus.publish([change(n)]);
    work({ consumer: 'a', handle });
    await eventually(() => done.at(-1)).toBe(1_000);
    expect(done.length).toBeLessThan(1_000);
    expect(gaps).toEqual([{ reason: 'trimmed' }]);
  });

  it('tells of messages that were trimmed before they were done', async () => {
    const { bus } = await startedBus(stage.streamBus(stage.redis.url, 100));
    const dead = work({ consumer: 'dead', handle: () => Promise.reject(new Error('died')), claimAfter: 60_000 });
    await eventually(groupExists).toBe(true);
    await bus.publish([change(7)]);
    await eventually(pending).toBe(1);
    await dead.close();
    await stage.operator.xtrim(stage.stream, 'MAXLEN', 0);
    work({ consumer: 'alive', handle: () => Promise.resolve() });
    await eventually(() => gaps.length).toBeGreaterThan(0);
    await eventually(pending).toBe(0);
  });

  it('hands on a gap that a publisher tells, again where that fails', async () => {
    const { bus } = await startedBus(stage.streamBus());
    let isBroken = true;
    const told: Gap[] = [];
    work({
      consumer: 'a',
      handle: () => Promise.resolve(),
      missed: (gap) => {
        if (isBroken) {
          isBroken = false;
          throw new Error('unlucky');
        }
        told.push(gap);
      },
    });
    await eventually(groupExists).toBe(true);
    await bus.publishGap({ reason: 'reported', model: 'shop.product' });
    await eventually(() => told).toEqual([{ reason: 'reported', model: 'shop.product' }]);
  });

  it('tells a gap when Redis has lost everything, and does what came before it knew', async () => {
    const own = await startRedis();
    stage.closes(() => own.stop());
    const publisher = stage.client('commands', own.url);
    await connectRedis(publisher);
    const done: (number | string)[] = [];
    let gate = (): void => undefined;
    work({
      consumer: 'a',
      client: stage.client('blocking', own.url),
      handle: async ({ pk }) => {
        done.push(pk);
        if (pk === 1) await new Promise<void>((resolve) => (gate = resolve));
      },
    });
    const groups = (): Promise<unknown> => publisher.xinfo('GROUPS', stage.stream).catch(() => []);
    await eventually(async () => JSON.stringify(await groups())).toContain('mail');
    await appendToStream(publisher, stage.name, encodeChanges([change(1)]));
    await eventually(() => done).toEqual([1]);
    // While it is at work, so that it cannot have noticed before there is something new.
    await publisher.flushall();
    await appendToStream(publisher, stage.name, encodeChanges([change(2)]));
    gate();
    await eventually(() => done).toEqual([1, 2]);
    expect(gaps).toEqual([{ reason: 'server' }]);
  });

  it('tells a gap when Redis has restarted from its disk: the last may be missing', async () => {
    const args = ['--appendonly', 'yes', '--appendfsync', 'always'];
    const before = await startRedis({ args });
    const done: (number | string)[] = [];
    work({
      consumer: 'a',
      client: stage.client('blocking', before.url),
      handle: ({ pk }) => {
        done.push(pk);
        return Promise.resolve();
      },
    });
    const publisher = stage.client('commands', before.url);
    await connectRedis(publisher);
    const groups = (): Promise<unknown> => publisher.xinfo('GROUPS', stage.stream).catch(() => []);
    await eventually(async () => JSON.stringify(await groups())).toContain('mail');
    await before.kill();
    const after = await startRedis({ ...before, args });
    stage.closes(() => after.stop());
    await eventually(() => gaps).toEqual([{ reason: 'server' }]);
    const publish = (): Promise<boolean> =>
      appendToStream(publisher, stage.name, encodeChanges([change(2)])).then(
        () => true,
        () => false,
      );
    await eventually(publish).toBe(true);
    await eventually(() => done).toContain(2);
    expect(gaps).toHaveLength(1);
  });
});
