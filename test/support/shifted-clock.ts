import { systemClock, type Clock } from '../../src/ports/clock.ts';

/** The machine's own time, but wrong by so many milliseconds where other machines read it. */
export function shifted(offset: number): Clock {
  return { ...systemClock, now: () => systemClock.now() + offset };
}
