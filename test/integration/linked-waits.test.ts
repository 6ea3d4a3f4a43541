import { afterEach, describe, expect, it } from 'vitest';
import { LinkFrame } from '../../src/protocol/link.ts';
import type { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import type { LinkWorker } from '../support/link-worker.ts';
import { event, LinkedStage, NAMESPACE, numbers, toasts, upTo } from '../support/linked-stage.ts';
import { ManualClock } from '../support/manual-clock.ts';

const stage = new LinkedStage();
afterEach(() => stage.end());

describe('a session that comes', () => {
  it('to a worker that refuses it waits no longer than upstream.waitSeconds', async () => {
    const sidecar = await stage.sidecar({ upstream: { waitSeconds: 3 } });
    const worker = await stage.worker(sidecar, 'one');
    worker.onAttach = () => ({ kind: 'refused', error: 'failed', instance: null, message: '' });
    const client = await stage.client(sidecar);
    client.send(`40${NAMESPACE},`);
    await client.untilClosed();
    expect(worker.sessions.length).toBeGreaterThan(1);
    expect(sidecar.metrics.closed.count('upstream_unavailable')).toBe(1);
  });

  it('to two workers that refuse it asks each again after a while, and is told as well', async () => {
    const sidecar = await stage.sidecar({ upstream: { waitSeconds: 3 } });
    const workers = [await stage.worker(sidecar, 'one'), await stage.worker(sidecar, 'two')];
    for (const worker of workers)
      worker.onAttach = () => ({ kind: 'refused', error: 'failed', instance: null, message: '' });
    const client = await stage.client(sidecar);
    client.send(`40${NAMESPACE},`);
    await client.untilClosed();
    for (const { sessions } of workers) {
      expect(sessions.length).toBeGreaterThan(1);
      expect(sessions.length).toBeLessThan(10);
    }
    expect(sidecar.metrics.closed.count('upstream_unavailable')).toBe(1);
  });

  it('behind many others waits for its turn, however long they take', async () => {
    const sidecar = await stage.sidecar({ upstream: { waitSeconds: 1 } });
    const worker = await stage.worker(sidecar, 'one');
    worker.onAttach = () => undefined;
    const clients: EngineClient[] = [];
    for (const n of upTo(40)) {
      const client = await stage.client(sidecar, `tab-${n}`);
      client.send(`40${NAMESPACE},`);
      clients.push(client);
    }
    // A place is given on after half a second, eight at a time: the last ones stand for longer than a second.
    await eventually(() => worker.sessions).toHaveLength(40);
    for (const session of worker.sessions) session.answer({ kind: 'attached', received: 0, sent: 0 });
    const isIn = ({ messages }: EngineClient): boolean => messages.some((text) => text.startsWith('0/'));
    await eventually(() => clients.filter(isIn)).toHaveLength(40);
  });
});

describe('a session that moves', () => {
  const moving = async (waitSeconds: number) => {
    const clock = new ManualClock();
    const sidecar = await stage.sidecar({ upstream: { waitSeconds } }, { clock });
    const one = await stage.worker(sidecar, 'one');
    const client = await stage.enter(sidecar);
    const two = await stage.worker(sidecar, 'two');
    two.connects = false;
    one.drain(60);
    const stuck = await two.session();
    await eventually(() => stuck.texts).toHaveLength(1);
    client.send(event(1));
    await eventually(() => sidecar.running.operator.sessions(1)[0]?.queued.upstream ?? 0).toBeGreaterThan(0);
    return { sidecar, one, two, client, clock, stuck };
  };

  /** Both sides show meanwhile that they live. */
  const pass = async (clock: ManualClock, workers: readonly LinkWorker[], seconds: number): Promise<void> => {
    for (const second of upTo(seconds)) {
      for (const { client } of workers) {
        client.send(LinkFrame.ping, { t: second });
        await client.until(LinkFrame.pong, second + 1);
      }
      clock.advance(1_000);
    }
  };

  it('to a worker that does not connect it goes on to another one', async () => {
    const { sidecar, two, clock, stuck, client } = await moving(30);
    const three = await stage.worker(sidecar, 'three');
    await pass(clock, [two, three], 15);
    expect(await stuck.untilDetached()).toBe('move');
    const moved = await three.session();
    await eventually(() => numbers(moved)).toEqual([1]);
    expect([two.sessions.length, client.closed]).toEqual([1, undefined]);
  });

  it('to a worker that does not connect it, and to no other, is told in time', async () => {
    const { sidecar, two, clock, stuck, client } = await moving(5);
    await pass(clock, [two], 15);
    expect(await stuck.untilDetached()).toBe('move');
    await client.untilClosed();
    expect(toasts(client)).toHaveLength(1);
    expect(sidecar.metrics.losses.count('upstream_unavailable')).toBe(1);
  });
});
