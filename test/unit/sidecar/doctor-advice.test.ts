import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { configSchema } from '../../../config/schema.ts';
import { advisedRules } from '../../../sidecar/doctor/advice.ts';
import { diagnose } from '../../../sidecar/doctor/diagnosis.ts';
import { Figures } from '../../../src/adapters/metrics/figures.ts';
import { TierResolver } from '../../../src/core/tiers/tier-resolver.ts';
import { silentLogger, type DoctorFacts, type TierRule } from '../../../src/ports/index.ts';
import { readManifest, type ManifestState } from '../../../src/protocol/manifest.ts';
import type { ShadowHandler } from '../../../src/protocol/shadow-report.ts';
import { raiseTier, TIERS, type Tier } from '../../../src/protocol/tier.ts';
import { MANIFEST } from '../../support/link-client.ts';

const SESSION = { address: '', hasSessionCookie: false, header: () => undefined };
const RANK = { none: 0, auth_only: 1, full: 2 } as const;

interface Event {
  readonly state: string;
  readonly handler: string;
  readonly now: Tier;
  readonly needed: Tier;
}

function stateOf({ app }: DoctorFacts, name: string): ManifestState | undefined {
  return app?.states[name];
}

function deciding(facts: DoctorFacts, rules: readonly TierRule[]): (event: Event) => Tier | 'worker' {
  const app = facts.app as NonNullable<DoctorFacts['app']>;
  const manifest = readManifest({ ...MANIFEST, ...app });
  const options = { mode: facts.mode, rules, resolve: undefined };
  const resolver = new TierResolver({ options, manifest, metrics: new Figures(), logger: silentLogger });
  return ({ state, handler }) =>
    resolver.decide({ name: `${state}.${handler}`, path: '/nowhere', payload: {} }, SESSION).tier;
}

/** What workers would report of these events while `rules` are a shadow. */
function observe(facts: DoctorFacts, rules: readonly TierRule[], events: readonly Event[]): DoctorFacts {
  const decide = deciding(facts, rules);
  const handlers = new Map<string, ShadowHandler>();
  for (const event of events) {
    const { state, handler, now } = event;
    const decided = decide(event);
    const would = decided === 'worker' ? now : decided;
    const lowest = RANK[event.needed] < RANK[now] ? event.needed : now;
    const name = `${state}.${handler}`;
    const known = handlers.get(name);
    const isWrong = RANK[would] < RANK[lowest];
    handlers.set(name, {
      state,
      class: facts.app?.states[state]?.class ?? '',
      handler,
      events: (known?.events ?? 0) + 1,
      lowest: raiseTier(known?.lowest ?? 'none', lowest),
      cells: [...(known?.cells ?? []), { now, would, events: 1, queries: 2, bridgeMs: 1, ms: 2 }],
      needs: {},
      wrong: [...(known?.wrong ?? []), ...(isWrong ? [{ would, source: 'rule', missing: ['user'], events: 1 }] : [])],
    });
  }
  return { ...facts, rules, seen: { since: 1, workers: 1, handlers: [...handlers.values()] } };
}

function factsOf(states: Readonly<Record<string, ManifestState>>, changes: Partial<DoctorFacts> = {}): DoctorFacts {
  return {
    name: 'shop',
    version: '1',
    shadow: true,
    secret: true,
    redis: true,
    authSource: 'companion',
    mode: 'inherit',
    resolve: false,
    rules: [],
    workers: [],
    app: { mode: 'full', resolver: false, states },
    seen: { since: undefined, workers: 0, handlers: [] },
    ...changes,
  };
}

const tier = fc.constantFrom(...TIERS);
const names = ['load', 'save', 'set_name', 'handle_upload'];
const manifestState = (name: string): fc.Arbitrary<ManifestState> =>
  fc.record({
    class: fc.constant(`shop.${name}.${name}State`),
    tier: fc.option(tier),
    smart: tier,
    handlers: fc.shuffledSubarray(names, { minLength: 1 }),
  });
/** The last is of the first one's class: such states are made at run time. */
const states = fc
  .record({ 'root.a': manifestState('a'), 'root.b': manifestState('b'), 'root.c': manifestState('c') })
  .map((made) => ({ ...made, 'root.again': made['root.a'] }));
