import { describe, expect, it } from 'vitest';
import { Invalidations } from '../../../../src/core/auth/invalidations.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const MINUTE = 60_000;

function begun(): { clock: ManualClock; invalidations: Invalidations } {
  const clock = new ManualClock();
  const invalidations = new Invalidations(clock);
  clock.advance(MINUTE);
  return { clock, invalidations };
}

describe('what was invalidated', () => {
  it.each([
    [{ session: 's1' }, true, true],
    [{ user: 'auth.user:1' }, false, true],
    [{ session: 's2' }, false, false],
    [{ user: 'auth.user:2' }, false, false],
    [{ all: true as const }, true, true],
  ])('since a flight began: %o', (what, concernsAnonymous, concernsUser) => {
    const { invalidations } = begun();
    const { mark } = invalidations;
    expect(invalidations.since(mark, 's1', 'auth.user:1')).toBe(false);
    invalidations.add(what);
    expect(invalidations.since(mark, 's1', undefined)).toBe(concernsAnonymous);
    expect(invalidations.since(mark, 's1', 'auth.user:1')).toBe(concernsUser);
    expect(invalidations.since(invalidations.mark, 's1', 'auth.user:1')).toBe(false);
  });

  it('does not take a user for a session of that name', () => {
    const { invalidations } = begun();
    const { mark } = invalidations;
    invalidations.add({ user: 's1' });
    expect(invalidations.since(mark, 's1', 'auth.user:1')).toBe(false);
  });

  it('since an answer was made elsewhere, whose clock may be ahead by five seconds', () => {
    const { clock, invalidations } = begun();
    const made = clock.now();
    expect(invalidations.sinceMade(made, 's1', 'auth.user:1')).toBe(false);
    clock.advance(1_000);
    invalidations.add({ user: 'auth.user:1' });
    const at = clock.now();
    expect(invalidations.sinceMade(made, 's1', 'auth.user:1')).toBe(true);
    expect(invalidations.sinceMade(at + 5_000, 's1', 'auth.user:1')).toBe(true);
    expect(invalidations.sinceMade(at + 5_001, 's1', 'auth.user:1')).toBe(false);
    expect(invalidations.sinceMade(made, 's1', 'auth.user:2')).toBe(false);
  });

  it('trusts no answer that was made before it began to listen', () => {
    const clock = new ManualClock();
    const invalidations = new Invalidations(clock);
    expect(invalidations.sinceMade(clock.now() - MINUTE, 's1', undefined)).toBe(true);
    expect(invalidations.sinceMade(clock.now() + MINUTE, 's1', undefined)).toBe(false);
  });

  it('remembers a bounded number, and takes what it has forgotten for invalidated', () => {
    const { clock, invalidations } = begun();
    const { mark } = invalidations;
    const made = clock.now();
    invalidations.add({ session: 'first' });
    for (let n = 0; n < 9_999; n++) invalidations.add({ session: `s${n}` });
    expect(invalidations.since(mark, 'other', undefined)).toBe(false);
    const later = invalidations.mark;
    invalidations.add({ session: 'one more' });
    expect(invalidations.since(mark, 'other', undefined)).toBe(true);
    expect(invalidations.sinceMade(made, 'other', undefined)).toBe(true);
    expect(invalidations.since(later, 'other', undefined)).toBe(false);
  });

  it('keeps one that is repeated as the youngest', () => {
    const { invalidations } = begun();
    invalidations.add({ session: 'often' });
    for (let n = 0; n < 9_999; n++) invalidations.add({ session: `s${n}` });
    const { mark } = invalidations;
    invalidations.add({ session: 'often' });
    for (let n = 0; n < 9_000; n++) invalidations.add({ session: `t${n}` });
    expect(invalidations.since(mark, 'often', undefined)).toBe(true);
    expect(invalidations.since(mark, 'other', undefined)).toBe(false);
  });
});
