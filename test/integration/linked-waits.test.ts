import { afterEach, describe, expect, it } from 'vitest';
import type { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { LinkedStage, NAMESPACE, upTo } from '../support/linked-stage.ts';

const stage = new LinkedStage();
afterEach(() => stage.end());

describe('a session that comes', () => {
  it('to a worker that refuses it waits no longer than upstream.waitSeconds', async () => {
    const sidecar = await stage.sidecar({ upstream: { waitSeconds: 1 } });
    const worker = await stage.worker(sidecar, 'one');
    worker.onAttach = () => ({ kind: 'refused', error: 'failed', instance: null, message: '' });
    const client = await stage.client(sidecar);
    client.send(`40${NAMESPACE},`);
    await client.untilClosed();
    expect(worker.sessions.length).toBeGreaterThan(1);
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
