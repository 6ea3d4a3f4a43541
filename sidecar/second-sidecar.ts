import type { Clock, Timer } from '../src/ports/clock.ts';
import type { LinkServer } from '../src/ports/links.ts';
import type { Logger } from '../src/ports/logger.ts';

/** Workers tell every 5 s how many sidecars they are linked with. Milliseconds. */
const LOOK = 5_000;

/**
 * Says once where the deployment has another sidecar, which hears nothing of what goes over the memory of this one: only the workers know
 * them all. Returns what ends the watch.
 */
export function watchForSecondSidecar(links: LinkServer, parts: { clock: Clock; logger: Logger }): () => void {
  const timer: Timer = parts.clock.setInterval(() => {
    const most = Math.max(0, ...links.workers.map(({ load }) => load.links));
    if (most < 2) return;
    timer.cancel();
    parts.logger.warn(
      { sidecars: most },
      'live.bus is memory, and this deployment has several sidecars: changes reach the sessions of one alone; set live.bus to redis or postgres',
    );
  }, LOOK);
  return () => timer.cancel();
}
