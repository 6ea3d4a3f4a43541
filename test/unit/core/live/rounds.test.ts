import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Rounds } from '../../../../src/core/live/rounds.ts';
import { eventually } from '../../../support/eventually.ts';

class Member {
  readonly got: number[] = [];
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function crowd(size: number): Map<number, Member> {
  return new Map(Array.from({ length: size }, (_, n) => [n, new Member()]));
}

describe('rounds', () => {
  it('bring a letter to those whom the walk has not come to yet, and to the others in the next round', async () => {
    const members = crowd(300);
    const rounds = new Rounds(() => members.values());
    const send = (letter: number): void => rounds.add(({ got }) => got.push(letter), 10);
    send(1);
    expect(members.get(0)?.got).toEqual([1]);
    expect(members.get(299)?.got).toEqual([]);
    send(2);
    expect([rounds.waiting, rounds.bytes]).toEqual([2, 20]);
    await eventually(() => members.get(299)?.got).toEqual([1, 2]);
    await eventually(() => members.get(0)?.got).toEqual([1, 2]);
    await eventually(() => [rounds.waiting, rounds.bytes]).toEqual([0, 0]);
  });

  it('go on without those who leave, and with those who come', async () => {
    const members = crowd(300);
    const rounds = new Rounds(() => members.values());
    rounds.add(({ got }) => got.push(1), 0);
    members.delete(299);
    const late = new Member();
    members.set(300, late);
    await eventually(() => rounds.waiting).toBe(0);
    expect(late.got).toEqual([1]);
    expect([...members.values()].every(({ got }) => got.length === 1)).toBe(true);
  });

  it('give every member each letter once, in their order, whenever they come', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 400 }),
        fc.array(fc.constantFrom('send', 'turn', 'reach'), { maxLength: 30 }),
        async (size, steps) => {
          const members = crowd(size);
          const rounds = new Rounds(() => members.values());
          let sent = 0;
          for (const step of steps) {
            if (step === 'turn') await turn();
            else if (step === 'reach') rounds.reach(members.get(size - 1) as Member);
            else {
              const letter = sent++;
              rounds.add(({ got }) => got.push(letter), 1);
            }
          }
          while (rounds.waiting > 0) await turn();
          const all = Array.from({ length: sent }, (_, letter) => letter);
          for (const { got } of members.values()) expect(got).toEqual(all);
        },
      ),
      { numRuns: 50 },
    );
  });
});
