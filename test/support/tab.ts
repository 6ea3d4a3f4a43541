import { randomUUID } from 'node:crypto';
import { waitUntil } from '../../tools/process.ts';
import { EngineClient, type EngineClientOptions } from './engine-client.ts';

const ROOT = 'reflex___state____state';
const STATE = `${ROOT}.ledger___ledger____ledger_state`;
const MARKER = '_rx_state_';

interface Update {
  readonly delta?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly events?: readonly { readonly name: string; readonly payload: unknown }[];
}

/** A browser's tab on the ledger app: it sends events with ids and knows what its page would show. */
export class Tab {
  client: EngineClient;
  token: string;
  /** Ids of the events sent, in order. */
  readonly sent: number[] = [];
  /** Values of the app's state, as the browser has them. */
  state: Readonly<Record<string, unknown>> = {};
  /** Every value of `ids` that came, so that one which went back can be seen. */
  readonly history: (readonly number[])[] = [];
  readonly toasts: string[] = [];
  /** Tokens that it was given in place of its own: it then has somebody else's state, an empty one. */
  readonly newTokens: string[] = [];
  readonly #url: string;
  readonly #options: EngineClientOptions;
  #read = 0;
  #nextId = 0;

  private constructor(url: string, token: string, client: EngineClient, options: EngineClientOptions) {
    this.#url = url;
    this.#options = options;
    this.token = token;
    this.client = client;
    this.#listen();
  }

  /** Connected, its page loaded. */
  static async open(url: string, options: EngineClientOptions & { hydrates?: boolean } = {}): Promise<Tab> {
    const token = options.token ?? randomUUID();
    const tab = new Tab(url, token, await EngineClient.open(url, { ...options, token }), options);
    await tab.#enter();
    return tab;
  }

  /** As Reflex's client after its transport was closed: another connection with the same token, which loads its page again. */
  async comeBack(url = this.#url): Promise<void> {
    this.client = await EngineClient.open(url, { ...this.#options, token: this.token });
    this.#read = 0;
    this.#listen();
    await this.#enter();
  }

  /** Sends an event and gives its id. */
  send(handler = 'note', payload: Readonly<Record<string, unknown>> = {}): number {
    const id = this.#nextId++;
    this.sent.push(id);
    this.#event(`${STATE}.${handler}`, { id, ...payload });
    return id;
  }

  /** Sends events, until something is over. */
  async sendDuring(work: Promise<unknown>): Promise<void> {
    const timer = setInterval(() => this.send(), 20);
    this.send();
    await work.finally(() => clearInterval(timer));
  }

  /** An event that leaves no id. */
  ask(handler: 'tick' | 'quiet'): void {
    this.#event(`${STATE}.${handler}`, {});
  }

  /** The ids in the order in which the state has them. */
  get ids(): readonly number[] {
    this.read();
    return (this.state['ids'] as readonly number[] | undefined) ?? [];
  }

  get ticks(): number {
    this.read();
    return Number(this.state['ticks'] ?? 0);
  }

  /** Whether the connection is the one it was opened with. */
  get isOpen(): boolean {
    return this.client.closed === undefined;
  }

  /** Waits until the page shows these. */
  async shows(ids: readonly number[], timeoutMs = 30_000): Promise<void> {
    const shown = (): boolean => ids.every((id) => this.ids.includes(id));
    try {
      await waitUntil(() => shown() || !this.isOpen, { timeoutMs, intervalMs: 10, what: 'the answers' });
    } finally {
      if (!shown()) console.error('shown', this.ids, 'of', ids, 'closed', this.client.closed, 'toasts', this.toasts);
    }
    if (!shown()) throw new Error(`closed with ${this.client.closed?.code} before the answers`);
  }

  /** Closed by its user: the session is over. */
  async leave(): Promise<void> {
    this.client.socket.close(1000);
    await waitUntil(() => !this.isOpen, { timeoutMs: 30_000, intervalMs: 5, what: 'the close' });
  }

  read(): void {
    const { messages } = this.client;
    for (const text of messages.slice(this.#read)) this.#message(text);
    this.#read = messages.length;
  }

  #message(text: string): void {
    const event = /^2\/_event,(.*)$/s.exec(text)?.[1];
    if (event === undefined) return;
    const [name, body] = JSON.parse(event) as [string, unknown];
    if (name === 'new_token') {
      this.token = String(body);
      this.newTokens.push(this.token);
    } else if (name === 'event') this.#update(body as Update);
  }

  #update({ delta = {}, events = [] }: Update): void {
    const values = Object.entries(delta[STATE] ?? {}).map(([key, value]) => [key.replace(MARKER, ''), value]);
    this.state = { ...this.state, ...(Object.fromEntries(values) as Record<string, unknown>) };
    const { ids } = Object.fromEntries(values) as { ids?: readonly number[] };
    if (ids !== undefined) this.history.push(ids);
    for (const { payload } of events) {
      const text = JSON.stringify(payload);
      if (text.includes('toast')) this.toasts.push(text);
    }
  }

  async #enter(): Promise<void> {
    await this.client.connect();
    this.#event(`${ROOT}.hydrate`, {});
    const isHydrated = (): boolean => {
      this.read();
      return this.client.messages.some((text) => text.includes(`"is_hydrated${MARKER}":true`) || text.includes(STATE));
    };
    await waitUntil(isHydrated, { timeoutMs: 20_000, intervalMs: 10, what: 'the page to load' });
  }

  #event(name: string, payload: object): void {
    const routerData = { pathname: '/', asPath: '/', query: {} };
    this.client.send(`42/_event,["event",${JSON.stringify({ name, payload, router_data: routerData })}]`);
  }

  #listen(): void {
    this.client.socket.on('close', () => this.read());
  }
}
