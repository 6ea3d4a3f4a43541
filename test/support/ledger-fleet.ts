import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConfigInput } from '../../config/index.ts';
import type { SessionSummary, Stats } from '../../src/ports/operator.ts';
import { startBridgehead, type BridgeheadProcess } from '../../tools/bridgehead.ts';
import { checkout } from '../../tools/checkout.ts';
import { freePort } from '../../tools/ports.ts';
import { startProcess, waitUntil, type RunningProcess } from '../../tools/process.ts';
import { pythonEnv, type PythonEnv, type ReflexVersion } from '../../tools/python-env.ts';
import { startRedis, type Redis } from '../../tools/services/index.ts';
import { handshake } from '../../tools/shop.ts';

const SECRET = 'the-secret-of-the-ledger-and-of-nothing-else';

/** What was written is there again after a restart. */
const DURABLE = ['--appendonly', 'yes', '--appendfsync', 'always'];

/** A line that the app wrote: a handler ran. */
interface LedgerLine {
  readonly kind: 'ran' | 'begun' | 'tick' | 'tick.begun' | 'tick.ended';
  readonly token: string;
  readonly pid: number;
  /** Seconds, by the worker's wall clock. */
  readonly at: number;
  readonly id?: number;
  readonly tick?: number;
}

/** One server process of the app, with one worker process in it. */
export interface LedgerWorker {
  readonly port: number;
  readonly process: RunningProcess;
  readonly log: () => string;
}

/** The ledger app: its workers, the sidecars they dial, and their Redis, each of them a process of its own. */
export class LedgerFleet {
  readonly python: PythonEnv;
  readonly folder: string;
  redis: Redis;
  readonly sidecars: BridgeheadProcess[] = [];
  readonly workers: LedgerWorker[] = [];
  #started = 0;

  private constructor(parts: { python: PythonEnv; folder: string; redis: Redis }) {
    this.python = parts.python;
    this.folder = parts.folder;
    this.redis = parts.redis;
  }

  /** Without sidecars and workers. */
  static async start(reflex: ReflexVersion = '0.10'): Promise<LedgerFleet> {
    const python = await pythonEnv({ reflex });
    const folder = await mkdtemp(join(tmpdir(), 'bridgehead-ledger-'));
    const redis = await startRedis({ folder, args: DURABLE });
    return new LedgerFleet({ python, folder, redis });
  }

  /** Killed, `meanwhile`, and started again with what was in it. */
  async restartRedis(meanwhile: () => void): Promise<void> {
    const { port } = this.redis;
    await this.redis.kill();
    meanwhile();
    this.redis = await startRedis({ port, folder: this.folder, args: DURABLE });
  }

  get secret(): string {
    return SECRET;
  }

  /** One more sidecar. Without links of their own to speak of, its sessions wait for workers. */
  async addSidecar(settings: ConfigInput & Record<string, unknown> = {}): Promise<BridgeheadProcess> {
    const sidecar = await startBridgehead({
      folder: join(this.folder, `sidecar-${this.sidecars.length}`),
      settings: { backends: ['http://127.0.0.1:9'], auth: { source: 'none' }, secret: SECRET, ...settings },
    });
    this.sidecars.push(sidecar);
    return sidecar;
  }

  /** One more worker; it dials these addresses, or every sidecar, and is there when the first of them has its link. */
  async addWorker(
    options: {
      port?: number;
      linkUrls?: readonly string[];
      env?: Readonly<Record<string, string>>;
      links?: boolean;
    } = {},
  ): Promise<LedgerWorker> {
    const sidecar = options.links === false ? undefined : this.sidecars[0];
    const before = new Set(sidecar === undefined ? [] : (await linksOf(sidecar)).map(({ instance }) => instance));
    const port = options.port ?? (await freePort());
    const name = `worker-${this.#started++}`;
    const urls = options.linkUrls ?? this.sidecars.map(({ linkUrl }) => linkUrl);
    const logFile = join(this.folder, `${name}.log`);
    const started = await startProcess({
      name: `reflex run (port ${port})`,
      command: join(this.python.bin, 'reflex'),
      args: ['run', '--env', 'prod', '--backend-only', '--backend-host', '127.0.0.1', '--backend-port', String(port)],
      cwd: join(checkout, 'test', 'support', 'python', 'ledger'),
      env: {
        ...withoutOurs(process.env),
        PATH: `${this.python.bin}:${process.env['PATH'] ?? ''}`,
        PYTHONPATH: '.',
        PYTHONUNBUFFERED: '1',
        PYTHONDONTWRITEBYTECODE: '1',
        LEDGER_REDIS: this.redis.url,
        LEDGER_FILE: this.#file,
        BRIDGEHEAD_SECRET: SECRET,
        BRIDGEHEAD_LINK_URL: urls.join(','),
        REFLEX_WEB_WORKDIR: join(this.folder, name, 'web'),
        REFLEX_UPLOADED_FILES_DIR: join(this.folder, name, 'uploads'),
        REFLEX_STATES_WORKDIR: join(this.folder, name, 'states'),
        REFLEX_TELEMETRY_ENABLED: 'false',
        REFLEX_CHECK_LATEST_VERSION: 'false',
        GRANIAN_WORKERS: '1',
        ...options.env,
      },
      logFile,
      ready: () => handshake(port),
      readyTimeoutMs: 90_000,
    });
    const worker: LedgerWorker = { port, process: started, log: () => readFileSync(logFile, 'utf8') };
    this.workers.push(worker);
    if (sidecar !== undefined) {
      const isNew = async (): Promise<boolean> =>
        (await linksOf(sidecar)).some(({ instance }) => !before.has(instance));
      await waitUntil(isNew, { what: 'the worker to link' });
    }
    return worker;
  }

