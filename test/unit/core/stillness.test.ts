import { describe, expect, it } from 'vitest';
import { Stillness } from '../../../src/core/backends/stillness.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const begin = (): { clock: ManualClock; stillness: Stillness } => {
  const clock = new ManualClock();
  const stillness = new Stillness(clock);
  stillness.asked();
  stillness.said();
  clock.advance(5_000);
  return { clock, stillness };
};

describe('the stillness of a session at a worker that does not tell', () => {
  it('holds once the worker has had its last word for two seconds', () => {
    const { clock, stillness } = begin();
    stillness.asked();
    clock.advance(3_000);
    expect(stillness.holds).toBe(false);
    stillness.said();
    clock.advance(1_999);
    expect(stillness.holds).toBe(false);
    stillness.said();
    clock.advance(2_000);
    expect(stillness.holds).toBe(true);
  });

  it('holds half a minute after an event that nothing came of', () => {
    const { clock, stillness } = begin();
    stillness.asked();
    clock.advance(29_999);
    expect(stillness.holds).toBe(false);
    clock.advance(1);
    expect(stillness.holds).toBe(true);
  });

  it('never holds again where the worker said something of its own accord', () => {
    const { clock, stillness } = begin();
    clock.advance(6_000);
    stillness.said();
    clock.advance(60_000);
    expect(stillness.holds).toBe(false);
  });
});