const rule: fc.Arbitrary<TierRule> = fc.record(
  {
    state: fc.constantFrom('shop.*', 'shop.a.*', 'shop.b.bState', 'shop.c.c*'),
    handler: fc.constantFrom('load', 'sa*', 'set_*', '*'),
    tier,
    login: fc.constantFrom('required' as const, 'staff' as const),
  },
  { requiredKeys: ['tier'] },
);

const scenario = fc
  .record({
    states,
    mode: fc.constantFrom('inherit' as const, 'full' as const, 'smart' as const, 'none' as const),
    appMode: fc.constantFrom('full' as const, 'smart' as const, 'none' as const),
    resolver: fc.boolean(),
    rules: fc.array(rule, { maxLength: 5 }),
  })
  .chain(({ states: made, ...rest }) => {
    const handlers = Object.entries(made).flatMap(([state, one]) =>
      one.handlers.map((handler) => ({ state, handler })),
    );
    const event = fc
      .record({ at: fc.constantFrom(...handlers), now: tier, needed: tier })
      // Uploads always have a user at hand.
      .map(({ at, now, needed }): Event => {
        const least: Tier = at.handler.includes('upload') ? 'auth_only' : 'none';
        return { ...at, now: raiseTier(now, least), needed: raiseTier(needed, least) };
      });
    return fc.record({
      facts: fc.constant(
        factsOf(made, { mode: rest.mode, app: { mode: rest.appMode, resolver: rest.resolver, states: made } }),
      ),
      rules: fc.constant(rest.rules),
      events: fc.array(event, { maxLength: 40 }),
    });
  });