  /** What ran, in the order in which it was written down. */
  lines(token?: string): LedgerLine[] {
    if (!existsSync(this.#file)) return [];
    const whole = readFileSync(this.#file, 'utf8').split('\n').slice(0, -1);
    const lines = whole.map((line) => JSON.parse(line) as LedgerLine);
    return token === undefined ? lines : lines.filter((line) => line.token === token);
  }

  /** The ids of the events of a tab that ran, in their order; an event that ran twice is there twice. */
  ran(token: string): number[] {
    return this.lines(token).flatMap(({ kind, id }) => (kind === 'ran' && id !== undefined ? [id] : []));
  }

  /** Waits until no event of a sidecar's sessions is at work or waits for that: what was answered is done then, and its state stored. */
  async idle(sidecar = this.first): Promise<void> {
    const isIdle = async (): Promise<boolean> =>
      (await sessionsOf(sidecar)).every(({ work, queued }) => work === 'idle' && queued.upstream === 0);
    await waitUntil(isIdle, { what: 'the sessions to be idle' });
  }

  /** The worker that holds the sidecar's only session. */
  async holder(sidecar = this.first): Promise<{ worker: LedgerWorker; instance: string; pid: number }> {
    const sessions = await sessionsOf(sidecar);
    const instance = sessions.length === 1 ? sessions[0]?.upstream : undefined;
    const link = (await linksOf(sidecar)).find((one) => one.instance === instance);
    if (link === undefined) throw new Error(`no linked worker has the only one of ${sessions.length} sessions`);
    const worker = this.workers.find(({ process: { pid } }) => pid === groupOf(link.pid));
    if (worker === undefined) throw new Error(`no worker of ours has process ${link.pid}`);
    return { worker, instance: link.instance, pid: link.pid };
  }

  /** Told to stop, or at once; resolves when its processes are gone. */
  async endWorker(worker: LedgerWorker, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (signal === 'SIGKILL') worker.process.signalGroup('SIGKILL');
    else worker.process.signal('SIGTERM');
    await worker.process.exited;
    worker.process.signalGroup('SIGKILL');
    this.workers.splice(this.workers.indexOf(worker), 1);
  }

  async stop(): Promise<void> {
    for (const worker of this.workers) {
      // One that was stopped in its tracks cannot be told anything.
      worker.process.signalGroup('SIGCONT');
      worker.process.signalGroup('SIGKILL');
      await worker.process.exited;
    }
    await Promise.all(this.sidecars.map((sidecar) => sidecar.stop()));
    await this.redis.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Waits until another worker than this one holds the sidecar's only session. */
  async movedFrom(worker: LedgerWorker, sidecar = this.first): Promise<LedgerWorker> {
    let now = worker;
    const isElsewhere = async (): Promise<boolean> => (now = (await this.holder(sidecar)).worker) !== worker;
    await waitUntil(isElsewhere, { what: 'another worker to have the session' });
    return now;
  }

  /** Waits until a sidecar has no link. */
  async unlinked(sidecar = this.first): Promise<void> {
    await waitUntil(async () => (await linksOf(sidecar)).length === 0, { what: 'the links to end' });
  }

  /** The sidecar that was started first. */
  get first(): BridgeheadProcess {
    const [sidecar] = this.sidecars;
    if (sidecar === undefined) throw new Error('there is no sidecar');
    return sidecar;
  }

  get #file(): string {
    return join(this.folder, 'ledger.jsonl');
  }
}

export async function linksOf(sidecar: BridgeheadProcess): Promise<Stats['links']> {
  return (await read<Stats>(sidecar, '/api/stats')).links;
}

/** A sample of a sidecar's metrics, by its name and labels as they are written. */
export async function sampleOf(sidecar: BridgeheadProcess, sample: string): Promise<number> {
  const text = await (await fetch(`${sidecar.adminUrl}/metrics`)).text();
  const line = text.split('\n').find((one) => one.startsWith(`${sample} `));
  if (line === undefined) throw new Error(`no metric ${sample}`);
  return Number(line.slice(sample.length));
}

async function sessionsOf(sidecar: BridgeheadProcess): Promise<readonly SessionSummary[]> {
  return (await read<{ sessions: readonly SessionSummary[] }>(sidecar, '/api/sessions')).sessions;
}

async function read<T>(sidecar: BridgeheadProcess, path: string): Promise<T> {
  return (await (await fetch(`${sidecar.adminUrl}${path}`)).json()) as T;
}

/** The process group: that of the server which the worker process belongs to. */
function groupOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2]);
}

function withoutOurs(env: NodeJS.ProcessEnv): Record<string, string | undefined> {
  const ours = /^(BRIDGEHEAD_|REFLEX_|REDIS_URL$|DATABASE_URL$|DJANGO_SETTINGS_MODULE$)/;
  return Object.fromEntries(Object.entries(env).filter(([name]) => !ours.test(name)));
}
