import type { HandlerMeter, Metrics } from '../../ports/metrics.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Access, ResolveFunction, ResolvableSession, TierMode, TierRule } from '../../ports/tiers.ts';
import type { Manifest, ManifestState } from '../../protocol/manifest.ts';
import type { ReflexEvent } from '../../protocol/reflex-event.ts';
import { isTier, raiseTier, type Tier } from '../../protocol/tier.ts';
import { guessStateClass, splitEventName } from './event-name.ts';
import { Memory } from './memory.ts';
import { RuleTable, type RuleMatch } from './rule-table.ts';

export interface TierOptions {
  readonly mode: TierMode;
  readonly rules: readonly TierRule[];
  readonly resolve: ResolveFunction | undefined;
}

/** What said so. `app`: the app's own resolver will, in the worker. */
export type TierSource = 'resolve' | 'rule' | 'app' | 'class' | 'mode';

export interface Decision {
  /** `worker`: left to the app's own resolver. */
  readonly tier: Tier | 'worker';
  readonly source: TierSource;
  /** What the rules ask of the user, all of it. */
  readonly access: readonly Access[];
  /** Whether the manifest has the state. Where it has not, its class is guessed and the rest with it. */
  readonly known: boolean;
  /** A rule says that it may run twice. */
  readonly retry: boolean;
  readonly meter: HandlerMeter;
}

/** What is known of a name, whatever event carries it. */
interface NamedHandler {
  readonly stateClass: string;
  readonly handler: string;
  readonly upload: boolean;
  readonly known: boolean;
  readonly base: { readonly tier: Tier | 'worker'; readonly source: TierSource };
  readonly access: readonly Access[];
  readonly retry: boolean;
  readonly withPath: RuleMatch['withPath'];
  readonly meter: HandlerMeter;
}

const MAX_NAMES = 10_000;
/** Names longer than this are no handler's, and are looked up by their beginning. Characters. */
const MAX_NAME_LENGTH = 2_048;
const MAX_FAULTY = 1_000;
const OTHER = 'other';

export interface TierResolverParts {
  readonly options: TierOptions;
  /** undefined: no linked worker told of itself. */
  readonly manifest: Pick<Manifest, 'mode' | 'resolver' | 'states'> | undefined;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** Decides an event's tier (docs/PROTOCOL.md, "Rules"). Immutable: a reload or another manifest makes a new one. */
export class TierResolver {
  readonly #table: RuleTable;
  /** For states that the manifest lacks: it is a younger worker's, or an older one's state is gone from it. */
  readonly #guesses: RuleTable;
  readonly #parts: TierResolverParts;
  readonly #names = new Memory<NamedHandler>(MAX_NAMES);
  /** Classes of states that the manifest lacks, by the states' names. */
  readonly #guessed = new Memory<string>(MAX_NAMES);
  readonly #faulty = new Set<string>();

  constructor(parts: TierResolverParts) {
    this.#parts = parts;
    this.#table = new RuleTable(parts.options.rules, { loose: false });
    this.#guesses = new RuleTable(parts.options.rules, { loose: true });
  }

  decide(event: Pick<ReflexEvent, 'name' | 'path' | 'payload'>, session: ResolvableSession): Decision {
    const named = this.#named(event.name);
    const { resolve } = this.#parts.options;
    const resolved = resolve === undefined ? undefined : this.#resolve(resolve, named, event, session);
    const source = resolved === undefined ? named.base.source : 'resolve';
    const tier = this.#raise(resolved ?? named.base.tier, named, event.path);
    const { known, retry, meter } = named;
    return { tier, source, access: accessOn(named, event.path), known, retry, meter };
  }

