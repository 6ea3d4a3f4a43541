/** A process of the shop's pages, driven by messages from its parent (see `shelf.ts`). */
import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import { sharedMicroseconds } from './fan.ts';
import { Opcode, payloadOf } from './frames.ts';
import { rawSocket, sayText } from './raw-socket.ts';
import type { Seen, ShelfCommand, ShelfReply } from './shelf.ts';

const ROOT = 'reflex___state____state';
const PRODUCTS = `${ROOT}.shop___products____product_state`;
const CART = `${ROOT}.shop___cart____cart_state`;
const ROUTER_DATA = { pathname: '/', asPath: '/', query: {} };
const AT_ONCE = 8;

interface Row {
  readonly category: string;
  readonly stock: number;
}

type Delta = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

let pages: Page[] = [];
let cut = 0;
let closing = false;

function answer(reply: ShelfReply): void {
  process.send?.(reply);
}

class Page {
  rows: readonly Row[] = [];
  deltas = 0;
  seen: Seen[] = [];
  waits: { at: number; took: number }[] = [];
  /** Called at each delta. */
  onDelta: () => void = () => undefined;
  readonly isList: boolean;
  readonly #socket: Socket;
  #asked: number[] = [];
  #isOpen = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(port: number, serial: number, isList: boolean) {
    this.isList = isList;
    this.#socket = rawSocket({
      port,
      path: `/_event/?token=${randomUUID()}&EIO=4&transport=websocket`,
      protocol: '0.10.1',
      serial,
      onFrame: (opcode, buffer, start, end, masked) => {
        if (opcode === Opcode.text) this.#packet(payloadOf(buffer, start, end, masked).toString());
      },
      onRefused: (text) => answer({ kind: 'failed', message: `not upgraded: ${text}` }),
    });
    this.#socket.on('error', () => this.#socket.destroy());
    this.#socket.on('close', () => {
      if (!closing) cut += 1;
    });
  }

  /** The least stock of its rows; 0 while it shows none. */
  get version(): number {
    return this.rows.length === 0 ? 0 : Math.min(...this.rows.map(({ stock }) => stock));
  }

  get pending(): number {
    return this.#asked.length;
  }

  send(name: string, payload: object = {}): void {
    const call = { name, payload, router_data: ROUTER_DATA };
    sayText(this.#socket, `42/_event,${JSON.stringify(['event', call])}`);
  }

  repeat(milliseconds: number): void {
    const act = (): void => {
      this.#asked.push(sharedMicroseconds());
      this.#isOpen = !this.#isOpen;
      this.send(`${CART}.set_open`, { value: this.#isOpen });
    };
    this.#timer = setTimeout(() => {
      act();
      this.#timer = setInterval(act, milliseconds);
    }, Math.random() * milliseconds);
  }

  rest(): void {
    clearTimeout(this.#timer);
  }

  close(): void {
    this.rest();
    this.#socket.destroy();
  }

  #packet(packet: string): void {
    if (packet.startsWith('0')) {
      const event = { name: `${ROOT}.hydrate_and_load`, payload: {}, router_data: ROUTER_DATA };
      return sayText(this.#socket, `40/_event,${JSON.stringify({ event })}`);
    }
    if (packet === '2') return sayText(this.#socket, '3');
    if (packet.startsWith('40/_event')) return this.isList ? this.send(`${PRODUCTS}.load`) : undefined;
    if (!packet.startsWith('42/_event,["event"')) return;
    const [, { delta }] = JSON.parse(packet.slice('42/_event,'.length)) as [string, { delta?: Delta }];
    const rows = delta?.[PRODUCTS]?.['live_rows_rx_state_'] as Row[] | undefined;
    if (this.isList && rows !== undefined) {
      this.rows = rows;
      this.seen.push({ version: this.version, at: sharedMicroseconds() });
    }
    if (delta?.[CART]?.['is_open_rx_state_'] !== undefined) this.#answered();
    this.deltas += 1;
    this.onDelta();
  }

  #answered(): void {
    const at = this.#asked.shift();
    if (at !== undefined) this.waits.push({ at, took: (sharedMicroseconds() - at) / 1000 });
  }
}

/** Resolves once `isDone` of all of these pages; asked at each delta. */
function until(of: readonly Page[], isDone: (page: Page) => boolean): Promise<void> {
  return new Promise((resolve) => {
    let left = of.length;
    for (const page of of) {
      const look = (): void => {
        if (!isDone(page)) return;
        page.onDelta = () => undefined;
        if (--left === 0) resolve();
      };
      page.onDelta = look;
      look();
    }
  });
}

async function open({ ports, lists, actors }: Extract<ShelfCommand, { kind: 'open' }>): Promise<void> {
  closing = false;
  cut = 0;
  const total = lists + actors;
  while (pages.length < total) {
    const first = pages.length;
    const few = Array.from({ length: Math.min(AT_ONCE, total - first) }, (_, index) => {
      const serial = first + index;
      return new Page(ports[serial % ports.length] as number, serial, serial < lists);
    });
    pages.push(...few);
    await until(few, ({ isList, rows, deltas }) => (isList ? rows.length : deltas) > 0);
  }
}

async function choose({ prefix, rows }: Extract<ShelfCommand, { kind: 'choose' }>): Promise<void> {
  const lists = pages.filter(({ isList }) => isList);
  for (const [number, page] of lists.entries()) {
    const value = `${prefix}${number}`;
    page.send(`${PRODUCTS}.set_category`, { value });
    await until([page], (one) => one.rows.length === rows && one.rows[0]?.category === value);
  }
}

async function run(command: ShelfCommand): Promise<ShelfReply> {
  const actors = pages.filter(({ isList }) => !isList);
  switch (command.kind) {
    case 'open':
      await open(command);
      break;
    case 'choose':
      await choose(command);
      break;
    case 'forget':
      for (const page of pages) [page.seen, page.waits] = [[], []];
      break;
    case 'act':
      for (const page of actors) page.repeat(1000 / command.perSecond);
      break;
    case 'rest':
      for (const page of actors) page.rest();
      break;
    case 'status': {
      const behind = pages.filter(({ isList, version }) => isList && version < command.version).length;
      return { kind: 'status', behind, pending: actors.reduce((sum, { pending }) => sum + pending, 0) };
    }
    case 'report': {
      const seen = pages.filter(({ isList }) => isList).map((page) => page.seen);
      return { kind: 'report', seen, waits: actors.flatMap(({ waits }) => waits), cut };
    }
    case 'close':
      closing = true;
      for (const page of pages) page.close();
      pages = [];
      break;
  }
  return { kind: 'done' };
}

process.on('message', (command: ShelfCommand) => {
  run(command).then(answer, (error: Error) => answer({ kind: 'failed', message: error.message }));
});
process.on('disconnect', () => process.exit(0));
