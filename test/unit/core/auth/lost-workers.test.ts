import { describe, expect, it } from 'vitest';
import { LostWorkers } from '../../../../src/core/auth/lost-workers.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

function watched(): { clock: ManualClock; lost: LostWorkers; told: boolean[] } {
  const clock = new ManualClock();
  const told: boolean[] = [];
  const lost = new LostWorkers(clock, () => void told.push(lost.any));
  return { clock, lost, told };
}

describe('workers whose link was lost', () => {
  it('are told of at once, and until they are back', () => {
    const { clock, lost, told } = watched();
    lost.lost('one', 'silent');
    lost.linked(['two']);
    expect(told).toEqual([true]);
    lost.linked(['two', 'one']);
    expect(told).toEqual([true, false]);
    lost.linked(['one']);
    expect([told.length, clock.timers]).toEqual([2, 0]);
  });

  it('are told of each, and until all are back', () => {
    const { lost, told } = watched();
    lost.lost('one', 'silent');
    lost.lost('two', 'closed');
    lost.linked(['one']);
    expect(told).toEqual([true, true]);
    lost.linked(['two']);
    expect(told).toEqual([true, true, false]);
  });

  it.each([
    ['closed', 30_000],
    ['silent', 600_000],
  ] as const)('are taken for gone after a while: %s', (end, patience) => {
    const { clock, lost, told } = watched();
    lost.lost('one', end);
    clock.advance(patience - 1);
    expect(told).toEqual([true]);
    clock.advance(1);
    expect(told).toEqual([true, false]);
  });

  it('leave no timer behind', () => {
    const { clock, lost } = watched();
    lost.lost('one', 'closed');
    lost.lost('one', 'silent');
    expect(clock.timers).toBe(1);
    lost.close();
    expect(clock.timers).toBe(0);
  });
});
