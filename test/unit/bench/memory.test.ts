import { describe, expect, it } from 'vitest';
import { report } from '../../../bench/memory.ts';

const rows = [{ name: 'bridgehead', kilobytes: 20 }];
const real = { direct: 160, linked: 4, sidecar: 10 };

describe('what bench memory says', () => {
  it('is met by as many sessions as are promised', () => {
    const { targets, notes } = report(rows, 10_000, real, 10_000, false);
    expect(targets['sessions']).toMatchObject({ value: 10_000, met: true });
    expect(notes).toEqual([]);
  });

  it('is not met by fewer, with what to do', () => {
    const { targets, notes } = report(rows, 462, real, 924, false);
    expect(targets['sessions']).toMatchObject({ value: 462, atLeast: 10_000, met: false });
    expect(notes).toEqual(['462 sessions, not 10000: raise the hard limit of ulimit -n to 20100.']);
  });

  it('asks --quick for no number, and says how many there were', () => {
    const { targets, notes } = report(rows, 2_500, real, 1_000, true);
    expect(targets).not.toHaveProperty('sessions');
    expect(notes).toEqual(['1000 sessions, not 10000: --quick.']);
  });
});
