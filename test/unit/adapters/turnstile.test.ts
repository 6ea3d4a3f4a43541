import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Turnstile } from '../../../src/adapters/transport/turnstile.ts';

describe('the turnstile', () => {
  const crowd = (turnstile: Turnstile, first: number, last: number, entered: number[]): void => {
    for (let serial = first; serial <= last; serial++) turnstile.pass(() => entered.push(serial));
  };
  const upTo = (last: number): number[] => Array.from({ length: last }, (_, at) => at + 1);

  it('lets a few through at once, again and again', async () => {
    const turnstile = new Turnstile(3);
    const entered: number[] = [];
    for (let round = 0; round < 3; round++) {
      crowd(turnstile, 3 * round + 1, 3 * round + 3, entered);
      expect(entered).toEqual(upTo(3 * round + 3));
      expect(turnstile.waiting).toBe(0);
      await setImmediate();
    }
  });

  it('lets no more than so many of a crowd through in one turn, in their order, whoever comes meanwhile', async () => {
    const turnstile = new Turnstile(3);
    const entered: number[] = [];
    crowd(turnstile, 1, 8, entered);
    expect(entered).toEqual(upTo(3));
    expect(turnstile.waiting).toBe(5);
    await setImmediate();
    expect(entered).toEqual(upTo(6));
    // These come before the next turn, with two of the crowd before them.
    crowd(turnstile, 9, 12, entered);
    expect(entered).toEqual(upTo(6));
    await setImmediate();
    expect(entered).toEqual(upTo(9));
    await setImmediate();
    expect(entered).toEqual(upTo(12));
    await setImmediate();
    crowd(turnstile, 13, 13, entered);
    expect(entered).toEqual(upTo(13));
  });

  it('lets those in that come while somebody enters', async () => {
    const turnstile = new Turnstile(1);
    const entered: string[] = [];
    turnstile.pass(() => {
      entered.push('outer');
      turnstile.pass(() => entered.push('inner'));
    });
    expect(entered).toEqual(['outer']);
    await setImmediate();
    expect(entered).toEqual(['outer', 'inner']);
  });
});
