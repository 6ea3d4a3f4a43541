import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.ts';
import { LedgerFleet } from '../support/ledger-fleet.ts';
import { expectSound, expectUnnoticed } from '../support/soundness.ts';
import { Tab } from '../support/tab.ts';

describe.each(['0.10', '0.9'] as const)('a tab on reflex %s while workers go and come', (reflex) => {
  let fleet: LedgerFleet;
  let tab: Tab;

  beforeAll(async () => {
    fleet = await LedgerFleet.start(reflex);
    await fleet.addSidecar();
    await fleet.addWorker();
  });

  afterAll(() => fleet?.stop());

  afterEach(() => tab.leave());

  /** With a handler that ticks in the background. */
  const enter = async (): Promise<void> => {
    tab = await Tab.open(fleet.first.url);
    tab.ask('tick');
    await eventually(() => tab.ticks).toBeGreaterThan(1);
  };

  const ticksOn = async (): Promise<void> => {
    const before = tab.ticks;
    await eventually(() => tab.ticks, { timeout: 30_000 }).toBeGreaterThan(before + 2);
    const ticks = fleet.lines(tab.token).filter(({ kind }) => kind === 'tick');
    const counts = ticks.map(({ tick }) => tick ?? 0);
    // Where one was killed before its state was stored, the next one counts that again.
    expect(counts).toEqual([...counts].sort((left, right) => left - right));
    // The first one counts no more once the second one does.
    const turns = ticks.filter(({ pid }, index) => pid !== ticks[index - 1]?.pid);
    expect(turns).toHaveLength(2);
    expect(fleet.lines(tab.token).filter(({ kind }) => kind === 'tick.begun')).toHaveLength(2);
  };

  it('goes on at another worker when its own is told to stop, with every event answered', async () => {
    await fleet.addWorker();
    await enter();
    const { worker } = await fleet.holder();
    const slow = tab.send('slow', { seconds: 1 });
    await tab.sendDuring(fleet.endWorker(worker, 'SIGTERM'));
    await tab.shows([slow, tab.send()]);
    await ticksOn();
    expectUnnoticed(fleet, tab);
  });

  it('goes on at another worker when its own is killed', async () => {
    await fleet.addWorker();
    await enter();
    const { worker } = await fleet.holder();
    await tab.shows([tab.send()]);
    await fleet.idle();
    await fleet.endWorker(worker, 'SIGKILL');
    await fleet.movedFrom(worker);
    await tab.shows([tab.send()]);
    await ticksOn();
    expectUnnoticed(fleet, tab);
  });

  it('is told of what may have been lost with a killed worker, and of nothing else', async () => {
    await fleet.addWorker();
    await enter();
    const { worker } = await fleet.holder();
    const slow = tab.send('slow', { seconds: 20 });
    await eventually(() => fleet.lines(tab.token).some(({ kind, id }) => kind === 'begun' && id === slow)).toBe(true);
    await tab.sendDuring(fleet.endWorker(worker, 'SIGKILL'));
    await fleet.movedFrom(worker);
    // The dead handler's lock on the state is there for a while.
    const last = tab.send();
    await tab.shows([last], 45_000);
    await ticksOn();
    expectSound(fleet, tab);
    expect(tab.ids).not.toContain(slow);
    expect(tab.toasts).toHaveLength(1);
    expect(tab.isOpen).toBe(true);
  });

  it('waits for its only worker to come back, told to stop or killed', async () => {
    await enter();
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const { worker } = await fleet.holder();
      await tab.shows([tab.send()]);
      await fleet.idle();
      await fleet.endWorker(worker, signal);
      await fleet.unlinked();
      const waiting = [tab.send(), tab.send()];
      await fleet.addWorker();
      await tab.shows(waiting);
    }
    expectUnnoticed(fleet, tab);
    const before = tab.ticks;
    await eventually(() => tab.ticks).toBeGreaterThan(before + 2);
  });
});
