import type { Page, WebSocket } from 'playwright-core';

/** What a visitor would notice of a server that goes. */
export interface Disturbances {
  readonly loads: number;
  readonly sockets: number;
  readonly socketsClosed: number;
  readonly toasts: readonly string[];
  /** `new_token` and the like: Socket.IO events other than updates, by name. */
  readonly events: readonly string[];
}

/** Watches a page from now on; what happened before is forgotten. */
export interface CalmPage {
  disturbances(): Promise<Disturbances>;
  /** Whether the document is the one that was there when the watch began. */
  isSame(): Promise<boolean>;
}

export const UNDISTURBED: Disturbances = { loads: 0, sockets: 0, socketsClosed: 0, toasts: [], events: [] };

/** Collects from the page's first moment on, so that the socket that is open now is known. */
export function watchPage(page: Page): { calm(): Promise<CalmPage> } {
  let loads = 0;
  let sockets = 0;
  let socketsClosed = 0;
  const events: string[] = [];
  page.on('load', () => loads++);
  page.on('websocket', (socket: WebSocket) => {
    if (!socket.url().includes('/_event')) return;
    sockets++;
    socket.on('close', () => socketsClosed++);
    socket.on('framereceived', ({ payload }) => {
      const name = /^4[0-9]\/_event,\["(\w+)"/.exec(String(payload))?.[1];
      if (name !== undefined && name !== 'event' && name !== 'ping') events.push(name);
    });
  });
  return {
    async calm() {
      const before = { loads, sockets, socketsClosed, events: events.length };
      await page.evaluate(BEGIN);
      return {
        isSame: () => page.evaluate<boolean>('window.__calm !== undefined'),
        disturbances: async () => ({
          loads: loads - before.loads,
          sockets: sockets - before.sockets,
          socketsClosed: socketsClosed - before.socketsClosed,
          toasts: await page.evaluate<string[]>('window.__calm?.toasts ?? ["the page was loaded again"]'),
          events: events.slice(before.events),
        }),
      };
    },
  };
}

/** Toasts are gone after seconds: they are written down as they come. */
const BEGIN = `(() => {
  const toasts = [];
  const look = () => {
    for (const toast of document.querySelectorAll('[data-sonner-toast], [role=alertdialog]')) {
      const text = toast.textContent ?? '';
      if (!toasts.includes(text)) toasts.push(text);
    }
  };
  new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
  window.__calm = { toasts };
})()`;
