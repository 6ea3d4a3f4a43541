import { describe, expect, it } from 'vitest';
import { Slots, type Slot } from '../../../../src/core/links/slots.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

function make(limit: number, behind = 2) {
  const clock = new ManualClock();
  const slots = new Slots({ limit, hold: 60_000, behind }, clock);
  const got: string[] = [];
  const held = new Map<string, Slot>();
  const asking = (name: string) => (slot: Slot) => {
    got.push(name);
    held.set(name, slot);
  };
  return { clock, slots, got, asking, release: (name: string) => held.get(name)?.release() };
}

describe('behind the line', () => {
  it('a few have a place at a time, in their order', () => {
    const { slots, got, asking, release } = make(10);
    for (const name of ['a', 'b', 'c', 'd']) slots.waitBehind(asking(name));
    expect(got).toEqual(['a', 'b']);
    release('b');
    expect(got).toEqual(['a', 'b', 'c']);
    expect(slots.free).toBe(true);
  });

  it('nobody has a place while somebody is in line', () => {
    const { slots, got, asking } = make(1);
    const first = slots.take();
    slots.waitBehind(asking('behind'));
    slots.wait(asking('one'));
    slots.wait(asking('two'));
    first?.release();
    expect(got).toEqual(['one']);
    expect(slots.free).toBe(false);
  });

  it('who has waited for two seconds comes before the line', () => {
    const { clock, slots, got, asking, release } = make(1);
    const first = slots.take();
    slots.waitBehind(asking('behind'));
    clock.advance(2_000);
    slots.wait(asking('one'));
    first?.release();
    expect(got).toEqual(['behind']);
    release('behind');
    expect(got).toEqual(['behind', 'one']);
  });

  it('whoever takes long gives the place up in the end, ten times later than in line', () => {
    const { clock, slots, got, asking } = make(10, 1);
    slots.waitBehind(asking('a'));
    slots.waitBehind(asking('b'));
    for (let n = 0; n < 9; n++) expect(slots.take()).toBeDefined();
    clock.advance(60_000);
    expect([got, slots.taken]).toEqual([['a'], 1]);
    clock.advance(540_000);
    expect([got, slots.taken]).toEqual([['a', 'b'], 1]);
  });

  it('who leaves is not called, and who stands there twice keeps the first place', () => {
    const { slots, got, asking } = make(1);
    const first = slots.take();
    const [a, b] = [asking('a'), asking('b')];
    slots.waitBehind(a);
    slots.waitBehind(b);
    slots.waitBehind(a);
    slots.leave(b);
    first?.release();
    expect(got).toEqual(['a']);
  });

  it('leaves the worker to users who are around, for a few times as long as it had it', () => {
    const { clock, slots, got, asking, release } = make(10);
    slots.take()?.release();
    for (const name of ['a', 'b', 'c']) slots.waitBehind(asking(name));
    // One by one.
    expect(got).toEqual(['a']);
    clock.advance(20);
    release('a');
    clock.advance(24);
    expect(got).toEqual(['a']);
    clock.advance(51);
    expect(got).toEqual(['a', 'b']);
    // What took long waited itself.
    clock.advance(900);
    slots.take()?.release();
    release('b');
    clock.advance(375);
    expect(got).toEqual(['a', 'b', 'c']);
  });

  it('has no rest where no user has come for a second', () => {
    const { clock, slots, got, asking, release } = make(10);
    slots.take()?.release();
    for (const name of ['a', 'b', 'c', 'd']) slots.waitBehind(asking(name));
    clock.advance(1_000);
    release('a');
    expect(got).toEqual(['a', 'b', 'c']);
  });

  it('has a further place a second after the last user, though nothing else happens', () => {
    const { clock, slots, got, asking } = make(10);
    slots.take()?.release();
    for (const name of ['a', 'b', 'c']) slots.waitBehind(asking(name));
    clock.advance(999);
    expect(got).toEqual(['a']);
    clock.advance(1);
    expect(got).toEqual(['a', 'b']);
    slots.close();
    expect(clock.timers).toBe(0);
  });
});

describe('a long line', () => {
  it.each([
    ['there are places enough', (slots: Slots) => void (slots.limit = Infinity)],
    ['a place is given back', (_: Slots, slot: Slot | undefined) => slot?.release()],
  ])('of those who give their places back at once goes through when %s', (_what, open) => {
    const { slots } = make(1);
    const slot = slots.take();
    let served = 0;
    for (let n = 0; n < 50_000; n++) {
      slots.wait((place) => {
        served++;
        place.release();
      });
    }
    open(slots, slot);
    expect(served).toBe(50_000);
  });
});
