/** Workers of the tally app (bench/app): real Reflex with its state in Redis. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../tools/ports.ts';
import { startProcess, type RunningProcess } from '../../tools/process.ts';
import type { PythonEnv } from '../../tools/python-env.ts';
import { handshake } from '../../tools/shop.ts';

const APP = fileURLToPath(new URL('../app', import.meta.url));

export interface TallyOptions {
  readonly python: PythonEnv;
  readonly redisUrl: string;
  /** Where its sidecar takes links; without it the app runs as it would without the companion. */
  readonly link?: { readonly url: string; readonly secret: string };
  readonly env?: Readonly<Record<string, string>>;
}

/** One server process at one port, which can be stopped and started again. */
export class TallyWorker {
  readonly port: number;
  readonly #folder: string;
  readonly #options: TallyOptions;
  #process: RunningProcess;

  private constructor(port: number, folder: string, options: TallyOptions, running: RunningProcess) {
    this.port = port;
    this.#folder = folder;
    this.#options = options;
    this.#process = running;
  }

  static async start(options: TallyOptions): Promise<TallyWorker> {
    const [port, folder] = [await freePort(), await mkdtemp(join(tmpdir(), 'bridgehead-tally-'))];
    return new TallyWorker(port, folder, options, await launch(port, folder, options));
  }

  get pid(): number {
    return this.#process.pid;
  }

  get logFile(): string {
    return this.#process.logFile;
  }

  /** SIGTERM, as a supervisor does it; resolves when the worker has left. */
  async terminate(): Promise<void> {
    await this.#process.stop(60_000);
  }

  /** SIGKILL to all of it. */
  async kill(): Promise<void> {
    this.#process.signalGroup('SIGKILL');
    await this.#process.exited;
  }

  /** Where it was before. */
  async restart(): Promise<void> {
    this.#process = await launch(this.port, this.#folder, this.#options);
  }

  async stop(): Promise<void> {
    await this.#process.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function launch(port: number, folder: string, options: TallyOptions): Promise<RunningProcess> {
  const { python, redisUrl, link, env } = options;
  const inherited = Object.entries(process.env).filter(([name]) => !/^(BRIDGEHEAD_|REFLEX_|REDIS_URL$)/.test(name));
  return startProcess({
    name: `tally worker (port ${port})`,
    command: join(python.bin, 'reflex'),
    args: ['run', '--env', 'prod', '--backend-only', '--backend-host', '127.0.0.1', '--backend-port', String(port)],
    cwd: APP,
    env: {
      ...Object.fromEntries(inherited),
      PATH: `${python.bin}:${process.env['PATH'] ?? ''}`,
      PYTHONPATH: APP,
      PYTHONUNBUFFERED: '1',
      PYTHONDONTWRITEBYTECODE: '1',
      REFLEX_REDIS_URL: redisUrl,
      REFLEX_WEB_WORKDIR: join(folder, 'web'),
      REFLEX_UPLOADED_FILES_DIR: join(folder, 'uploads'),
      REFLEX_STATES_WORKDIR: join(folder, 'states'),
      REFLEX_TELEMETRY_ENABLED: 'false',
      REFLEX_CHECK_LATEST_VERSION: 'false',
      GRANIAN_WORKERS: '1',
      ...(link === undefined
        ? { TALLY_PLAIN: '1' }
        : { BRIDGEHEAD_LINK_URL: link.url, BRIDGEHEAD_SECRET: link.secret }),
      ...env,
    },
    logFile: join(folder, 'worker.log'),
    ready: () => handshake(port),
    readyTimeoutMs: 120_000,
  });
}
