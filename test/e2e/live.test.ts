import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { waitUntil } from '../../tools/process.ts';
import { launchChromium } from '../../tools/services/index.ts';
import { eventually } from '../support/eventually.ts';
import { ShopPair } from '../support/shop-pair.ts';
import { complaints, newPage, openShop } from './shop-walk.ts';

/** Every stock that a page ever shows, as it comes: one that stood there for a moment only, too. */
const WATCH = `(() => {
  window.__stocks = new Set();
  const look = () => {
    for (const one of document.querySelectorAll('[data-test=product-stock]')) window.__stocks.add(one.textContent);
  };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true, characterData: true });
})()`;

describe('the product list in two browsers, on two sidecars and two workers', () => {
  let pair: ShopPair;
  let browsers: Browser[];
  let pages: Page[];
  let found: string[];
  let ids: string[];
  let stock = 10_000;

  beforeAll(async () => {
    pair = await ShopPair.start();
    browsers = [await launchChromium(), await launchChromium()];
    pages = await Promise.all(browsers.map(async (browser) => newPage(await browser.newContext())));
    found = pages.flatMap((page) => complaints(page));
    for (const [index, page] of pages.entries()) {
      await openShop(page, pair.sides[index]?.base ?? '');
      await page.evaluate(WATCH);
    }
    ids = (await pair.psql('SELECT id FROM shop_product ORDER BY id')).split('\n');
    for (const { sidecar } of pair.sides) {
      await waitUntil(async () => (await figure(sidecar, 'live_subscriptions')) === 1, { what: 'a subscription' });
    }
  });

  afterAll(async () => {
    for (const browser of browsers ?? []) await browser.close();
    await pair?.stop();
  });

  const figure = async ({ adminUrl }: { readonly adminUrl: string }, name: string): Promise<number> => {
    const text = await (await fetch(`${adminUrl}/metrics`)).text();
    return Number(new RegExp(`^bridgehead_${name} (\\d+)$`, 'm').exec(text)?.[1]);
  };
  const received = (): Promise<number[]> =>
    Promise.all(pair.sides.map(({ sidecar }) => figure(sidecar, 'changes_received_total')));
  const shown = (page: Page, id: string): Promise<string | null> =>
    page.locator(`[data-test=product][data-product="${id}"] [data-test=product-stock]`).textContent();
  const bothShow = async (id: string, count: number): Promise<void> => {
    for (const page of pages) await eventually(() => shown(page, id)).toBe(`${count} in stock`);
  };

  it('shows what is saved in the admin', async () => {
    const [id = ''] = ids;
    const [{ base }] = pair.sides;
    const admin = await newPage(await (browsers[0] as Browser).newContext());
    await admin.goto(`${base}/admin/login/?next=/admin/shop/product/${id}/change/`);
    await admin.fill('input[name=username]', 'admin');
    await admin.fill('input[name=password]', 'admin-pass');
    await admin.click('input[type=submit]');
    await admin.fill('input[name=stock]', String(++stock));
    await admin.click('input[name=_save]');
    await admin.locator('.success').waitFor();
    await bothShow(id, stock);
  });

  it('shows a bulk update of another process', async () => {
    const code = `from shop.models import Product; Product.objects.update(stock=${++stock})`;
    await pair.manage('shell', '-c', code);
    for (const id of ids) await bothShow(id, stock);
  });

  it('shows what psql does', async () => {
    const [, id = ''] = ids;
    await pair.psql(`UPDATE shop_product SET stock = ${++stock} WHERE id = ${id}`);
    await bothShow(id, stock);
  });

  it('shows nothing of what is rolled back: nobody is even told', async () => {
    const [, , id = ''] = ids;
    const before = await received();
    await pair.psql('BEGIN; UPDATE shop_product SET stock = 77777; ROLLBACK');
    const code = [
      'from django.db import transaction',
      'from shop.models import Product',
      'product = Product.objects.first()',
      'product.stock = 77777',
      'with transaction.atomic():',
      '    product.save()',
      '    Product.objects.update(stock=77777)',
      '    transaction.set_rollback(True)',
    ].join('\n');
    await pair.manage('shell', '-c', code);
    await pair.psql(`UPDATE shop_product SET stock = ${++stock} WHERE id = ${id}`);
    await bothShow(id, stock);
    expect(await received()).toEqual(before.map((count) => count + 1));
    for (const page of pages) {
      const stocks = await page.evaluate<string[]>('[...window.__stocks]');
      expect(stocks).toContain(`${stock} in stock`);
      expect(stocks.filter((text) => text.includes('77777'))).toEqual([]);
    }
  });

  it('is live again in a browser whose network was cut, without a reload of the page', async () => {
    const [, page] = pages as [Page, Page];
    const [, { network, sidecar }] = pair.sides;
    const [id = ''] = ids;
    network.refuses = true;
    network.cut();
    await eventually(() => figure(sidecar, 'live_subscriptions')).toBe(0);
    await pair.psql(`UPDATE shop_product SET stock = ${++stock} WHERE id = ${id}`);
    await eventually(() => shown(pages[0] as Page, id)).toBe(`${stock} in stock`);
    expect(await shown(page, id)).not.toBe(`${stock} in stock`);
    network.refuses = false;
    // What it missed, and what comes afterwards.
    await bothShow(id, stock);
    await eventually(() => figure(sidecar, 'live_subscriptions')).toBe(1);
    await pair.psql(`UPDATE shop_product SET stock = ${++stock} WHERE id = ${id}`);
    await bothShow(id, stock);
    expect(await page.evaluate('window.__stocks !== undefined')).toBe(true);
  });

  it('had nobody complain', () => {
    expect(found).toEqual([]);
  });
});
