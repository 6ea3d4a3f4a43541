import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { edgeConfiguration } from '../../tools/edge.ts';
import { freePort } from '../../tools/ports.ts';
import { launchChromium, startNginx } from '../../tools/services/index.ts';
import { UNDISTURBED, watchPage, type CalmPage } from '../support/calm-page.ts';
import { eventually } from '../support/eventually.ts';
import { ShopFleet } from '../support/shop-fleet.ts';
import { addToCart, complaints, expectText, logIn, newPage, openShop } from './shop-walk.ts';

describe("a visitor's page in Chromium while workers go and come", () => {
  let fleet: ShopFleet;
  let proxy: { stop(): Promise<void> };
  let browser: Browser;
  let base: string;
  let page: Page;
  let found: string[];
  let watch: ReturnType<typeof watchPage>;
  let calm: CalmPage;

  beforeAll(async () => {
    const publicPort = await freePort();
    fleet = await ShopFleet.start({ publicPort });
    const { shop, sidecar, frontend } = fleet.stack;
    const bridgehead = Number(new URL(sidecar.listen).port);
    const addresses = { port: publicPort, bridgehead, worker: shop.port, ...(frontend !== undefined && { frontend }) };
    proxy = await startNginx({ port: publicPort, configuration: await edgeConfiguration('nginx.conf', addresses) });
    browser = await launchChromium();
    page = await newPage(await browser.newContext());
    watch = watchPage(page);
    found = complaints(page);
    base = `http://localhost:${publicPort}`;
  });

  afterAll(async () => {
    await browser?.close();
    await proxy?.stop();
    await fleet?.stop();
  });

  const looks = async (): Promise<number> => Number(await page.locator('#watch-looks').textContent({ timeout: 1_000 }));

  /** Fills a form by half, lets it happen, and finds everything as it was, the watch going on, and not a trace of it. */
  const survives = async (name: string, happens: () => Promise<void>): Promise<void> => {
    await page.fill('#account-first-name', name);
    calm = await watch.calm();
    const before = await fleet.holder();
    const looked = await looks();
    await happens();
    const elsewhere = async (): Promise<boolean> => {
      const holder = await fleet.holder();
      return holder !== before && (await fleet.linked()).includes(holder);
    };
    await eventually(elsewhere).toBe(true);
    // It went on where it was: the numbers grow, and never start again.
    await eventually(looks, { timeout: 30_000 }).toBeGreaterThan(looked + 2);
    expect(await page.inputValue('#account-first-name')).toBe(name);
    await expectText(page, '#cart-count', '2');
    expect(await calm.isSame()).toBe(true);
    expect(await calm.disturbances()).toEqual(UNDISTURBED);
    // And everything works: the form is sent, once.
    await page.click('#account-save');
    // The field is made anew, with what is stored by then.
    await eventually(() => page.getAttribute('#account-first-name', 'value')).toBe(name);
    await expectText(page, '#account-saved', 'Your details are saved');
    expect(await calm.disturbances()).toEqual(UNDISTURBED);
    expect(found).toEqual([]);
  };

  it('has two things in the cart and a watch on them, on the account page', async () => {
    await logIn(page, base);
    await openShop(page, base);
    await addToCart(page, 0);
    await addToCart(page, 1);
    await expectText(page, '#cart-count', '2');
    await page.goto(`${base}/account`);
    await expectText(page, '#account-user', /demo/);
    await page.click('#watch-start');
    await expectText(page, '#watch-looks', /[1-9]/);
  });

  it('notices nothing of a worker that is told to stop, where another one is there', async () => {
    await fleet.add();
    await survives('Ada', () => fleet.endHolder('SIGTERM'));
  });

  it('notices nothing of a worker that crashes, where another one is there', async () => {
    await fleet.add();
    await survives('Grace', () => fleet.endHolder('SIGKILL'));
  });

  it('notices nothing of the only worker being told to stop and coming back', async () => {
    await survives('Edsger', async () => {
      await fleet.endHolder('SIGTERM');
      await fleet.add();
    });
  });

  it('notices nothing of the only worker crashing and coming back', async () => {
    await survives('Barbara', async () => {
      await fleet.endHolder('SIGKILL');
      await fleet.add();
    });
  });

  it('has one watch running, as before: it stops at once and stays stopped', async () => {
    // From a look that was just seen: a page that stood still shows several at once.
    const stale = await looks();
    await eventually(looks).toBeGreaterThan(stale);
    const before = await looks();
    const began = Date.now();
    await eventually(looks).toBeGreaterThanOrEqual(before + 6);
    // One takes 5 s at least, two of them 3 s at most.
    expect(Date.now() - began).toBeGreaterThan(4_000);
    await page.click('#watch-stop');
    await page.locator('#watch-start').waitFor();
    expect(await calm.disturbances()).toEqual(UNDISTURBED);
  });
});
