import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { edgeConfiguration } from '../../tools/edge.ts';
import { freePort } from '../../tools/ports.ts';
import { launchChromium, startHaproxy, startNginx } from '../../tools/services/index.ts';
import { startShopStack, type ShopStack } from '../support/shop-stack.ts';
import { addToCart, complaints, expectText, logIn, logOut, newPage, openShop, uploadPicture } from './shop-walk.ts';

type Edge = 'nginx' | 'haproxy';

async function startEdge(edge: Edge, port: number, stack: ShopStack): Promise<{ stop(): Promise<void> }> {
  const bridgehead = Number(new URL(stack.sidecar.listen).port);
  const addresses = { port, bridgehead, worker: stack.shop.port, ...(stack.frontend && { frontend: stack.frontend }) };
  if (edge === 'nginx') return startNginx({ port, configuration: await edgeConfiguration('nginx.conf', addresses) });
  return startHaproxy({ port, configuration: await edgeConfiguration('haproxy.cfg', addresses) });
}

describe.each<Edge>(['nginx', 'haproxy'])('the shop in Chromium through %s and Bridgehead', (edge) => {
  let stack: ShopStack;
  let proxy: { stop(): Promise<void> };
  let browser: Browser;
  let base: string;

  beforeAll(async () => {
    const publicPort = await freePort();
    stack = await startShopStack({ publicPort, config: { proxyOther: false } });
    proxy = await startEdge(edge, publicPort, stack);
    browser = await launchChromium();
    base = `http://localhost:${publicPort}`;
  });

  afterAll(async () => {
    await browser?.close();
    await proxy?.stop();
    await stack?.stop();
  });

  const tierOf = async (handler: string): Promise<string[]> => {
    const events = (await stack.events()).filter(({ name }) => name.endsWith(handler));
    return [
      ...new Set(events.map(({ tier, source, annotation }) => `${tier} ${String(source)} ${String(annotation)}`)),
    ];
  };

  it('hydrates, and the hydrate inside CONNECT carries a valid annotation', async () => {
    const page = await newPage(await browser.newContext());
    const found = complaints(page);
    await openShop(page, base);
    expect(await page.locator('[data-test=product]').count()).toBeGreaterThan(4);
    expect(await tierOf('.hydrate_and_load')).toEqual(['full annotation valid']);
    expect(found).toEqual([]);
  });

  it('gives each page its tier, in Python: cart none, order auth_only, account full', async () => {
    const context = await browser.newContext();
    const page = await newPage(context);
    const found = complaints(page);
    await openShop(page, base);
    await addToCart(page, 0);
    await addToCart(page, 1);
    await expectText(page, '#cart-count', '2');
    await logIn(page, base, '/order');
    await expectText(page, '#order-customer', /demo/);
    await page.click('#order-place');
    await expectText(page, '#order-message', /Order \d+ is placed/);
    await page.goto(`${base}/account`);
    await expectText(page, '#account-user', /demo/);
    await page.fill('#account-first-name', 'Dee');
    await page.click('#account-save');
    await page.locator('#account-saved').waitFor();
    expect(await tierOf('cart_state.add')).toEqual(['none annotation valid']);
    expect(await tierOf('order_state.place')).toEqual(['auth_only annotation valid']);
    expect(await tierOf('account_state.save')).toEqual(['full annotation valid']);
    const placed = (await stack.events()).filter(({ name }) => name.endsWith('order_state.place'));
    expect(placed.map(({ user }) => user)).toEqual(['demo']);
    expect(found).toEqual([]);
  });

  it('keeps the cart over a reload, and shows the same user in a second tab with a token of its own', async () => {
    const context = await browser.newContext();
    const page = await newPage(context);
    await openShop(page, base);
    await logIn(page, base);
    await openShop(page, base);
    await addToCart(page, 2);
    await expectText(page, '#cart-count', '1');
    await page.reload();
    await expectText(page, '#cart-count', '1');
    const second = await newPage(context);
    await openShop(second, base);
    await expectText(second, '#session-user', 'demo');
    await addToCart(second, 3);
    await addToCart(second, 3);
    await expectText(second, '#cart-count', '2');
    await expectText(page, '#cart-count', '1');
  });

  it('uploads a picture, raised to auth_only, and shows it', async () => {
    const page = await newPage(await browser.newContext());
    const found = complaints(page);
    await logIn(page, base);
    await uploadPicture(page, base, `leaf-${edge}.png`);
    expect(await tierOf('gallery_state.handle_upload')).toEqual(['auth_only annotation valid']);
    expect(found).toEqual([]);
  });

  it('logs out: the next event is anonymous', async () => {
    const page = await newPage(await browser.newContext());
    await logIn(page, base);
    await logOut(page);
    await page.goto(`${base}/order`);
    await page.locator('#login-first').waitFor();
  });

  it('opens the Django admin for staff through the edge', async () => {
    const page = await newPage(await browser.newContext());
    await page.goto(`${base}/admin/`);
    await page.fill('input[name=username]', 'admin');
    await page.fill('input[name=password]', 'admin-pass');
    await page.click('input[type=submit]');
    await page.locator('text=Site administration').waitFor();
  });

  it('leaves nothing of an annotation, cookie or token in state, browser or logs', async () => {
    const events = await stack.events();
    expect(events.flatMap(({ router_data_keys: keys }) => keys)).not.toContain('_bridgehead');
    const log = stack.sidecar.log();
    expect(log).not.toMatch(/sessionid|token=|v1\.[\w-]{8}\./);
  });
});