  #raise(tier: Tier | 'worker', named: NamedHandler, path: string): Tier | 'worker' {
    let raised = tier;
    for (const { path: glob, rule } of named.withPath) {
      if (rule.tier === undefined || !glob.matches(path)) continue;
      if (raised !== 'worker') raised = raiseTier(raised, rule.tier);
      // The worker's answer is not known here: only the highest tier is certain not to lower it.
      else if (rule.tier === 'full') raised = 'full';
    }
    return raised !== 'worker' && named.upload ? raiseTier(raised, 'auth_only') : raised;
  }

  #resolve(
    resolve: ResolveFunction,
    named: NamedHandler,
    event: Pick<ReflexEvent, 'name' | 'path' | 'payload'>,
    session: ResolvableSession,
  ): Tier | undefined {
    const { name, path, payload } = event;
    const { stateClass: state, handler, upload } = named;
    let value: unknown;
    try {
      value = resolve({ name, state, handler, path, upload, payload }, session);
    } catch (cause) {
      return this.#fault(`${state}.${handler}`, cause instanceof Error ? cause.name : 'a thrown value');
    }
    if (value === undefined || isTier(value)) return value;
    if (isThenable(value)) {
      // Nobody waits for it, and nobody else would hear that it failed: that would end the process.
      void Promise.resolve(value).catch(() => undefined);
      return this.#fault(`${state}.${handler}`, 'a promise; it must answer at once');
    }
    return this.#fault(`${state}.${handler}`, `a result of type ${typeof value} that is no tier`);
  }

  /** A resolver that fails must not open a door: everything Django has runs. The event's values are not logged. */
  #fault(handler: string, fault: string): Tier {
    this.#parts.metrics.resolverError();
    if (!this.#faulty.has(handler) && this.#faulty.size < MAX_FAULTY) {
      this.#faulty.add(handler);
      this.#parts.logger.warn({ handler, fault }, 'resolve failed; the tier is full (logged once for each handler)');
    }
    return 'full';
  }

  #named(name: string): NamedHandler {
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    const named = this.#lookUp(name.slice(0, MAX_NAME_LENGTH));
    if (name.length > MAX_NAME_LENGTH) return named;
    return this.#names.keep(name, named);
  }

  #lookUp(name: string): NamedHandler {
    const { stateName, handler } = splitEventName(name);
    const state = this.#parts.manifest?.states.get(stateName);
    const stateClass =
      state?.class ?? this.#guessed.get(stateName) ?? this.#guessed.keep(stateName, guessStateClass(stateName));
    const table = state === undefined ? this.#guesses : this.#table;
    const { first, withPath } = table.match(stateClass, handler);
    const isHandler = state?.handlers.includes(handler) ?? false;
    return {
      stateClass,
      handler,
      upload: /upload/i.test(name),
      known: state !== undefined,
      base: first?.tier === undefined ? this.#withoutRule(state) : { tier: first.tier, source: 'rule' },
      access: first?.login === undefined ? [] : [first.login],
      retry: first?.retry === 'safe',
      withPath,
      meter: isHandler ? this.#parts.metrics.handler(stateClass, handler) : this.#parts.metrics.handler(OTHER, OTHER),
    };
  }

  #withoutRule(state: ManifestState | undefined): NamedHandler['base'] {
    const { manifest, options } = this.#parts;
    if (manifest?.resolver === true) return { tier: 'worker', source: 'app' };
    if (state !== undefined && state.tier !== null) return { tier: state.tier, source: 'class' };
    const mode = options.mode === 'inherit' ? (manifest?.mode ?? 'full') : options.mode;
    if (mode === 'smart') return { tier: state?.smart ?? 'full', source: 'mode' };
    return { tier: mode, source: 'mode' };
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value;
}

/** A rule with a path adds to what is asked on that page; it never takes anything away. */
function accessOn({ access, withPath }: NamedHandler, path: string): readonly Access[] {
  if (withPath.length === 0) return access;
  const added = withPath.filter(({ path: glob, rule }) => rule.login !== undefined && glob.matches(path));
  return [...access, ...added.map(({ rule }) => rule.login as Access)];
}
