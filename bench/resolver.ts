import { prometheusMetrics } from '../src/adapters/metrics/index.ts';
import { TierResolver } from '../src/core/tiers/tier-resolver.ts';
import { silentLogger } from '../src/ports/logger.ts';
import type { ResolvableSession, TierRule } from '../src/ports/tiers.ts';
import type { Manifest } from '../src/protocol/manifest.ts';
import type { Tier } from '../src/protocol/tier.ts';
import { atMost, rounded, type Bench, type BenchResult } from './lib/bench.ts';
import { median } from './lib/statistics.ts';

const RULES = 1_000;
const STATES = 400;
const HANDLERS = 20;
const TIERS: readonly Tier[] = ['none', 'auth_only', 'full'];

interface Event {
  readonly name: string;
  readonly path: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

const session: ResolvableSession = { address: '127.0.0.1', hasSessionCookie: true, header: () => undefined };

/** Of each kind as many as a large app might have: whole classes, modules, single handlers, inner wildcards, paths. */
function makeRules(): TierRule[] {
  return Array.from({ length: RULES }, (_, index): TierRule => {
    const tier = TIERS[index % 3];
    const state = `shop.module_${index % STATES}.State${index}`;
    switch (index % 10) {
      case 0:
        return { state: `shop.module_${index % STATES}.*`, handler: `save_${index}`, tier };
      case 1:
        return { handler: `handle_${index}`, tier };
      case 2:
        return { state: `shop.*_${index}.Form*`, tier };
      case 3:
        return { state, path: `/account/${index}/*`, tier };
      case 4:
        return { state: `shop.area_${index}*`, tier };
      default:
        return { state, handler: index % 2 === 0 ? 'load_*' : 'delete', tier };
    }
  });
}

function makeManifest(): Manifest {
  const states = Array.from({ length: STATES }, (_, index) => {
    const handlers = Array.from({ length: HANDLERS }, (__, serial) =>
      serial === 0 ? 'load_page' : `handle_${serial}`,
    );
    const facts = { class: `shop.module_${index}.State${index}`, tier: null, smart: 'full' as const, handlers };
    return [`reflex___state____state.shop___module_${index}____state${index}`, facts] as const;
  });
  return {
    name: undefined,
    instance: 'bench',
    pid: 1,
    host: 'bench',
    port: null,
    versions: {},
    build: '0123456789abcdef',
    mode: 'full',
    resolver: false,
    states: new Map(states),
    cookie: 'sessionid',
    loginUrl: '/login',
    corsOrigins: [],
    capacity: 0,
    sessions: false,
    maxPayload: 1_000_000,
    tokens: null,
    persistent: false,
    schema: null,
    auth: false,
    user: undefined,
    publishes: false,
    checks: [],
  };
}

function makeEvents(manifest: Manifest): Event[] {
  return [...manifest.states].flatMap(([state, { handlers }], index) =>
    handlers.map((handler) => ({ name: `${state}.${handler}`, path: `/account/${index}/orders`, payload: {} })),
  );
}

function toRegExp(glob: string | undefined): RegExp | undefined {
  return glob === undefined ? undefined : new RegExp(`^${glob.replaceAll('.', '\\.').replaceAll('*', '.*')}$`, 'su');
}

/** The plain way: one regular expression for each pattern, tried from the first rule on. */
function linearResolver(rules: readonly TierRule[], manifest: Manifest): (event: Event) => Tier {
  const compiled = rules.map(({ state, handler, path, tier }) => {
    const patterns = { state: toRegExp(state), handler: toRegExp(handler), path: toRegExp(path) };
    return { ...patterns, tier };
  });
  return ({ name, path }) => {
    const dot = name.lastIndexOf('.');
    const state = manifest.states.get(name.slice(0, dot))?.class ?? '';
    const handler = name.slice(dot + 1);
    for (const rule of compiled) {
      if (rule.state?.test(state) === false || rule.handler?.test(handler) === false) continue;
      if (rule.path?.test(path) === false || rule.tier === undefined) continue;
      return rule.tier;
    }
    return 'full';
  };
}

/** Microseconds for each call. */
function time(events: readonly Event[], decide: (event: Event) => unknown): number {
  const began = performance.now();
  for (const event of events) decide(event);
  return ((performance.now() - began) * 1000) / events.length;
}

export const resolver: Bench = {
  name: 'resolver',
  summary: `one tier decision with ${RULES} rules: a name seen before, a new name, and rule after rule`,
  run({ quick, say }): Promise<BenchResult> {
    const rounds = quick ? 10 : 40;
    const rules = makeRules();
    const manifest = makeManifest();
    const events = makeEvents(manifest);
    const few = events.filter((_, index) => index % 40 === 0);
    const linear = linearResolver(rules, manifest);
    const metrics = prometheusMetrics();
    const make = (known: Manifest | undefined): TierResolver => {
      const options = { mode: 'inherit', rules, resolve: undefined } as const;
      return new TierResolver({ options, manifest: known, metrics, logger: silentLogger });
    };
    const cases = {
      'name seen before': [] as number[],
      'new name': [] as number[],
      'new name, no worker linked': [] as number[],
      'rule after rule (peer)': [] as number[],
    };
    say(`${events.length} handlers, ${rounds} rounds`);
    // The first rounds compile the code.
    for (let round = -3; round < rounds; round++) {
      const linked = make(manifest);
      const unlinked = make(undefined);
      const one = {
        'new name': time(events, (event) => linked.decide(event, session)),
        'new name, no worker linked': time(events, (event) => unlinked.decide(event, session)),
        'name seen before': time(events, (event) => linked.decide(event, session)),
        'rule after rule (peer)': time(few, linear),
      };
      if (round < 0) continue;
      for (const name of Object.keys(cases) as (keyof typeof cases)[]) cases[name].push(one[name]);
    }
    return Promise.resolve(report(cases));
  },
};

function report(cases: Readonly<Record<string, readonly number[]>>): BenchResult {
  const value = (name: string): number => median(cases[name] ?? []);
  const seen = value('name seen before');
  const fresh = Math.max(value('new name'), value('new name, no worker linked'));
  return {
    figures: {
      rules: RULES,
      seen_microseconds: rounded(seen),
      new_microseconds: rounded(value('new name')),
      new_unlinked_microseconds: rounded(value('new name, no worker linked')),
      linear_microseconds: rounded(value('rule after rule (peer)')),
    },
    table: Object.entries(cases).map(([decision, times]) => ({
      decision,
      'us, p50 of rounds': median(times),
      'slowest round': Math.max(...times),
    })),
    targets: { seen_microseconds: atMost(seen, 5), new_microseconds: atMost(fresh, 5) },
  };
}
