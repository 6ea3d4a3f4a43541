import type { Clock } from '../../ports/clock.ts';
import type { LinkedWorker } from '../../ports/links.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { Key } from '../../protocol/keys.ts';
import type { Manifest } from '../../protocol/manifest.ts';
import type { UserResolver } from '../auth/user-resolver.ts';
import { Annotator } from '../relay/annotator.ts';
import type { UserSource } from '../relay/relay-context.ts';
import { TierResolver, type TierOptions } from '../tiers/tier-resolver.ts';
import { OriginPolicy } from './origin-policy.ts';

export interface KnowledgeOptions {
  readonly name: string;
  readonly tiers: TierOptions;
  /** Decide and count, annotate nothing. */
  readonly shadow: boolean;
  readonly origins: readonly string[];
  /** The source of users is the workers themselves. */
  readonly asksWorkers: boolean;
  /** Name of the session cookie; unset: the app's own. */
  readonly cookie: string | undefined;
}

const DJANGO_COOKIE = 'sessionid';

/** What follows from the configuration and the linked workers' manifests; made anew when either changes. */
export class WorkerKnowledge {
  readonly #parts: {
    clock: Clock;
    logger: Logger;
    metrics: Metrics;
    annotationKey: Key | undefined;
    users: UserResolver | undefined;
  };
  #options: KnowledgeOptions;
  #manifest: Manifest | undefined;
  #linked = false;
  tiers: TierResolver;
  /** undefined: no secret, no linked worker, or shadow mode. */
  annotator: Annotator | undefined;
  origins: OriginPolicy;

  constructor(
    options: KnowledgeOptions,
    parts: {
      clock: Clock;
      logger: Logger;
      metrics: Metrics;
      annotationKey: Key | undefined;
      users: UserResolver | undefined;
    },
  ) {
    this.#options = options;
    this.#parts = parts;
    this.tiers = this.#makeTiers();
    this.origins = new OriginPolicy(options.origins, []);
  }

  get manifest(): Manifest | undefined {
    return this.#manifest;
  }

  /** How users are found; undefined while nobody could tell, or no session cookie is known. */
  get users(): UserSource | undefined {
    const { users: resolver } = this.#parts;
    const cookie = this.#cookie;
    if (resolver === undefined || cookie === null || this.#options.shadow) return undefined;
    // Workers that cannot be asked leave only a source of the sidecar's own.
    if (this.#options.asksWorkers && this.#manifest?.auth !== true) return undefined;
    return { resolver, cookie };
  }

  /** A companion that answers for users also enforces the rules it is sent; an older one would not. */
  get workerEnforces(): boolean {
    return this.annotator !== undefined && this.#manifest?.auth === true;
  }

  /** The companion compares with the app's own cookie, so the configured name only stands in where no manifest tells. */
  get #cookie(): string | null {
    const fallback = this.#options.asksWorkers ? null : DJANGO_COOKIE;
    return this.#options.cookie ?? this.#manifest?.cookie ?? fallback;
  }

  configure(options: KnowledgeOptions): void {
    this.#options = options;
    this.#apply();
  }

  /** The youngest manifest counts: during a rollout that is the code to come. */
  workersChanged(workers: readonly LinkedWorker[]): void {
    const youngest = workers.reduce<LinkedWorker | undefined>(
      (best, worker) => (best === undefined || worker.since > best.since ? worker : best),
      undefined,
    );
    const before = this.#manifest;
    // Without a link nothing is annotated, but the names and tiers of handlers are still true.
    if (youngest !== undefined) this.#manifest = youngest.manifest;
    const linked = youngest !== undefined;
    // The same build may run with other settings: mode, cookie and origins are no part of it.
    if (before === this.#manifest && linked === this.#linked) return;
    this.#linked = linked;
    this.#apply();
  }

  #apply(): void {
    this.tiers = this.#makeTiers();
    this.origins = new OriginPolicy(this.#options.origins, this.#manifest?.corsOrigins ?? []);
    const { annotationKey: key, clock } = this.#parts;
    const active = this.#linked && key !== undefined && !this.#options.shadow;
    const cookie = this.#cookie;
    this.annotator = active ? new Annotator({ name: this.#options.name, key, clock, cookie }) : undefined;
  }

  #makeTiers(): TierResolver {
    const { metrics, logger } = this.#parts;
    const { tiers, shadow } = this.#options;
    // In shadow mode nobody is turned away.
    const rules = shadow ? tiers.rules.map(({ login: _login, ...rule }) => rule) : tiers.rules;
    return new TierResolver({ options: { ...tiers, rules }, manifest: this.#manifest, metrics, logger });
  }
}
