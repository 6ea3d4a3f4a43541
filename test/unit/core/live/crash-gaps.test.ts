import { describe, expect, it, onTestFinished } from 'vitest';
import { memoryBus } from '../../../../src/adapters/bus/memory-bus.ts';
import { CrashGaps } from '../../../../src/core/live/crash-gaps.ts';
import { BusUnavailableError, type ChangeBus } from '../../../../src/ports/change-bus.ts';
import type { LinkedWorker } from '../../../../src/ports/links.ts';
import { silentLogger } from '../../../../src/ports/logger.ts';
import type { Gap } from '../../../../src/protocol/change.ts';
import type { Manifest } from '../../../../src/protocol/manifest.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const manifest = (instance: string, publishes = true): Manifest => ({ instance, publishes }) as Manifest;
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function make(sidecars = 1) {
  const clock = new ManualClock();
  const inner = memoryBus({ clock, logger: silentLogger });
  await inner.start(0);
  const service = { isAway: false };
  const bus: ChangeBus = {
    ...inner,
    subscribe: (subscriber) => inner.subscribe(subscriber),
    publishGap: (gap) => (service.isAway ? Promise.reject(new BusUnavailableError('away')) : inner.publishGap(gap)),
  };
  const gaps: Gap[] = [];
  inner.subscribe({ changes: () => undefined, gap: (gap) => gaps.push(gap) });
  const linked: LinkedWorker[] = [];
  const parts = { bus, clock, logger: silentLogger, linked: () => linked };
  const all = Array.from({ length: sidecars }, () => new CrashGaps(parts));
  onTestFinished(() => all.forEach((one) => one.close()));
  const advance = async (milliseconds: number): Promise<void> => {
    for (let passed = 0; passed < milliseconds; passed += 100) {
      clock.advance(100);
      await settled();
    }
  };
  return { advance, all, clock, gaps, linked, service };
}

describe('a worker that is gone without a word', () => {
  it('is a gap, after it had time to link again', async () => {
    const { advance, all, gaps } = await make();
    all[0]?.lost(manifest('one'));
    await advance(2_900);
    expect(gaps).toEqual([]);
    await advance(2_200);
    expect(gaps).toEqual([{ reason: 'reported' }]);
    await advance(60_000);
    expect(gaps).toHaveLength(1);
  });

  it('is none where it links again, or has no live models', async () => {
    const { advance, all, gaps, linked } = await make();
    all[0]?.lost(manifest('one'));
    all[0]?.lost(manifest('plain', false));
    linked.push({ manifest: manifest('one') } as LinkedWorker);
    await advance(10_000);
    expect(gaps).toEqual([]);
  });

  it('is one gap for all that lost it, and for all that went together', async () => {
    const { advance, all, gaps } = await make(5);
    for (const sidecar of all) for (const name of ['one', 'two', 'three']) sidecar.lost(manifest(name));
    await advance(20_000);
    expect(gaps).toEqual([{ reason: 'reported' }]);
  });

  it('is told once the bus takes it', async () => {
    const { advance, all, clock, gaps, service } = await make();
    service.isAway = true;
    all[0]?.lost(manifest('one'));
    await advance(20_000);
    expect(gaps).toEqual([]);
    service.isAway = false;
    await advance(3_000);
    expect([gaps, clock.timers]).toEqual([[{ reason: 'reported' }], 0]);
  });
});
