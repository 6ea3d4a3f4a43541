import { expect } from 'vitest';
import type { BrowserContext, Page } from 'playwright-core';

/** What a visitor's browser complains about; empty at the end of a good walk. */
export function complaints(page: Page): string[] {
  const found: string[] = [];
  page.on('pageerror', (error) => found.push(`error: ${error.message}`));
  page.on('response', (response) => {
    if (response.status() >= 400) found.push(`${response.status()} ${new URL(response.url()).pathname}`);
  });
  return found;
}

export async function openShop(page: Page, base: string): Promise<void> {
  await page.goto(base);
  await page.locator('[data-test=product]').first().waitFor();
}

export async function addToCart(page: Page, product: number): Promise<void> {
  await page.locator('[data-test=product-add]').nth(product).click();
}

export async function expectText(page: Page, selector: string, text: string | RegExp): Promise<void> {
  const matches = (value: string | null): boolean =>
    typeof text === 'string' ? (value ?? '').trim() === text : text.test(value ?? '');
  await expect
    .poll(async () => matches(await page.locator(selector).first().textContent()), { timeout: 10_000 })
    .toBe(true);
}

export async function logIn(page: Page, base: string, next = '/', name = 'demo'): Promise<void> {
  await page.goto(`${base}/login?next=${encodeURIComponent(next)}`);
  await page.fill('#login-username', name);
  await page.fill('#login-password', `${name}-pass`);
  await page.click('#login-submit');
  await arriveAt(page, next);
  await expectText(page, '#session-user', name);
}

/**
 * Waits for the full page load that a login or a logout ends with. The state is shown before: who goes elsewhere upon that
 * has two loads at once, of which one is aborted.
 */
async function arriveAt(page: Page, path: string): Promise<void> {
  // A folder of the frontend may be served with a slash at the end.
  await page.waitForURL(({ pathname }) => pathname === path || pathname === `${path}/`);
}

export async function logOut(page: Page): Promise<void> {
  await page.click('#user-menu');
  await page.click('#logout');
  await arriveAt(page, '/login');
  await page.locator('#nav-login').waitFor();
}

/** A picture of one pixel. */
const PIXEL = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);

export async function uploadPicture(page: Page, base: string, name: string): Promise<void> {
  await page.goto(`${base}/gallery`);
  await page.locator('#picture input[type=file]').setInputFiles({ name, mimeType: 'image/png', buffer: PIXEL });
  await page.click('#upload-send');
  await page.locator('[data-test=gallery-title]', { hasText: name }).first().waitFor();
  const image = page.locator('[data-test=gallery-image]').first();
  const width = (): Promise<number> =>
    image.evaluate((node) => (node as unknown as { naturalWidth: number }).naturalWidth);
  await expect.poll(width, { timeout: 20_000 }).toBe(1);
}

export async function newPage(context: BrowserContext): Promise<Page> {
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  return page;
}
