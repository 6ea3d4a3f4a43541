import { Figures } from '../../src/adapters/metrics/figures.ts';
import { RuleTable } from '../../src/core/tiers/rule-table.ts';
import { TierResolver } from '../../src/core/tiers/tier-resolver.ts';
import type { DoctorFacts } from '../../src/ports/doctor.ts';
import { silentLogger } from '../../src/ports/logger.ts';
import type { ResolvableSession, TierRule } from '../../src/ports/tiers.ts';
import type { Manifest } from '../../src/protocol/manifest.ts';
import type { ShadowHandler } from '../../src/protocol/shadow-report.ts';
import { raiseTier, type Tier } from '../../src/protocol/tier.ts';

/** A handler whose tier the advice is about. */
interface Seen {
  readonly class: string;
  readonly handler: string;
  /** An event's full name. */
  readonly name: string;
  lowest: Tier;
  events: number;
  /** The tiers it ran in. In `none` there is nothing to see. */
  readonly now: Set<Tier>;
}

/** What a rule says beside the tier: it is not for us to change. */
type Rest = Omit<TierRule, 'state' | 'handler' | 'path' | 'tier'>;

/** A rule to paste, and how many events speak for it. */
export interface AdvisedRule {
  readonly rule: TierRule;
  /** undefined: it stood in the configuration before. */
  readonly events: number | undefined;
}

/** The configuration takes no longer globs. Characters. */
const MAX_GLOB = 500;
const NOBODY: ResolvableSession = { address: '', hasSessionCookie: false, header: () => undefined };

/**
 * The rules that give every handler seen the lowest tier that was right for all its events: a whole `tiers.rules`. Handlers that
 * were not seen keep what they have; what rules ask of users stays as it was; rules with a path stay, since they only raise.
 */
export function advisedRules(facts: DoctorFacts): AdvisedRule[] {
  const seen = seenHandlers(facts);
  const { kept, restOf } = keptRules(facts, seen);
  const decide = decider(facts, kept);
  const fitsAlready = ({ name, lowest, now }: Seen): boolean => {
    const tier = decide(name);
    return tier === 'worker' ? [...now].every((ran) => ran === lowest) : tier === lowest;
  };
  const wanting = seen.filter((one) => !fitsAlready(one) && [...one.now].some((ran) => ran !== 'none'));
  const handlerRules: AdvisedRule[] = [];
  const stateRules: AdvisedRule[] = [];
  for (const [stateClass, group] of Map.groupBy(wanting, (one) => one.class)) {
    const all = seen.filter((one) => one.class === stateClass);
    const events = (ones: readonly Seen[]): number => ones.reduce((sum, one) => sum + one.events, 0);
    const [first] = group;
    const agrees = (one: Seen): boolean =>
      JSON.stringify([one.lowest, restOf(one)]) === JSON.stringify([first?.lowest, restOf(first)]) &&
      (group.includes(one) || fitsAlready(one));
    if (first !== undefined && all.every(agrees) && isWhole(facts, stateClass, all)) {
      const rule = { state: stateClass, tier: first.lowest, ...restOf(first) };
      stateRules.push({ rule, events: events(all) });
      continue;
    }
    for (const one of group) {
      const rule = { state: stateClass, handler: one.handler, tier: one.lowest, ...restOf(one) };
      handlerRules.push({ rule, events: one.events });
    }
  }
  return [...handlerRules, ...stateRules, ...kept.map((one) => ({ rule: one, events: undefined }))];
}

/** By class and handler: states made at run time may share a class, and a rule can only name that. */
function seenHandlers({ seen, app }: DoctorFacts): Seen[] {
  const found = new Map<string, Seen>();
  for (const one of seen.handlers) {
    const stateClass = app?.states[one.state]?.class ?? one.class;
    const { handler, lowest, events } = one;
    if (![stateClass, handler].every((text) => text !== '' && text.length <= MAX_GLOB && !/[*?]/.test(text))) continue;
    // What the worker had no room for.
    if (one.state === 'other') continue;
    const key = `${stateClass} ${handler}`;
    const known = found.get(key) ?? {
      class: stateClass,
      handler,
      name: `${one.state}.${handler}`,
      lowest: 'none',
      events: 0,
      now: new Set<Tier>(),
    };
    known.lowest = raiseTier(known.lowest, lowest);
    known.events += events;
    for (const { now } of one.cells) known.now.add(now);
    found.set(key, known);
  }
  return [...found.values()].toSorted((a, b) => compare(a.class, b.class) || compare(a.handler, b.handler));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The configured rules without the tiers that were wrong, and what they say besides. */
function keptRules(
  { rules, seen }: DoctorFacts,
  handlers: readonly Seen[],
): { kept: TierRule[]; restOf: (one: Seen | undefined) => Rest } {
  const table = new RuleTable(rules, { loose: false });
  const wrongNames = new Set(
    seen.handlers.filter(({ wrong }) => wrong.some(isOfRule)).map(({ state, handler }) => `${state}.${handler}`),
  );
  const faulty = new Set(
    handlers.filter(({ name }) => wrongNames.has(name)).map((one) => table.match(one.class, one.handler).first),
  );
  const kept = rules.flatMap((one) => {
    if (!faulty.has(one)) return [one];
    const { tier: _tier, ...untiered } = one;
    return Object.keys(restOfRule(one)).length === 0 ? [] : [untiered];
  });
  return { kept, restOf: (one) => (one === undefined ? {} : restOfRule(table.match(one.class, one.handler).first)) };
}

function restOfRule(rule: TierRule | undefined): Rest {
  const { state: _state, handler: _handler, path: _path, tier: _tier, ...rest } = rule ?? {};
  return rest;
}

function isOfRule({ source }: { readonly source: string }): boolean {
  return source === 'rule';
}

/** What the rules give a handler, on whatever page and without a function; `worker`: the app's own resolver decides. */
function decider(facts: DoctorFacts, rules: readonly TierRule[]): (name: string) => Tier | 'worker' {
  const options = { mode: facts.mode, rules: rules.filter(({ path }) => path === undefined), resolve: undefined };
  const resolver = new TierResolver({
    options,
    manifest: facts.app && manifestOf(facts.app),
    metrics: new Figures(),
    logger: silentLogger,
  });
  return (name) => resolver.decide({ name, path: '', payload: {} }, NOBODY).tier;
}

function manifestOf({
  mode,
  resolver,
  states,
}: NonNullable<DoctorFacts['app']>): Pick<Manifest, 'mode' | 'resolver' | 'states'> {
  return { mode, resolver, states: new Map(Object.entries(states)) };
}

/** Whether every handler that the class has was seen. */
function isWhole({ app }: DoctorFacts, stateClass: string, seen: readonly Seen[]): boolean {
  const states = Object.values(app?.states ?? {}).filter((state) => state.class === stateClass);
  const names = new Set(seen.map(({ handler }) => handler));
  return states.length > 0 && states.every(({ handlers }) => handlers.every((handler) => names.has(handler)));
}

/** Which configured rule decides for a handler; undefined: none, or none that is not about a page. */
export function ruleFor(
  { rules, app }: DoctorFacts,
  { state, class: told, handler }: ShadowHandler,
): number | undefined {
  const { first } = new RuleTable(rules, { loose: false }).match(app?.states[state]?.class ?? told, handler);
  return first === undefined ? undefined : rules.indexOf(first);
}
