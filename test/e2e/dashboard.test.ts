import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startBridgehead, type BridgeheadProcess } from '../../tools/bridgehead.ts';
import { waitUntil } from '../../tools/process.ts';
import { launchChromium } from '../../tools/services/index.ts';
import { EngineClient } from '../support/engine-client.ts';
import { eventually } from '../support/eventually.ts';
import { LinkWorker } from '../support/link-worker.ts';
import { NAMESPACE, SECRET } from '../support/linked-stage.ts';
import { complaints, expectText, newPage } from './shop-walk.ts';

const KEY = 'the-api-key-of-this-test';
/** What a client tells is shown as it stands. */
const PATH = '/notes/<b id=injected>';
const HANDLER = 'root.cart.add';

function isFocused(node: object): boolean {
  const { document } = globalThis as unknown as { document: { activeElement: object | null } };
  return document.activeElement === node;
}

describe('the dashboard in Chromium', () => {
  let sidecar: BridgeheadProcess;
  let worker: LinkWorker;
  let browser: Browser;
  const clients: EngineClient[] = [];

  const enter = async (token: string): Promise<EngineClient> => {
    const client = await EngineClient.open(sidecar.url, { token });
    clients.push(client);
    await client.connect();
    return client;
  };

  /** What a visitor would see in the console, and answers that are no success. */
  const open = async (page: Page): Promise<string[]> => {
    const found = complaints(page);
    page.on('console', (message) => {
      if (message.type() === 'error') found.push(message.text());
    });
    await page.goto(sidecar.adminUrl);
    await expectText(page, '#state', 'ready');
    return found;
  };

  beforeAll(async () => {
    const settings = {
      name: 'notes',
      secret: SECRET,
      backends: ['http://127.0.0.1:9'],
      auth: { source: 'none' },
      admin: { apiKey: KEY },
    };
    sidecar = await startBridgehead({ settings });
    worker = await LinkWorker.link(sidecar.linkUrl, SECRET, { instance: 'abcdefgh-1' });
    const client = await enter('first');
    const router = JSON.stringify({ pathname: PATH });
    for (let n = 0; n < 3; n++) {
      client.send(`42${NAMESPACE},["event",{"name":"${HANDLER}","payload":{},"router_data":${router}}]`);
    }
    const session = await worker.session();
    await waitUntil(() => session.texts.length === 4);
    session.send(`42${NAMESPACE},["event",{"delta":{}}]`);
    await client.until(() => client.messages.some((text) => text.includes('delta')), 'the update');
    worker.stats({ sessions: 1, inFlight: 2, lagMs: 1, rss: 1 });
    browser = await launchChromium();
  });

  afterAll(async () => {
    await browser?.close();
    for (const client of clients) client.end();
    await sidecar?.stop();
  });

  it('shows what the sidecar does, and goes on doing so', async () => {
    const page = await newPage(await browser.newContext());
    const found = await open(page);
    const rows = async (id: string): Promise<string[][]> => {
      const lines = await page.locator(`#${id} tr`).all();
      return Promise.all(lines.map(async (line) => line.locator('td').allTextContents()));
    };
    await expectText(page, '#name', 'notes');
    await expectText(page, '#about', /^\d+\.\d+\.\d+, up since .* \(\d+ (s|min)\)$/);
    await expectText(page, '#sessions', '1');
    await expectText(page, '#lost', '0');
    await expectText(page, '#p50', /^\d+(\.\d+)? m?s$/);
    await eventually(async () => (await rows('workers'))[1]?.slice(0, 6)).toEqual([
      'abcdefgh',
      expect.stringMatching(/^web-1 \d+$/),
      expect.stringMatching(/^\w+$/),
      '1',
      '2',
      'linked',
    ]);
    expect(await rows('workers')).toContainEqual(['http://127.0.0.1:9', '', '', '0', '', 'down', '']);
    expect(await rows('handlers')).toContainEqual([
      'add',
      'shop.cart.Cart',
      expect.any(String),
      '3',
      expect.stringMatching(/s$/),
      expect.stringMatching(/s$/),
    ]);
    expect((await rows('tiers')).map(([tier]) => tier)).toEqual([undefined, 'none', 'auth_only', 'full', 'worker']);
    expect((await rows('dependencies')).map(([name]) => name)).toContain('change bus memory');
    expect(await rows('live')).toContainEqual(['gaps', '0']);
    const [session] = (await rows('list')).slice(1);
    expect(session?.slice(0, 5)).toEqual(['–', PATH, 'abcdefgh', expect.stringMatching(/idle|busy/), 'websocket']);
    expect(await page.locator('#injected').count()).toBe(0);
    const before = worker.sessions.length;
    const second = await enter('second');
    await eventually(() => worker.sessions.length).toBe(before + 1);
    await expectText(page, '#sessions', '2');
    await expectText(page, '#rate', /^\d+(\.\d)?$/);
    second.socket.close(1000);
    await expectText(page, '#sessions', '1');
    expect(found).toEqual([]);
  });

  it.each([
    ['light', { width: 1280, height: 900 }],
    ['dark', { width: 390, height: 844 }],
  ] as const)('is read in %s at %o without scrolling sideways', async (colorScheme, viewport) => {
    const page = await newPage(await browser.newContext({ colorScheme, viewport }));
    const found = await open(page);
    const measure = (): Promise<{ over: number; ground: string; drawn: boolean }> =>
      page.evaluate(() => {
        interface Root {
          scrollWidth: number;
          clientWidth: number;
        }
        interface Canvas {
          width: number;
          height: number;
          getContext(kind: '2d'): { getImageData(...area: number[]): { data: Uint8ClampedArray } };
        }
        const { document, getComputedStyle } = globalThis as unknown as {
          document: { documentElement: Root; body: object; getElementById(id: string): Canvas };
          getComputedStyle(this: void, node: object): { backgroundColor: string };
        };
        const { scrollWidth, clientWidth } = document.documentElement;
        const canvas = document.getElementById('chart');
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return {
          over: scrollWidth - clientWidth,
          ground: getComputedStyle(document.body).backgroundColor,
          drawn: data.some((value) => value > 0),
        };
      });
    await eventually(measure).toEqual({
      over: 0,
      ground: colorScheme === 'light' ? 'rgb(246, 247, 249)' : 'rgb(17, 21, 26)',
      drawn: true,
    });
    expect(found).toEqual([]);
  });

  it('changes something only with the key that is typed, and keeps that nowhere', async () => {
    const context = await browser.newContext();
    const page = await newPage(context);
    const found = await open(page);
    const asked: { method: string; authorization: string | undefined }[] = [];
    page.on('request', (request) => {
      asked.push({ method: request.method(), authorization: request.headers()['authorization'] });
    });
    await expectText(page, '#list tr:nth-child(2) button', 'Close');
    await page.click('#list tr:nth-child(2) button');
    await expectText(page, '#notice', /need the API key/);
    expect(asked.filter(({ method }) => method === 'POST')).toEqual([]);
    expect(found).toEqual([]);

    await page.fill('#key', 'wrong');
    await page.click('#list tr:nth-child(2) button');
    await expectText(page, '#notice', /Authorization: Bearer/);
    expect(clients[0]?.closed).toBeUndefined();

    await page.fill('#key', KEY);
    await page.fill('#user', 'auth.user:42');
    await page.click('#invalidate');
    await expectText(page, '#notice', /^Users are not resolved here/);
    // With the keyboard: the list, which is made anew all the time, leaves the button where it is.
    await page.focus('#user');
    const close = page.locator('#list tr:nth-child(2) button');
    for (let tabs = 0; tabs < 5 && !(await close.evaluate(isFocused)); tabs++) await page.keyboard.press('Tab');
    for (const stats of ['first', 'second']) {
      await page.waitForResponse((response) => response.url().endsWith('/metrics'));
      expect([stats, await close.evaluate(isFocused)]).toEqual([stats, true]);
    }
    await page.keyboard.press('Enter');
    await expectText(page, '#notice', 'The session is closed.');
    expect(await clients[0]?.untilClosed()).toBe(1008);
    await expectText(page, '#sessions', '0');
    const posts = asked.filter(({ method }) => method === 'POST').map(({ authorization }) => authorization);
    expect(posts).toEqual(['Bearer wrong', `Bearer ${KEY}`, `Bearer ${KEY}`]);
    const state = await context.storageState({ indexedDB: true });
    expect(state).toEqual({ cookies: [], origins: [] });
    await page.reload();
    await expectText(page, '#state', 'ready');
    expect(await page.inputValue('#key')).toBe('');
  });

  it('drains after a question', async () => {
    const page = await newPage(await browser.newContext());
    await open(page);
    await page.fill('#key', KEY);
    page.once('dialog', (dialog) => void dialog.dismiss());
    await page.click('#drain');
    await expectText(page, '#state', 'ready');
    page.once('dialog', (dialog) => void dialog.accept());
    await page.click('#drain');
    await expectText(page, '#state', /draining|does not answer/);
  });
});
