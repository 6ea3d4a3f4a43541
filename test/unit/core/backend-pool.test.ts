import { setImmediate } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { Figures } from '../../../src/adapters/metrics/figures.ts';
import { BackendPool } from '../../../src/core/backends/backend-pool.ts';
import { clientInfo } from '../../../src/core/relay/client-info.ts';
import type { SessionChannel, SessionChannelSink } from '../../../src/core/relay/session-channel.ts';
import { silentLogger } from '../../../src/ports/logger.ts';
import type { Channel, ChannelSink, Upstream } from '../../../src/ports/upstream.ts';
import type { ClientToken } from '../../../src/protocol/brand.ts';
import { ManualClock } from '../../support/manual-clock.ts';

/** So many sessions begin at a backend at a time. */
const AT_ONCE = 16;
const CHANNEL: Channel = {
  maxPayload: 1,
  bufferedBytes: 0,
  send: () => 'flushed',
  pause: () => undefined,
  resume: () => undefined,
  close: () => undefined,
};
const ACK = Buffer.from('40/_event,{"sid":"a"}');

const SINK: SessionChannelSink = {
  message: () => undefined,
  drained: () => undefined,
  returned: () => undefined,
  interrupted: () => undefined,
  first: () => undefined,
  cookies: () => undefined,
  probe: () => Promise.resolve({ alive: true, kept: [] }),
  ended: () => undefined,
};

/** A worker that takes whoever dials, and notes the tokens in their order. */
class PlayedWorker implements Upstream {
  readonly url = 'http://worker';
  readonly dialled: string[] = [];
  readonly sinks: ChannelSink[] = [];
  refuses = false;

  open({ target }: { target: string }, sink: ChannelSink): Promise<Channel> {
    this.dialled.push(target);
    this.sinks.push(sink);
    return this.refuses ? Promise.reject(new Error('refused')) : Promise.resolve(CHANNEL);
  }

  probe(): Promise<{ maxPayload: number }> {
    return Promise.resolve({ maxPayload: 1 });
  }

  connect(): Promise<never> {
    return Promise.reject(new Error('not played'));
  }

  forward(): Promise<never> {
    return Promise.reject(new Error('not played'));
  }

  close(): void {
    // Nothing is open.
  }
}

let clock: ManualClock;
let worker: PlayedWorker;
let pool: BackendPool;
let opened: SessionChannel[];

beforeEach(() => {
  clock = new ManualClock();
  worker = new PlayedWorker();
  opened = [];
  const options = { connectTimeout: 5_000, wait: 30_000, probeInterval: 5_000, namespace: '/_event' };
  const parts = {
    clock,
    logger: silentLogger,
    metrics: new Figures(),
    records: undefined,
    linkedHome: () => undefined,
  };
  pool = new BackendPool([worker], options, parts);
});

/** Clients `from` to `to` come back. */
async function come(from: number, to: number, signal = new AbortController().signal): Promise<void> {
  for (let n = from; n < to; n++) {
    const request = { target: `${n}`, headers: {}, protocols: [] };
    const client = clientInfo({ token: `tab-${n}` as ClientToken, address: '::1', request });
    pool.open(client, SINK, signal).then(
      (channel) => opened.push(channel),
      () => undefined,
    );
  }
  await setImmediate();
}

const upTo = (count: number): string[] => Array.from({ length: count }, (_, n) => `${n}`);

describe('sessions that begin at a backend', () => {
  it('do not wait where it is quiet', async () => {
    await come(0, AT_ONCE);
    expect(worker.dialled).toEqual(upTo(AT_ONCE));
    expect(opened).toHaveLength(AT_ONCE);
  });

  it('begin a few at a time where all come at once, in their order, each as soon as the backend has answered another', async () => {
    await come(0, 1_000);
    expect(worker.dialled).toHaveLength(AT_ONCE);
    for (let answered = 0; answered < 1_000; answered++) {
      worker.sinks[answered]?.message(ACK, false);
      // What it says further lets nobody else in.
      worker.sinks[answered]?.message(ACK, false);
      await setImmediate();
      expect(worker.dialled).toHaveLength(Math.min(1_000, AT_ONCE + answered + 1));
    }
    expect(worker.dialled).toEqual(upTo(1_000));
    expect(pool.backends[0]?.sessions).toBe(1_000);
  });

  it('are not held up by those that left, failed, or get no answer', async () => {
    await come(0, AT_ONCE);
    const leaving = new AbortController();
    await come(AT_ONCE, 2 * AT_ONCE, leaving.signal);
    await come(2 * AT_ONCE, 4 * AT_ONCE);
    leaving.abort();
    await opened[0]?.close('closed');
    await setImmediate();
    expect(worker.dialled).toEqual([...upTo(AT_ONCE), `${2 * AT_ONCE}`]);
    worker.refuses = true;
    worker.sinks[1]?.message(ACK, false);
    await setImmediate();
    // Each that fails makes room for the next.
    expect(worker.dialled).toHaveLength(3 * AT_ONCE);
    worker.refuses = false;
    // They try again, and nobody is answered any more.
    for (let second = 1; second <= 2; second++) {
      clock.advance(1_000);
      await setImmediate();
      expect(opened).toHaveLength(AT_ONCE + 1 + Math.min(second * AT_ONCE, 2 * AT_ONCE - 1));
    }
    expect(pool.backends[0]?.sessions).toBe(3 * AT_ONCE - 1);
  });
});
