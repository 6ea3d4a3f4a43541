/** One of Reflex's pages: its connection, which comes back by itself, and its events of the tally app. */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { encodeFrame, Opcode, payloadOf } from './frames.ts';
import { mask, rawSocket } from './raw-socket.ts';
import type { Cut, SentEvent } from './tabs.ts';

const STATE = 'reflex___state____state';
const TALLY = `${STATE}.tally___tally____tally_state`;
const ROUTER_DATA = { pathname: '/', asPath: '/', query: {} };
const CONNECT = `40/_event,${JSON.stringify({
  event: { name: `${STATE}.hydrate_and_load`, payload: {}, router_data: ROUTER_DATA },
})}`;
/** As Reflex's client: so long for a transport, and so much longer each time after one that failed. Milliseconds. */
const OPEN_WITHIN = 20_000;
const RETRY_STEP = 200;
/** As long as a browser's. */
const HEADERS =
  'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0 Safari/537.36\r\n' +
  'Accept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n';
const pong = encodeFrame(Opcode.text, '3', mask);
/** Not counted in what one hears of it: who closed. */
const leave = encodeFrame(Opcode.text, '41/_event,', mask);

export const now = (): number => performance.timeOrigin + performance.now();

/** What all tabs of a process write into. */
export class Journal {
  readonly events: SentEvent[] = [];
  readonly cuts: Cut[] = [];
  readonly newTokens: number[] = [];
  readonly toasts = new Set<string>();
  outOfOrder = 0;
  refused = 0;
}

export class Tab {
  readonly name: string;
  hydrated = false;
  /** Called whenever the page is whole, and at each answer. */
  onHydrated: () => void = () => undefined;
  onAnswer: () => void = () => undefined;
  readonly #port: number;
  readonly #serial: number;
  readonly #journal: Journal;
  #token = `tab-${randomBytes(12).toString('hex')}`;
  #socket: Socket | undefined;
  #closed = false;
  #attempts = 0;
  #cut: Cut | undefined;
  #numbers = 0;
  #pending: SentEvent[] = [];
  /** Sent as soon as the page is whole again. */
  #waiting: SentEvent[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(name: string, port: number, serial: number, journal: Journal) {
    this.name = name;
    this.#port = port;
    this.#serial = serial;
    this.#journal = journal;
    this.#connect();
  }

  get pending(): number {
    return this.#pending.filter(({ told }) => !told).length + this.#waiting.length;
  }

  act(): void {
    const event: SentEvent = { tab: this.name, number: ++this.#numbers, at: now(), answered: null, told: false };
    this.#journal.events.push(event);
    if (this.hydrated) this.#send(event);
    else this.#waiting.push(event);
  }

  repeat(milliseconds: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.act();
      this.#timer = setInterval(() => this.act(), milliseconds);
    }, Math.random() * milliseconds);
  }

  silence(): void {
    clearTimeout(this.#timer);
  }

  /** The network is gone: nothing is said. */
  lose(): void {
    this.#socket?.destroy();
  }

  close(): void {
    this.#closed = true;
    this.silence();
    this.#socket?.end(leave);
  }

  #send(event: SentEvent): void {
    this.#pending.push(event);
    const { tab, number } = event;
    const call = { name: `${TALLY}.count`, payload: { tab, number }, router_data: ROUTER_DATA };
    this.#socket?.write(encodeFrame(Opcode.text, `42/_event,${JSON.stringify(['event', call])}`, mask));
  }

  #connect(): void {
    const socket = rawSocket({
      port: this.#port,
      path: `/_event/?token=${this.#token}&EIO=4&transport=websocket`,
      protocol: '0.10.1',
      serial: this.#serial,
      headers: HEADERS,
      onFrame: (opcode, buffer, start, end, masked) => {
        if (opcode === Opcode.text) this.#packet(payloadOf(buffer, start, end, masked).toString(), socket, timer);
      },
      onRefused: () => socket.destroy(),
    });
    this.#socket = socket;
    const timer = setTimeout(() => socket.destroy(), OPEN_WITHIN);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      clearTimeout(timer);
      this.#lost(socket);
    });
  }

  #lost(socket: Socket): void {
    if (this.#closed || socket !== this.#socket) return;
    const wasOpen = this.#attempts === 0;
    this.hydrated = false;
    if (this.#cut === undefined && wasOpen) {
      this.#cut = { tab: this.name, at: now(), hydrated: null };
      this.#journal.cuts.push(this.#cut);
    }
    if (!wasOpen) this.#journal.refused += 1;
    const delay = RETRY_STEP * this.#attempts++;
    setTimeout(() => this.#connect(), delay);
  }

  #packet(packet: string, socket: Socket, timer: NodeJS.Timeout): void {
    if (socket !== this.#socket) return;
    if (packet.startsWith('42/_event,')) return this.#message(JSON.parse(packet.slice(10)) as unknown[]);
    if (packet.startsWith('0')) {
      clearTimeout(timer);
      this.#attempts = 0;
      socket.write(encodeFrame(Opcode.text, CONNECT, mask));
    } else if (packet === '2') socket.write(pong);
    else if (packet.startsWith('44')) socket.destroy();
  }

  #message([kind, body]: readonly unknown[]): void {
    if (kind === 'new_token') {
      this.#token = String(body);
      this.#journal.newTokens.push(now());
      return;
    }
    if (kind !== 'event') return;
    const { delta, events } = body as {
      delta?: Record<string, Record<string, unknown>>;
      events?: { name: string; payload: unknown }[];
    };
    for (const event of events ?? []) this.#scripted(JSON.stringify(event));
    const recent = delta?.[TALLY]?.['recent_rx_state_'];
    if (Array.isArray(recent)) this.#answered(recent as number[]);
    if (delta?.[STATE]?.['is_hydrated_rx_state_'] === true) this.#whole();
  }

  #scripted(event: string): void {
    if (!event.includes('toast')) return;
    this.#journal.toasts.add(event.slice(0, 400));
    if (!event.includes('bridgehead-')) return;
    for (const pending of this.#pending) pending.told = true;
  }

  #answered(recent: readonly number[]): void {
    if (recent.some((number, index) => index > 0 && number <= (recent[index - 1] as number))) {
      this.#journal.outOfOrder += 1;
    }
    const at = now();
    const known = new Set(recent);
    let any = false;
    this.#pending = this.#pending.filter((event) => {
      if (!known.has(event.number)) return true;
      event.answered = at;
      any = true;
      return false;
    });
    if (any) this.onAnswer();
  }

  #whole(): void {
    if (this.hydrated) return;
    this.hydrated = true;
    if (this.#cut !== undefined) this.#cut.hydrated = now();
    this.#cut = undefined;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const event of waiting) this.#send(event);
    this.onHydrated();
  }
}
