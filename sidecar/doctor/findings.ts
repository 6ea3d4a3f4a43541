import type { DoctorFacts } from '../../src/ports/doctor.ts';

/** Something to do, beside the rules. */
export interface Finding {
  readonly id: string;
  readonly text: string;
}

/** What keeps the sidecar from being as useful as it could be, most important first. */
export function findings(facts: DoctorFacts): Finding[] {
  return [...secrets(facts), ...links(facts), ...checks(facts), ...shadow(facts), ...scale(facts)];
}

function* secrets({ secret }: DoctorFacts): Generator<Finding> {
  if (secret) return;
  yield {
    id: 'secret',
    text: 'There is no secret, so that no worker can link: set BRIDGEHEAD_SECRET to the same 32 bytes or more here and in the workers (openssl rand -base64 48).',
  };
}

function* links({ secret, workers }: DoctorFacts): Generator<Finding> {
  if (!secret || workers.length > 0) return;
  yield {
    id: 'companion',
    text: 'No worker is linked: tiers are observed only. Put BridgeheadPlugin() behind ReflexDjangoPlugin in rxconfig.py, and set BRIDGEHEAD_LINK_URL and BRIDGEHEAD_SECRET in the workers. Without the companion reflex 0.10 also ignores _rx_bridge on classes, so that every event runs in tier full.',
  };
}

/** The companion's own checks; workers with the same settings say the same. */
function* checks({ workers, authSource }: DoctorFacts): Generator<Finding> {
  const known = new Map(workers.flatMap((worker) => worker.checks).map((check) => [check.id, check]));
  for (const { id, message, hint } of known.values()) yield { id, text: `${message} ${hint}` };
  if (authSource === 'none' && workers.length > 0) {
    yield {
      id: 'auth-source',
      text: 'auth.source is none: every event of tiers auth_only and full asks Django for its session and user again. Set auth.source to companion.',
    };
  }
}

function* shadow(facts: DoctorFacts): Generator<Finding> {
  const { seen, workers, resolve } = facts;
  if (seen.handlers.length === 0) {
    if (!facts.shadow) {
      yield {
        id: 'shadow-off',
        text: 'Nothing was recorded: set tiers.shadow to true (it decides nothing and refuses nobody), reload with SIGHUP, let real traffic pass, and ask again.',
      };
    } else if (workers.length > 0) {
      yield {
        id: 'nothing-seen',
        text: 'tiers.shadow is on and nothing was seen yet: workers tell every 2 s what Django apps do; let traffic pass and ask again.',
      };
    }
  }
  if (facts.shadow && resolve) {
    yield {
      id: 'resolve',
      text: 'tiers.resolve decides in the sidecar alone: what it would choose is not judged here, its events count as full, and it goes before all rules.',
    };
  }
  if (seen.handlers.some(({ state }) => state === 'other')) {
    yield {
      id: 'too-many-handlers',
      text: 'A worker saw more handlers than it keeps apart: those beyond are summed up as other, and no rule is advised for them.',
    };
  }
}

function* scale({ redis, workers }: DoctorFacts): Generator<Finding> {
  if (redis || workers.length < 2) return;
  yield {
    id: 'redis',
    text: `${workers.length} workers are linked and the sidecar has no Redis: Reflex needs one to share its state between workers, and several sidecars to share users, limits and invalidations. Set REDIS_URL here and in the workers.`,
  };
}
