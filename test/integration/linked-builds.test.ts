import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { LinkedStage, NAMESPACE } from '../support/linked-stage.ts';
import { ManualClock } from '../support/manual-clock.ts';

const stage = new LinkedStage();
afterEach(() => stage.end());

const OLD = { build: 'a'.repeat(16), schema: 'old' };
const NEW = { build: 'b'.repeat(16), schema: 'new' };
const page = (schema: string): string => JSON.stringify({ state_schema: schema });

describe('while two builds of an app run', () => {
  it('a page that is loaded anew gets a worker that it was made for', async () => {
    const sidecar = await stage.sidecar();
    const old = await stage.worker(sidecar, 'old', OLD);
    const before = await stage.client(sidecar);
    await before.connect(NAMESPACE, page('old'));
    const fresh = await stage.worker(sidecar, 'new', NEW);
    before.socket.close(1000);
    await eventually(() => old.open).toBe(0);
    const after = await stage.client(sidecar);
    await after.connect(NAMESPACE, page('new'));
    expect([old.open, fresh.open]).toEqual([0, 1]);
  });

  it('a page whose worker died while its client was cut off keeps to its build', async () => {
    const sidecar = await stage.sidecar({}, { clock: new ManualClock() });
    const first = await stage.worker(sidecar, 'old-1', { ...OLD, schema: undefined });
    const before = await stage.client(sidecar);
    await before.connect();
    // It is busier by far than the one of the new build.
    const second = await stage.worker(sidecar, 'old-2', { ...OLD, schema: undefined });
    second.stats({ sessions: 1_000, inFlight: 0, lagMs: 0, rss: 0 });
    const fresh = await stage.worker(sidecar, 'new', { ...NEW, schema: undefined });
    before.raw.destroy();
    await eventually(() => before.closed).toBeDefined();
    first.cut();
    await eventually(() => sidecar.running.operator.stats().links).toHaveLength(2);
    const after = await stage.client(sidecar);
    await after.connect();
    expect([second.open, fresh.open]).toEqual([1, 0]);
  });
});
