import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { linkServer } from '../../src/adapters/link/link-server.ts';
import { Figures } from '../../src/adapters/metrics/figures.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type { LinkedWorker, LinkServer } from '../../src/ports/links.ts';
import type { AttachRequest, VirtualSession } from '../../src/ports/virtual-session.ts';
import { keyring } from '../../src/protocol/keys.ts';
import { waitUntil } from '../../tools/process.ts';
import { LinkWorker, type LinkWorkerSession } from './link-worker.ts';
import { RecordingSink } from './recording-sink.ts';

const SECRET = 'a-secret-that-only-these-tests-know-0001';
const LIMITS = { timeoutMs: 30_000, intervalMs: 2 };

export const ATTACH: AttachRequest = {
  session: '5b0c2c1e-8d0e-4a53-9c5e-0f6f3f0b9a11',
  target: '/_event/?token=t&EIO=4&transport=websocket',
  headers: [
    ['host', 'shop.example'],
    ['cookie', 'a=b'],
  ],
  client: '203.0.113.9',
  protocol: '0.10.1',
  takeover: false,
  from: undefined,
  force: false,
  resume: undefined,
};

/** One session, seen from all three places. */
export interface Attached {
  readonly sink: RecordingSink;
  readonly session: VirtualSession;
  readonly there: LinkWorkerSession;
}

/** A link server with nothing behind it, and the workers that dial it. */
export class LinkStand {
  readonly server: LinkServer;
  readonly lines: string[] = [];
  /** Calls of `workers` on the listener. */
  changes = 0;
  readonly #folder: string;
  readonly #workers: LinkWorker[] = [];
  #address = '';

  private constructor(folder: string, unix: boolean, clock: Clock) {
    this.#folder = folder;
    const log = (fields: object, message: string): void => void this.lines.push(JSON.stringify({ fields, message }));
    this.server = linkServer(
      {
        listen: unix ? { path: join(folder, 'link.sock') } : { host: '127.0.0.1', port: 0 },
        name: 'shop',
        instance: 'sidecar-1',
      },
      {
        keys: keyring(SECRET, [], 'link'),
        clock,
        metrics: new Figures(),
        logger: { debug: log, info: log, warn: log, error: log },
      },
    );
    this.server.listener = {
      workers: () => this.changes++,
      session: () => undefined,
      invalidated: () => undefined,
      lost: () => undefined,
      reported: () => undefined,
      published: () => Promise.resolve(false),
      missed: () => Promise.resolve(false),
    };
  }

  static async start(kind: 'TCP' | 'a Unix socket', clock: Clock): Promise<LinkStand> {
    const folder = await mkdtemp(join(tmpdir(), 'bridgehead-link-'));
    const stand = new LinkStand(folder, kind !== 'TCP', clock);
    stand.#address = await stand.server.listen();
    return stand;
  }

  /** A worker whose link is ready. */
  async worker(changes: Readonly<Record<string, unknown>> = {}): Promise<LinkWorker> {
    const before = new Set(this.server.workers);
    const worker = await LinkWorker.link(this.#address, SECRET, changes);
    this.#workers.push(worker);
    await waitUntil(() => this.server.workers.some((linked) => !before.has(linked)), { ...LIMITS, what: 'the worker' });
    return worker;
  }

  /** The worker that linked last. */
  get linked(): LinkedWorker {
    const linked = this.server.workers.at(-1);
    if (linked === undefined) throw new Error('no worker is linked');
    return linked;
  }

  /** Attaches a session to the worker that linked last, and waits until it is. */
  async attach(worker: LinkWorker, request: Partial<AttachRequest> = {}): Promise<Attached> {
    const sink = new RecordingSink();
    const count = worker.sessions.length + 1;
    const session = this.linked.attach({ ...ATTACH, ...request }, sink);
    const there = await worker.session(count);
    await waitUntil(() => sink.answer !== undefined, { ...LIMITS, what: 'ATTACHED' });
    return { sink, session, there };
  }

  async stop(): Promise<void> {
    for (const worker of this.#workers) worker.client.end();
    await this.server.close();
    await rm(this.#folder, { recursive: true, force: true });
  }
}
