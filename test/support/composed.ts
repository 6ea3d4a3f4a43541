import { configSchema, type ConfigInput } from '../../config/schema.ts';
import { compose, type Running } from '../../sidecar/compose.ts';
import { makeLogger } from '../../sidecar/logger.ts';
import { Figures } from '../../src/adapters/metrics/figures.ts';
import { systemClock, type Clock } from '../../src/ports/clock.ts';
import { ManualClock } from './manual-clock.ts';

export interface Composed {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  readonly port: number;
  readonly running: Running;
  readonly metrics: Figures;
  /** Every line written so far. */
  log(): string;
  stop(): Promise<void>;
}

const lines: string[] = [];

/** The lines of all sidecars that this file composed, for the scan at its end. */
export function everyLogLine(): string {
  return lines.join('');
}

/** A sidecar in this process, built as `serve` builds it, with its listeners on free ports and the log kept. */
export async function startComposed(config: ConfigInput, options: { clock?: Clock } = {}): Promise<Composed> {
  const own: string[] = [];
  const destination = {
    write: (line: string): void => {
      own.push(line);
      lines.push(line);
    },
  };
  const logger = await makeLogger({ level: 'debug', pretty: false, destination });
  const metrics = new Figures();
  const any = '127.0.0.1:0';
  const parsed = configSchema.parse({ listen: any, ...config, link: { listen: any, ...config.link } });
  const clock = options.clock ?? systemClock;
  const running = await compose(parsed, { logger, metrics, clock, onDrainRequested: () => undefined });
  const url = running.addresses.listen;
  return {
    url,
    port: Number(new URL(url).port),
    running,
    metrics,
    log: () => own.join(''),
    stop: () => stopped(running, clock),
  };
}

/** A drain waits by the clock: one that a test holds must move on, or it would wait for ever. */
async function stopped(running: Running, clock: Clock): Promise<void> {
  const moving = clock instanceof ManualClock ? setInterval(() => clock.advance(100), 1) : undefined;
  await running.stop();
  clearInterval(moving);
}
