import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock, type Clock } from '../../src/ports/clock.ts';
import { freePort } from '../../tools/ports.ts';
import { startComposed, type Composed } from '../support/composed.ts';
import { eventually } from '../support/eventually.ts';
import { LedgerFleet, type LedgerWorker } from '../support/ledger-fleet.ts';
import { expectSound, expectUnnoticed } from '../support/soundness.ts';
import { Tab } from '../support/tab.ts';

/** Longer than a worker has anything more to say. Milliseconds. */
const QUIET = 3_000;

describe.each(['0.10', '0.9'] as const)('an unmodified worker on reflex %s', (reflex) => {
  let fleet: LedgerFleet;
  let worker: LedgerWorker;
  let sidecar: Composed;
  let tab: Tab;
  let skipped = 0;
  const clock: Clock = { ...systemClock, monotonic: () => systemClock.monotonic() + skipped };

  const begin = async (port: number): Promise<void> => {
    worker = await fleet.addWorker({ port, links: false, env: { BRIDGEHEAD_SECRET: '' } });
  };

  beforeAll(async () => {
    fleet = await LedgerFleet.start(reflex);
    const port = await freePort();
    await begin(port);
    const config = { backends: [`http://127.0.0.1:${port}`], redis: { url: fleet.redis.url } };
    sidecar = await startComposed({ ...config, auth: { source: 'none' } }, { clock });
  });

  afterEach(() => tab.leave());

  afterAll(async () => {
    await sidecar?.stop();
    await fleet?.stop();
  });

  it.each(['SIGTERM', 'SIGKILL'] as const)(
    'may go by %s and come back: an idle tab does not notice',
    async (signal) => {
      tab = await Tab.open(sidecar.url);
      await tab.shows([tab.send(), tab.send()]);
      skipped += QUIET;
      await fleet.endWorker(worker, signal);
      await eventually(() => sidecar.running.operator.sessions(1)[0]?.work).toBe('away');
      const waiting = tab.send();
      await begin(worker.port);
      await tab.shows([waiting, tab.send()]);
      expectUnnoticed(fleet, tab);
      expect(tab.client.messages.filter((text) => text.startsWith('0/_event,'))).toHaveLength(1);
      expect(sidecar.running.operator.stats().backends[0]?.sessions).toBe(1);
    },
  );

  it('that dies with an event at work leaves its tab to come back, which finds its state', async () => {
    tab = await Tab.open(sidecar.url);
    const first = tab.send();
    await tab.shows([first]);
    skipped += QUIET;
    const slow = tab.send('slow', { seconds: 30 });
    await eventually(() => fleet.lines(tab.token).some(({ kind, id }) => kind === 'begun' && id === slow)).toBe(true);
    await fleet.endWorker(worker, 'SIGKILL');
    expect(await tab.client.untilClosed()).toBe(1012);
    const back = begin(worker.port);
    await tab.comeBack();
    await back;
    await tab.shows([first, tab.send()]);
    expect(tab.newTokens).toEqual([]);
    expect(fleet.ran(tab.token)).not.toContain(slow);
  });

  it('that runs something in the background is not exchanged behind its tab: the tab comes back and starts it again', async () => {
    tab = await Tab.open(sidecar.url);
    tab.ask('tick');
    await eventually(() => tab.ticks).toBeGreaterThan(0);
    skipped += 4 * QUIET;
    const { ticks } = tab;
    await eventually(() => tab.ticks).toBeGreaterThan(ticks + 1);
    await fleet.endWorker(worker, 'SIGKILL');
    expect(await tab.client.untilClosed()).toBe(1012);
    const back = begin(worker.port);
    await tab.comeBack();
    await back;
    await tab.shows([tab.send()]);
    tab.ask('quiet');
    expectSound(fleet, tab);
  });
});
