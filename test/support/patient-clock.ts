import { systemClock, type Clock } from '../../src/ports/clock.ts';

/** A busy machine is no service that hangs: what is given up after 50 ms elsewhere has a second by this clock. */
export const patientClock: Clock = {
  ...systemClock,
  setTimeout: (callback, milliseconds) => systemClock.setTimeout(callback, 20 * milliseconds),
};
