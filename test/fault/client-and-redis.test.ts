import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock, type Clock } from '../../src/ports/clock.ts';
import type { Stats } from '../../src/ports/operator.ts';
import { startComposed } from '../support/composed.ts';
import { eventually } from '../support/eventually.ts';
import { LedgerFleet, linksOf } from '../support/ledger-fleet.ts';
import { expectUnnoticed } from '../support/soundness.ts';
import { Tab } from '../support/tab.ts';
import { TcpProxy } from '../support/tcp-proxy.ts';

/** Python's wall clock goes wrong by what a file says. */
const CLOCK = fileURLToPath(new URL('../support/python/clock', import.meta.url));

let fleet: LedgerFleet;
let tab: Tab;

/** Waits for longer than a link may be silent, by its age in seconds. */
async function outlastSilence(age: () => number | Promise<number>): Promise<void> {
  const until = (await age()) + 6;
  await eventually(age).toBeGreaterThan(until);
}

beforeAll(async () => {
  fleet = await LedgerFleet.start();
  await fleet.addSidecar();
  await fleet.addWorker();
});

afterEach(() => tab.leave());

afterAll(() => fleet?.stop());

describe("a client's connection", () => {
  it('that is cut with messages under way, both ways: the tab comes back to all of it, in order', async () => {
    const proxy = await TcpProxy.start(fleet.first.port);
    tab = await Tab.open(`http://127.0.0.1:${proxy.port}`);
    await tab.shows([tab.send()]);
    for (const [direction, bytes] of [
      ['down', 90],
      ['up', 500],
      ['down', 1_500],
    ] as const) {
      const cut = proxy.cutAfter(bytes, direction);
      const sent = Array.from({ length: 20 }, () => tab.send());
      await cut;
      await eventually(() => tab.isOpen).toBe(false);
      await tab.comeBack();
      const last = tab.send();
      await tab.shows([last]);
      await fleet.idle();
      const ran = fleet.ran(tab.token);
      // Of what was under way a beginning arrived, without a gap: the rest is on the client's side of the cut, and it knows.
      const begun = sent.filter((id) => ran.includes(id));
      expect(begun).toEqual(sent.slice(0, begun.length));
      expect(tab.ids).toEqual(ran);
      expect(tab.newTokens).toEqual([]);
      expect(ran).toEqual([...new Set(ran)].sort((left, right) => left - right));
    }
    await proxy.stop();
  });
});

describe('Redis', () => {
  it('that restarts in use costs no session and no token, and everything works afterwards', async () => {
    tab = await Tab.open(fleet.first.url);
    await tab.shows([tab.send(), tab.send()]);
    await fleet.idle();
    await fleet.restartRedis(() => tab.send());
    const works = async (): Promise<boolean> => {
      const id = tab.send();
      return tab.shows([id], 3_000).then(
        () => true,
        () => false,
      );
    };
    await eventually(works, { timeout: 30_000 }).toBe(true);
    expect(tab.newTokens).toEqual([]);
    expect(tab.isOpen).toBe(true);
    expect(tab.ids.slice(0, 2)).toEqual([0, 1]);
    const ran = fleet.ran(tab.token);
    expect(ran).toEqual([...new Set(ran)].sort((left, right) => left - right));
  });
});

describe("the sidecar's clock", () => {
  it('that jumps, an hour forth and two back, costs nothing', async () => {
    let offset = 0;
    const clock: Clock = { ...systemClock, now: () => systemClock.now() + offset };
    const sidecar = await startComposed(
      { backends: ['http://127.0.0.1:9'], auth: { source: 'none' }, secret: fleet.secret },
      { clock },
    );
    await fleet.addWorker({ linkUrls: [sidecar.running.addresses.link ?? ''], links: false });
    await eventually(() => sidecar.running.operator.stats().links.length).toBe(1);
    tab = await Tab.open(sidecar.url);
    await tab.shows([tab.send()]);
    for (const jump of [3_600_000, -7_200_000]) {
      offset += jump;
      await tab.shows([tab.send()]);
      await outlastSilence(() => sidecar.running.operator.stats().links[0]?.age ?? 0);
      await tab.shows([tab.send()]);
    }
    expectUnnoticed(fleet, tab);
    expect(sidecar.running.operator.stats().links).toHaveLength(1);
    expect(sidecar.log()).not.toContain('worker unlinked');
    await sidecar.stop();
  });
});

describe("a worker's clock", () => {
  it('that jumps, an hour forth and two back, costs nothing', async () => {
    const file = join(fleet.folder, 'clock-offset');
    writeFileSync(file, '0');
    const sidecar = await fleet.addSidecar();
    const linkOf = async (): Promise<Stats['links'][number] | undefined> => (await linksOf(sidecar))[0];
    await fleet.addWorker({
      linkUrls: [sidecar.linkUrl],
      links: false,
      env: { PYTHONPATH: `${CLOCK}:.`, CLOCK_OFFSET_FILE: file },
    });
    await eventually(linkOf).toBeDefined();
    const first = await linkOf();
    tab = await Tab.open(sidecar.url);
    await tab.shows([tab.send()]);
    for (const offset of [3_600, -3_600]) {
      writeFileSync(file, String(offset));
      await tab.shows([tab.send()]);
      expect(Math.abs((fleet.lines(tab.token).at(-1)?.at ?? 0) - Date.now() / 1_000 - offset)).toBeLessThan(60);
      await outlastSilence(async () => (await linkOf())?.age ?? 0);
      await tab.shows([tab.send()]);
    }
    expectUnnoticed(fleet, tab);
    expect((await linkOf())?.pid).toBe(first?.pid);
  });
});
