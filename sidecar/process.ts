import { ConfigError } from '../config/faults.ts';
import { explain } from '../config/explain.ts';
import type { LoadedConfig } from '../config/load.ts';
import { reloaded } from '../config/reload.ts';
import type { Config } from '../config/schema.ts';
import {
  type MetricsLog,
  metricsLog,
  type PrometheusMetrics,
  prometheusMetrics,
} from '../src/adapters/metrics/index.ts';
import { systemClock } from '../src/ports/index.ts';
import { type Admin, startAdmin } from './admin/server.ts';
import { compose, type Running } from './compose.ts';
import { ExitCode } from './command.ts';
import { makeLogger, type ProcessLogger } from './logger.ts';

interface Parts {
  readonly logger: ProcessLogger;
  readonly metrics: PrometheusMetrics;
}

/**
 * The life of the process: start, one line on standard output, reloads on SIGHUP, an orderly end on SIGTERM, SIGINT or
 * at an operator's request, an immediate one at the second signal. Resolves with the exit code.
 */
export async function serveUntilStopped(loaded: LoadedConfig, readAgain: () => Promise<LoadedConfig>): Promise<number> {
  const logger = await makeLogger({ level: loaded.config.log.level, pretty: process.stderr.isTTY });
  endOnBug(logger);
  const stopping = stopRequests(logger);
  for (const notice of [...loaded.notices, ...explain(loaded)]) logger.warn({}, notice);

  const metrics = prometheusMetrics();
  const service = new Service(loaded.config, { logger, metrics });
  // Before the ready line: whoever reads it may send a SIGHUP, which ends a process that does not listen.
  const reloading = reloadRequests(service, readAgain, loaded.file, logger);
  try {
    await service.start(stopping.request);
  } catch (error) {
    logger.fatal({ err: error }, 'could not start');
    await service.stop();
    return ExitCode.failed;
  }
  logger.info({ reason: await stopping.requested }, 'stopping');
  reloading.stop();
  return (await service.stop()) ? ExitCode.ok : ExitCode.failed;
}

/** What serves, and what stands beside it: the admin listener and the metrics line. */
class Service {
  #config: Config;
  readonly #parts: Parts;
  #running: Running | undefined;
  #admin: Admin | undefined;
  #metricsLog: MetricsLog | undefined;

  constructor(config: Config, parts: Parts) {
    this.#config = config;
    this.#parts = parts;
  }

  async start(onDrainRequested: (reason: string) => void): Promise<void> {
    const { logger, metrics } = this.#parts;
    this.#running = await compose(this.#config, {
      logger,
      metrics,
      clock: systemClock,
      onDrainRequested: () => onDrainRequested('operator'),
    });
    const { listen: address, apiKey, hosts } = this.#config.admin;
    const { live, operator, pushes } = this.#running;
    this.#admin = await startAdmin({ address, apiKey, hosts }, { operator, metrics, logger, live, pushes });
    this.#metricsLog = this.#startMetricsLog();
    const { listen, link } = this.#running.addresses;
    const addresses = { listen, admin: this.#admin.url, ...(link !== undefined && { link }) };
    const words = Object.entries(addresses).map(([name, url]) => `${name}=${url}`);
    process.stdout.write(`bridgehead ready ${words.join(' ')}\n`);
    logger.info(addresses, 'ready');
  }

  /** Takes up what a running process can, and names the rest. */
  reload(next: Config): void {
    const { logger } = this.#parts;
    const { config, applied, restart } = reloaded(this.#config, next);
    const before = this.#config;
    this.#config = config;
    logger.level = config.log.level;
    this.#running?.reload(config);
    if (before.metrics !== config.metrics) {
      this.#metricsLog?.stop();
      this.#metricsLog = this.#startMetricsLog();
    }
    logger.info({ applied }, applied.length === 0 ? 'reloaded: nothing changed that can be taken up' : 'reloaded');
    if (restart.length > 0) logger.warn({ keys: restart }, 'changed keys that need a restart are not in force');
  }

  /** False where the drain failed; everything is closed in any case. */
  async stop(): Promise<boolean> {
    let orderly = true;
    this.#running?.unready();
    if (this.#config.shutdownDelay > 0 && this.#running) await delay(this.#config.shutdownDelay * 1000);
    try {
      await this.#running?.stop();
    } catch (error) {
      this.#parts.logger.error({ err: error }, 'the drain failed');
      orderly = false;
    }
    this.#metricsLog?.stop();
    // Last: balancers and operators see the drain to its end.
    await this.#admin?.close();
    return orderly;
  }

  #startMetricsLog(): MetricsLog | undefined {
    const { log } = this.#config.metrics;
    if (log === false) return undefined;
    const logger = this.#parts.logger.child({ logger: log.logger });
    const { intervalSeconds, level } = log;
    return metricsLog({ metrics: this.#parts.metrics, logger, clock: systemClock, intervalSeconds, level });
  }
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

interface StopRequests {
  readonly requested: Promise<string>;
  readonly request: (reason: string) => void;
}

function stopRequests(logger: ProcessLogger): StopRequests {
  const { promise, resolve } = Promise.withResolvers<string>();
  let asked = false;
  const onSignal = (signal: string): void => {
    if (asked) {
      logger.warn({ signal }, 'second signal: ending at once');
      process.exit(ExitCode.failed);
    }
    asked = true;
    resolve(signal);
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  return { requested: promise, request: resolve };
}

/** One reload at a time, in the order of the signals. */
function reloadRequests(
  service: Service,
  readAgain: () => Promise<LoadedConfig>,
  file: string | undefined,
  logger: ProcessLogger,
): { stop(): void } {
  let last = Promise.resolve();
  const reload = async (): Promise<void> => {
    try {
      const loaded = await readAgain();
      if (file !== undefined && loaded.file === undefined) {
        logger.error({ file }, 'not reloaded: the configuration file is gone, the old configuration stays');
        return;
      }
      for (const notice of [...loaded.notices, ...explain(loaded)]) logger.warn({}, notice);
      service.reload(loaded.config);
    } catch (error) {
      if (error instanceof ConfigError)
        logger.error({ faults: error.faults }, 'not reloaded: the configuration has faults, the old one stays');
      else logger.error({ err: error }, 'not reloaded: the old configuration stays');
    }
  };
  const onSignal = (): void => {
    last = last.then(reload);
  };
  process.on('SIGHUP', onSignal);
  // The listener stays: without one SIGHUP would end a process that drains.
  return {
    stop: () => {
      process.off('SIGHUP', onSignal);
      process.on('SIGHUP', () => undefined);
    },
  };
}

/** After a bug the state is unknown: say it and let the supervisor start anew. */
function endOnBug(logger: ProcessLogger): void {
  const end = (kind: string) => (error: unknown) => {
    logger.fatal({ err: error }, kind);
    process.exit(ExitCode.failed);
  };
  process.on('unhandledRejection', end('unhandled rejection'));
  process.on('uncaughtException', end('uncaught exception'));
  // Whoever started us may stop reading: no reason to end.
  process.stdout.on('error', () => undefined);
}
