import type { Config } from '../config/index.ts';
import type { ShadowReports } from '../src/core/tiers/shadow-reports.ts';
import type { DoctorFacts } from '../src/ports/doctor.ts';
import type { LinkedWorker } from '../src/ports/links.ts';
import { VERSION } from './version.ts';

/** What the configuration in force, the linked workers and their reports say. */
export function doctorFacts(config: Config, workers: readonly LinkedWorker[], reports: ShadowReports): DoctorFacts {
  const { name, tiers, auth, redis } = config;
  const youngest = workers.reduce<LinkedWorker | undefined>(
    (best, worker) => (best === undefined || worker.since > best.since ? worker : best),
    undefined,
  );
  return {
    name,
    version: VERSION,
    shadow: tiers.shadow,
    secret: config.secret !== undefined,
    redis: redis.url !== undefined,
    authSource: auth.source,
    mode: tiers.mode,
    resolve: tiers.resolve !== undefined,
    rules: tiers.rules,
    workers: workers.map(({ manifest: { instance, host, versions, checks } }) => ({
      instance,
      host,
      versions,
      checks,
    })),
    app: youngest && {
      mode: youngest.manifest.mode,
      resolver: youngest.manifest.resolver,
      states: Object.fromEntries(youngest.manifest.states),
    },
    seen: reports.sum(),
  };
}
