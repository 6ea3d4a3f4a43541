import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RowWindows } from '../../../../src/core/live/row-windows.ts';
import type { Row } from '../../../../src/core/live/row.ts';
import type { ChangeAction } from '../../../../src/protocol/change.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const WINDOW = 50;

function row(pk: number | string, action: ChangeAction, tags?: readonly string[]): Row {
  return { model: 'shop.product', pk, action, at: 0, ...(tags !== undefined && { tags }) };
}

function make(milliseconds = WINDOW) {
  const clock = new ManualClock();
  const passed: Row[] = [];
  const windows = new RowWindows(clock, milliseconds, (rows) => passed.push(...rows));
  return { clock, passed, windows, actions: () => passed.map(({ pk, action }) => `${action} ${pk}`) };
}

describe('coalescing', () => {
  it('passes the first change of a row at once, and those of the window as one when it ends', () => {
    const { clock, windows, actions } = make();
    windows.push([row(1, 'created'), row(2, 'updated')]);
    expect(actions()).toEqual(['created 1', 'updated 2']);
    expect(windows.push([row(1, 'updated'), row(1, 'updated'), row(1, 'updated')])).toBe(2);
    clock.advance(WINDOW - 1);
    expect(actions()).toHaveLength(2);
    clock.advance(1);
    expect(actions()).toEqual(['created 1', 'updated 2', 'updated 1']);
    windows.push([row(1, 'deleted')]);
    expect(actions()).toHaveLength(3);
    clock.advance(WINDOW);
    expect(actions().at(-1)).toBe('deleted 1');
    clock.advance(WINDOW);
    windows.push([row(1, 'created')]);
    expect(actions().at(-1)).toBe('created 1');
  });

  it.each([
    [['created', 'updated'], 'created'],
    [['created', 'deleted'], 'deleted'],
    [['deleted', 'created'], 'updated'],
    [['updated', 'deleted'], 'deleted'],
    [['deleted', 'created', 'updated'], 'updated'],
    [['deleted', 'created', 'deleted'], 'deleted'],
  ] as const)('makes of %j %s', (several, one) => {
    const { clock, passed, windows } = make();
    windows.push([row(1, 'updated')]);
    for (const action of several) windows.push([row('1', action)]);
    clock.advance(WINDOW);
    expect(passed.slice(1).map(({ action }) => action)).toEqual([one]);
  });

  it('concerns everybody whom one of the changes concerned', () => {
    const { clock, passed, windows } = make();
    windows.push([row(1, 'updated', ['tenant:a']), row(2, 'updated', ['tenant:a'])]);
    windows.push([row(1, 'updated', ['tenant:a']), row(1, 'updated', ['tenant:b'])]);
    windows.push([row(2, 'updated', ['tenant:a']), row(2, 'updated')]);
    clock.advance(WINDOW);
    expect(passed.slice(2).map(({ tags }) => tags)).toEqual([['tenant:a', 'tenant:b'], undefined]);
  });

  it('holds nothing when nothing comes any more', () => {
    const { clock, windows } = make();
    windows.push(Array.from({ length: 1_000 }, (_, pk) => row(pk, 'updated')));
    windows.push([row(5, 'updated')]);
    clock.advance(2 * WINDOW);
    expect(clock.timers).toBe(0);
  });

  it('is off with no window', () => {
    const { passed, windows, clock } = make(0);
    for (let n = 0; n < 10; n++) windows.push([row(1, 'updated')]);
    expect(passed).toHaveLength(10);
    expect(clock.timers).toBe(0);
  });

  it('lets a row change no more often than once a window, and always says last what is so', () => {
    const action = fc.constantFrom<ChangeAction[]>('created', 'updated', 'deleted');
    const step = fc.record({ pk: fc.nat(4), action, wait: fc.nat(30) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const clock = new ManualClock();
        const truth = new Map<number, boolean>();
        const known = new Map<number, boolean>();
        const times = new Map<number, number>();
        const windows = new RowWindows(clock, WINDOW, (rows) => {
          for (const { pk, action: said } of rows) {
            const key = Number(pk);
            expect(clock.monotonic() - (times.get(key) ?? -Infinity)).toBeGreaterThanOrEqual(WINDOW);
            times.set(key, clock.monotonic());
            known.set(key, said !== 'deleted');
          }
        });
        for (const { pk, action: done, wait } of steps) {
          truth.set(pk, done !== 'deleted');
          windows.push([row(pk, done)]);
          clock.advance(wait);
        }
        clock.advance(2 * WINDOW);
        expect(known).toEqual(truth);
        expect(clock.timers).toBe(0);
      }),
    );
  });
});