describe('the advised rules', () => {
  it('give each handler seen exactly its lowest right tier, and the same events are then all right', () => {
    fc.assert(
      fc.property(scenario, ({ facts, rules, events }) => {
        const seen = observe(facts, rules, events);
        const advised = advisedRules(seen).map((one) => one.rule);
        const decide = deciding(facts, advised);
        for (const { state, handler } of seen.seen.handlers) {
          // One rule holds for all states of a class.
          const ones = seen.seen.handlers.filter(
            (one) => one.handler === handler && stateOf(facts, one.state)?.class === stateOf(facts, state)?.class,
          );
          const cells = ones.flatMap((one) => one.cells);
          const lowest = ones.reduce<Tier>((highest, one) => raiseTier(highest, one.lowest), 'none');
          const decided = decide({ state, handler, now: 'full', needed: 'full' });
          // In none nothing could be seen: such a handler keeps what it has, if that is not known to be wrong.
          if (cells.every(({ now }) => now === 'none')) continue;
          if (decided === 'worker') expect(cells.map(({ now }) => now)).toEqual(cells.map(() => lowest));
          else expect([state, handler, decided]).toEqual([state, handler, lowest]);
        }
        expect(diagnose(observe(facts, advised, events))).toMatchObject({ ok: true, wrong: 0 });
      }),
    );
  });

  it('are valid for the configuration, in both notations, and say the same', () => {
    fc.assert(
      fc.property(scenario, ({ facts, rules, events }) => {
        const { advised } = diagnose(observe(facts, rules, events));
        const inYaml = (parse(advised.yaml) as { tiers: { rules: TierRule[] } }).tiers.rules;
        const inTypeScript = runInNewContext(`({ ${advised.typescript} })`) as { tiers: { rules: TierRule[] } };
        expect(inYaml).toEqual(advised.rules);
        expect(JSON.stringify(inTypeScript.tiers.rules)).toBe(JSON.stringify(advised.rules));
        expect(configSchema.parse({ tiers: { rules: advised.rules } }).tiers.rules).toEqual(advised.rules);
      }),
    );
  });

  it('leave every handler that was not seen as it is, where no rule was wrong', () => {
    fc.assert(
      fc.property(scenario, ({ facts, rules, events }) => {
        const seen = observe(facts, rules, events);
        fc.pre(seen.seen.handlers.every(({ wrong }) => wrong.length === 0));
        const advised = advisedRules(seen).map((one) => one.rule);
        const [before, after] = [deciding(facts, rules), deciding(facts, advised)];
        const known = new Set(
          seen.seen.handlers.map(({ state, handler }) => `${stateOf(facts, state)?.class}.${handler}`),
        );
        for (const [state, { class: stateClass, handlers }] of Object.entries(facts.app?.states ?? {})) {
          for (const handler of handlers.filter((one) => !known.has(`${stateClass}.${one}`))) {
            const event: Event = { state, handler, now: 'full', needed: 'full' };
            expect([state, handler, after(event)]).toEqual([state, handler, before(event)]);
          }
        }
      }),
    );
  });

  it('never ask less of a user than before', () => {
    fc.assert(
      fc.property(scenario, ({ facts, rules, events }) => {
        const access = (table: readonly TierRule[], name: string): unknown => {
          const app = facts.app as NonNullable<DoctorFacts['app']>;
          const manifest = readManifest({ ...MANIFEST, ...app });
          const options = { mode: facts.mode, rules: table, resolve: undefined };
          const resolver = new TierResolver({ options, manifest, metrics: new Figures(), logger: silentLogger });
          return resolver.decide({ name, path: '', payload: {} }, SESSION).access;
        };
        const advised = advisedRules(observe(facts, rules, events)).map((one) => one.rule);
        for (const [state, { handlers }] of Object.entries(facts.app?.states ?? {})) {
          for (const handler of handlers) {
            const name = `${state}.${handler}`;
            const [before, after] = [access(rules, name), access(advised, name)];
            // Where a rule that was wrong is gone, one behind it may ask for more.
            if ((before as unknown[]).length > 0) expect([name, after]).toEqual([name, before]);
          }
        }
      }),
    );
  });

  const cart = { class: 'shop.cart.Cart', tier: null, smart: 'none', handlers: ['add', 'clear'] } as const;
  const order = { class: 'shop.order.Order', tier: null, smart: 'none', handlers: ['note', 'place'] } as const;
  const facts = factsOf({ 'root.cart': cart, 'root.order': order });
  const add: Event = { state: 'root.cart', handler: 'add', now: 'full', needed: 'none' };
  const clear: Event = { ...add, handler: 'clear' };
  const note: Event = { state: 'root.order', handler: 'note', now: 'full', needed: 'none' };
  const place: Event = { ...note, handler: 'place', needed: 'auth_only' };
  const rulesFor = (rules: readonly TierRule[], ...events: Event[]): TierRule[] =>
    advisedRules(observe(facts, rules, events)).map((one) => one.rule);

  it('name a state where all of its handlers were seen and agree, else each handler, the most specific first', () => {
    expect(rulesFor([], add, clear, note, place)).toEqual([
      { state: 'shop.order.Order', handler: 'note', tier: 'none' },
      { state: 'shop.order.Order', handler: 'place', tier: 'auth_only' },
      { state: 'shop.cart.Cart', tier: 'none' },
    ]);
    expect(rulesFor([], add)).toEqual([{ state: 'shop.cart.Cart', handler: 'add', tier: 'none' }]);
  });

  it('leave a rule out that was wrong, but keep what it asks of users', () => {
    const wrong = { state: 'shop.order.*', tier: 'none' } as const;
    const other = { state: 'shop.cart.*', tier: 'auth_only' } as const;
    expect(rulesFor([wrong, other], place)).toEqual([
      { state: 'shop.order.Order', handler: 'place', tier: 'auth_only' },
      other,
    ]);
    expect(rulesFor([{ ...wrong, login: 'staff' }], place)).toEqual([
      { state: 'shop.order.Order', handler: 'place', tier: 'auth_only', login: 'staff' },
      { state: 'shop.order.*', login: 'staff' },
    ]);
  });

  it('are those in force where they are right, rules with a path among them', () => {
    const rules: TierRule[] = [
      { state: 'shop.cart.*', tier: 'none' },
      { state: 'shop.cart.*', path: '/pay*', tier: 'full' },
    ];
    expect(rulesFor(rules, add, clear)).toEqual(rules);
    expect(diagnose(observe(facts, rules, [add])).advised.changed).toBe(false);
  });

  it('say nothing of a handler that only ran in none, where nothing can be seen', () => {
    const raised: TierRule = { state: 'shop.cart.*', tier: 'auth_only' };
    expect(rulesFor([raised], { ...add, now: 'none' })).toEqual([raised]);
  });
});
