import type { Config } from '../config/index.ts';
import type { AuthSource, Invalidation } from '../src/ports/auth.ts';
import type { Clock } from '../src/ports/clock.ts';
import type { LinkServer } from '../src/ports/links.ts';
import type { Logger } from '../src/ports/logger.ts';
import type { TierRule } from '../src/ports/tiers.ts';
import type { UserModelFacts } from '../src/protocol/manifest.ts';

/** A source, and what it wants to know and do besides answering. */
export interface ComposedSource extends AuthSource {
  invalidated?(what: Invalidation): void;
  /** A worker tells what the app's user model is. True where answers made before say nothing any more. */
  learned?(facts: UserModelFacts): boolean;
  close?(): Promise<void>;
}

export interface SourceParts {
  readonly clock: Clock;
  readonly logger: Logger;
  /** The permissions that the rules in force name. */
  readonly permissions: () => readonly string[];
}

/** The permissions that access rules name: whoever answers for a user says which of them it has. */
export function permissionsOf(rules: readonly TierRule[]): string[] {
  const named = rules.flatMap(({ login }) => (typeof login === 'object' ? [login.permission] : []));
  return [...new Set(named)];
}

/** Who says which user a session belongs to. Throws where the configuration lacks what the source needs. */
export async function composeSource(
  config: Config,
  links: LinkServer | undefined,
  parts: SourceParts,
): Promise<ComposedSource | undefined> {
  switch (config.auth.source) {
    case 'none':
      return undefined;
    case 'companion':
      return links;
    case 'django-db':
      return composeDjangoDb(config, parts);
  }
}

/** `pg` is loaded where it is used: a start without it does not pay for it. */
async function composeDjangoDb(config: Config, parts: SourceParts): Promise<ComposedSource> {
  const { secretKey, secretKeyFallbacks, userModel, userTable, sessionTable, backends } = config.auth.django;
  const { url, replicaUrl } = config.database;
  if (secretKey === undefined)
    throw new Error("auth.source django-db: set auth.django.secretKey to Django's SECRET_KEY");
  if (url === undefined) throw new Error('auth.source django-db: set database.url, or DATABASE_URL in the environment');
  const { databasePool } = await import('../src/adapters/auth/database-pool.ts');
  const { djangoDbSource } = await import('../src/adapters/auth/django-db.ts');
  const pool = databasePool(url, parts.logger);
  const replica = replicaUrl === undefined ? undefined : databasePool(replicaUrl, parts.logger);
  const source = djangoDbSource({
    ...parts,
    pool,
    replica,
    settings: {
      secretKeys: [secretKey, ...secretKeyFallbacks],
      userModel,
      sessionTable,
      backends,
      ...(userTable !== undefined && { userTable }),
    },
  });
  return {
    resolve: (cookie, signal) => source.resolve(cookie, signal),
    invalidated: (what) => source.invalidated(what),
    learned: (facts) => source.learned(facts),
    close: async () => {
      await pool.end();
      await replica?.end();
    },
  };
}
