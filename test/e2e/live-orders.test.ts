import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { launchChromium } from '../../tools/services/index.ts';
import { eventually } from '../support/eventually.ts';
import { ShopPair } from '../support/shop-pair.ts';
import { complaints, logIn, newPage } from './shop-walk.ts';

const USERS = ['demo', 'admin'] as const;

describe('two users with their own orders open, on two sidecars and two workers', () => {
  let pair: ShopPair;
  let browser: Browser;
  let pages: Page[];
  let found: string[];
  /** All that the network brought to each page since it shows its list. */
  const received: string[] = ['', ''];

  beforeAll(async () => {
    pair = await ShopPair.start();
    browser = await launchChromium();
    pages = await Promise.all(USERS.map(async () => newPage(await browser.newContext())));
    found = pages.flatMap((page) => complaints(page));
  });

  afterAll(async () => {
    await browser?.close();
    await pair?.stop();
  });

  const figure = async ({ adminUrl }: { readonly adminUrl: string }, name: string): Promise<number> => {
    const text = await (await fetch(`${adminUrl}/metrics`)).text();
    return Number(new RegExp(`^bridgehead_${name} (\\d+)$`, 'm').exec(text)?.[1]);
  };
  const order = (name: string, total: string): Promise<void> =>
    pair.manage(
      'shell',
      '-c',
      'from django.contrib.auth import get_user_model; from shop.models import Order; ' +
        `Order.objects.create(user=get_user_model().objects.get(username='${name}'), total='${total}')`,
    );
  const totals = (page: Page | undefined): Promise<string[]> =>
    (page as Page).locator('[data-test=account-order] td:last-child').allTextContents();

  it('log in and see none', async () => {
    for (const [index, page] of pages.entries()) {
      page.on('websocket', (socket) => {
        socket.on('framereceived', ({ payload }) => (received[index] += payload.toString()));
      });
      await logIn(page, pair.sides[index]?.base ?? '', '/account', USERS[index]);
      await page.locator('#account-no-orders').waitFor();
    }
    for (const { sidecar } of pair.sides) await eventually(() => figure(sidecar, 'live_subscriptions')).toBe(1);
  });

  it('each get what is theirs alone, whoever writes it', async () => {
    const [demo, admin] = pages;
    await order('demo', '4111.11');
    await eventually(() => totals(demo)).toEqual(['4111.11 EUR']);
    await order('admin', '5222.22');
    await eventually(() => totals(admin)).toEqual(['5222.22 EUR']);
    const sql = "INSERT INTO shop_order (user_id, created, note, total) SELECT id, now(), '', 4333.33 FROM auth_user";
    await pair.psql(`${sql} WHERE username = 'demo'`);
    await eventually(() => totals(demo)).toEqual(['4333.33 EUR', '4111.11 EUR']);
    // SQL knows no tags: both lists were read anew for it. What comes behind shows that this is over.
    await order('admin', '5444.44');
    await eventually(() => totals(admin)).toEqual(['5444.44 EUR', '5222.22 EUR']);
    expect(
      received.map((text) => ['4111.11', '4333.33', '5222.22', '5444.44'].map((part) => text.includes(part))),
    ).toEqual([
      [true, true, false, false],
      [false, false, true, true],
    ]);
  });

  it('see an order that changes hands go and come', async () => {
    const [demo, admin] = pages;
    await pair.psql(
      "UPDATE shop_order SET user_id = (SELECT id FROM auth_user WHERE username = 'admin') WHERE total = 4333.33",
    );
    await eventually(() => totals(demo)).toEqual(['4111.11 EUR']);
    await eventually(() => totals(admin)).toEqual(['5444.44 EUR', '4333.33 EUR', '5222.22 EUR']);
  });

  it('have nobody complain', () => {
    expect(found).toEqual([]);
  });
});
