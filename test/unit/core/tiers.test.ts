import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Figures } from '../../../src/adapters/metrics/figures.ts';
import { guessStateClass, looseSpelling, splitEventName } from '../../../src/core/tiers/event-name.ts';
import { compileGlob } from '../../../src/core/tiers/glob.ts';
import { RuleTable } from '../../../src/core/tiers/rule-table.ts';
import { TierResolver, type Decision, type TierOptions } from '../../../src/core/tiers/tier-resolver.ts';
import type { ResolvableSession, TierMode, TierRule } from '../../../src/ports/tiers.ts';
import { readManifest, type Manifest } from '../../../src/protocol/manifest.ts';
import { raiseTier, TIERS, type Tier } from '../../../src/protocol/tier.ts';
import { MANIFEST } from '../../support/link-client.ts';
import { loadVectors } from '../../support/vectors.ts';
import { processorTime } from '../../support/processor-time.ts';

const SESSION: ResolvableSession = { address: '203.0.113.7', hasSessionCookie: false, header: () => undefined };

function resolver(
  options: Partial<TierOptions>,
  manifest?: Manifest,
): { tiers: TierResolver; metrics: Figures; lines: string[] } {
  const metrics = new Figures();
  const lines: string[] = [];
  const log = (fields: object, message: string): void => void lines.push(JSON.stringify({ fields, message }));
  const whole: TierOptions = { mode: 'inherit', rules: [], resolve: undefined, ...options };
  const logger = { debug: log, info: log, warn: log, error: log };
  return { tiers: new TierResolver({ options: whole, manifest, metrics, logger }), metrics, lines };
}

function decide(tiers: TierResolver, name: string, path = ''): Decision {
  return tiers.decide({ name, path, payload: {} }, SESSION);
}

interface WireRule {
  readonly state: string | null;
  readonly handler: string | null;
  readonly path: string | null;
  readonly tier: Tier | null;
  readonly login: TierRule['login'] | null;
}

interface Case {
  readonly title: string;
  readonly rules: { readonly mode: TierMode; readonly resolve: boolean; readonly rules: readonly WireRule[] };
  readonly manifest: { readonly mode: string; readonly resolver: boolean; readonly states: object };
  readonly events: readonly {
    readonly name: string;
    readonly side: 'both' | 'worker' | 'sidecar';
    readonly path: string | null;
    readonly upload: boolean;
    readonly login: TierRule['login'] | null;
    readonly tier: Tier | null;
    readonly source: string;
  }[];
}

function given<T>(value: T | null): T | undefined {
  return value ?? undefined;
}

function rulesOf({ rules }: Case): TierRule[] {
  return rules.rules.map(({ state, handler, path, tier, login }) => ({
    state: given(state),
    handler: given(handler),
    path: given(path),
    tier: given(tier),
    login: given(login),
  }));
}

describe('the shared vectors', () => {
  it.each(loadVectors('rules.json') as Case[])('rules: $title', (vector) => {
    const manifest = readManifest({ ...MANIFEST, ...vector.manifest });
    // What a function decides is no matter of the rules: here it leaves everything to them.
    const resolve = vector.rules.resolve ? (): undefined => undefined : undefined;
    const { tiers } = resolver({ mode: vector.rules.mode, rules: rulesOf(vector), resolve }, manifest);
    // The second time from memory.
    for (const event of [...vector.events, ...vector.events]) {
      if (event.side === 'worker') continue;
      const { tier, source } = decide(tiers, event.name, event.path ?? '');
      // Uploads are raised by their route, which is not the resolver's matter.
      const raised = event.upload && tier !== 'worker' ? raiseTier(tier, 'auth_only') : tier;
      expect([raised, source], event.name).toEqual([event.tier ?? 'worker', event.source]);
      // What rules with a path ask for is asked beside it.
      expect(decide(tiers, event.name).access[0] ?? null, event.name).toEqual(event.login);
    }
  });

  it.each(loadVectors('globs.json') as { pattern: string; text: string; match: boolean }[])(
    'glob $pattern on $text',
    ({ pattern, text, match }) => {
      expect(compileGlob(pattern).matches(text)).toBe(match);
    },
  );
});

describe('globs', () => {
  const pattern = fc
    .array(fc.constantFrom('*', '?', 'a', 'b', '.', '/', '🌉', '\n', '+', '(', '\\', 'A'), { maxLength: 10 })
    .map((parts) => parts.join(''));
  const text = fc
    .array(fc.constantFrom('a', 'b', '.', '/', '🌉', '\n', '+', 'A'), { maxLength: 12 })
    .map((parts) => parts.join(''));

  it('match as a regular expression of their meaning', () => {
    fc.assert(
      fc.property(pattern, text, (glob, subject) => {
        const source = Array.from(glob, (symbol) => {
          if (symbol === '*') return '[^]*';
          return symbol === '?' ? '[^]' : symbol.replaceAll(/[.*+?^${}()|[\]\\/]/g, String.raw`\$&`);
        });
        expect(compileGlob(glob).matches(subject)).toBe(new RegExp(`^${source.join('')}$`, 'u').test(subject));
      }),
      { numRuns: 1_000 },
    );
  });

  it('take no time that a name could make long', () => {
    const glob = compileGlob(`${'*a'.repeat(50)}*b`);
    const spent = processorTime(() => expect(glob.matches('a'.repeat(2_048))).toBe(false));
    expect(spent).toBeLessThan(200);
  });
});

/** The first rule that fits, tried one after another. */
function firstMatch(rules: readonly TierRule[], state: string, handler: string, loose: boolean): TierRule | undefined {
  const spell = loose ? looseSpelling : (text: string): string => text;
  const fits = (pattern: string | undefined, text: string): boolean =>
    pattern === undefined || compileGlob(pattern).matches(text);
  return rules.find(
    (rule) =>
      rule.path === undefined &&
      fits(rule.state === undefined ? undefined : spell(rule.state), spell(state)) &&
      fits(rule.handler, handler),
  );
}

describe('a table of rules', () => {
  const name = fc.constantFrom(
    'shop.cart.Cart',
    'shop.cart.CartItem',
    'shop.view_s.Order',
    'blog.Post',
    '',
    'Shop.Cart.cart',
  );
  const handler = fc.constantFrom('add', 'inc_one', 'inc_two', 'remove', '', 'Add');
  const wild = (exact: fc.Arbitrary<string>): fc.Arbitrary<string | undefined> =>
    fc.oneof(
      fc.constant(undefined),
      exact,
      fc.tuple(exact, fc.nat(12)).map(([text, cut]) => `${text.slice(0, cut)}*`),
      fc.tuple(exact, fc.nat(12)).map(([text, cut]) => `*${text.slice(cut)}`),
      fc.tuple(exact, fc.nat(12)).map(([text, cut]) => `${text.slice(0, cut)}?${text.slice(cut + 1)}`),
    );
  const rule: fc.Arbitrary<TierRule> = fc.record(
    {
      state: wild(name),
      handler: wild(handler),
      path: fc.option(fc.constantFrom('/a*', '*'), { nil: undefined, freq: 3 }),
      tier: fc.constantFrom(...TIERS),
    },
    { requiredKeys: ['tier'] },
  );

  it.each([true, false])('finds what trying one after another finds, also of 1,000 (loose: %s)', (loose) => {
    const rules = fc.oneof(fc.array(rule, { maxLength: 20 }), fc.array(rule, { minLength: 1_000, maxLength: 1_000 }));
    fc.assert(
      fc.property(rules, fc.array(fc.tuple(name, handler), { maxLength: 10 }), (all, subjects) => {
        const table = new RuleTable(all, { loose });
        for (const [state, called] of subjects) {
          const match = table.match(state, called);
          expect(match.first).toBe(firstMatch(all, state, called, loose));
          const paths = all.filter(
            (one) => one.path !== undefined && firstMatch([{ ...one, path: undefined }], state, called, loose),
          );
          expect(match.withPath.map((one) => one.rule)).toEqual(paths);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('names of events', () => {
  it.each([
    [
      'reflex___state____state.shop___cart____cart_state.add',
      'reflex___state____state.shop___cart____cart_state',
      'add',
      'shop.cart.CartState',
    ],
    ['reflex___state____state.set_is_hydrated', 'reflex___state____state', 'set_is_hydrated', 'reflex.state.State'],
    ['add', '', 'add', ''],
    ['a.', 'a', '', 'A'],
  ])('%s', (name, stateName, handler, stateClass) => {
    expect(splitEventName(name)).toEqual({ stateName, handler });
    expect(guessStateClass(stateName)).toBe(stateClass);
  });

  it('fit rules however a class is spelt, as long as no manifest tells', () => {
    // snake case forgets where the capitals were: HTMLView and HtmlView look the same on the wire.
    const rules: TierRule[] = [{ state: 'shop.my_views.HTMLView2', tier: 'none' }];
    const name = 'root.shop___my_views____html_view2.show';
    expect(decide(resolver({ rules }).tiers, name).tier).toBe('none');
    const state = { class: 'shop.my_views.HtmlView2', tier: null, smart: 'none', handlers: ['show'] };
    const manifest = readManifest({ ...MANIFEST, states: { 'root.shop___my_views____html_view2': state } });
    expect(decide(resolver({ rules }, manifest).tiers, name).tier).toBe('full');
  });

  it('become labels only where the manifest knows them', () => {
    const { tiers, metrics } = resolver({}, readManifest(MANIFEST));
    for (const name of ['root.cart.add', 'root.cart.made_up', 'root.made_up.add', 'x'.repeat(5_000)]) {
      decide(tiers, name).meter.event('none');
    }
    expect([...metrics.handlers.values()].map(({ state, handler, none }) => [state, handler, none])).toEqual([
      ['shop.cart.Cart', 'add', 1],
      ['other', 'other', 3],
    ]);
  });

  it('are forgotten past 10,000, and still resolved', () => {
    const { tiers } = resolver({ rules: [{ handler: 'h1*', tier: 'none' }] });
    for (let n = 0; n < 25_000; n++)
      expect(decide(tiers, `s.h${n}`).tier).toBe(`${n}`.startsWith('1') ? 'none' : 'full');
  });

  it('of 2,000 characters are a handler like any other', () => {
    const deep = `${Array.from({ length: 64 }, (_, n) => `shop___deep____state_number_${n}`).join('.')}.save`;
    expect(deep.length).toBeGreaterThan(1_900);
    const { tiers } = resolver({ rules: [{ handler: 'save', tier: 'none', login: 'staff' }] });
    expect(decide(tiers, deep)).toMatchObject({ tier: 'none', access: ['staff'] });
  });
});

describe('a path', () => {
  const tier = fc.constantFrom(...TIERS);

  it('raises, and never lowers', () => {
    fc.assert(
      fc.property(
        tier,
        fc.array(fc.tuple(fc.constantFrom('/admin*', '*', '/a?'), tier)),
        fc.constantFrom('/admin/x', '/ab', ''),
        (base, paths, path) => {
          const rules: TierRule[] = [...paths.map(([glob, one]) => ({ path: glob, tier: one })), { tier: base }];
          const without = decide(resolver({ rules: [{ tier: base }] }).tiers, 's.h', path).tier as Tier;
          const { tier: decided } = decide(resolver({ rules }).tiers, 's.h', path);
          const fitting = paths.filter(([glob]) => compileGlob(glob).matches(path)).map(([, one]) => one);
          expect(decided).toBe(fitting.reduce(raiseTier, without));
        },
      ),
    );
  });

  it("cannot lower what the app's own resolver will say: it says nothing, or full", () => {
    const manifest = readManifest({ ...MANIFEST, resolver: true });
    const rules: TierRule[] = [
      { path: '/a*', tier: 'auth_only' },
      { path: '/f*', tier: 'full' },
    ];
    const { tiers } = resolver({ rules }, manifest);
    expect(decide(tiers, 'root.cart.add', '/a').tier).toBe('worker');
    expect(decide(tiers, 'root.cart.add', '/f')).toMatchObject({ tier: 'full', source: 'app' });
  });

  it('adds to what is asked of the user, and takes nothing away', () => {
    const rules: TierRule[] = [
      { state: 'shop.cart.*', path: '/admin/*', login: 'staff' },
      { state: 'shop.cart.*', login: 'required' },
    ];
    const { tiers } = resolver({ rules }, readManifest(MANIFEST));
    expect(decide(tiers, 'root.cart.add', '/').access).toEqual(['required']);
    expect(decide(tiers, 'root.cart.add', '/admin/x').access).toEqual(['required', 'staff']);
    expect(decide(tiers, 'root.note.save', '/admin/x').access).toEqual([]);
  });
});

describe('a resolve function', () => {
  it('sees the event and the session, comes first, and may leave it to the rules', () => {
    const seen: unknown[] = [];
    const { tiers } = resolver(
      {
        rules: [{ tier: 'full' }],
        resolve: (event, session) => {
          seen.push([{ ...event }, session.address]);
          return event.handler === 'add' ? 'none' : undefined;
        },
      },
      readManifest(MANIFEST),
    );
    expect(tiers.decide({ name: 'root.cart.add', path: '/cart', payload: { n: 1 } }, SESSION)).toMatchObject({
      tier: 'none',
      source: 'resolve',
    });
    expect(seen[0]).toEqual([
      {
        name: 'root.cart.add',
        state: 'shop.cart.Cart',
        handler: 'add',
        path: '/cart',
        upload: false,
        payload: { n: 1 },
      },
      SESSION.address,
    ]);
    expect(decide(tiers, 'root.cart.toggle')).toMatchObject({ tier: 'full', source: 'rule' });
  });

  it.each([
    [
      'throws',
      () => {
        throw new RangeError('of 5550123');
      },
    ],
    [
      'throws something that is no error',
      () => {
        throw 'of 5550123';
      },
    ],
    ['returns no tier', () => 'of 5550123'],
    ['returns null', () => null],
    ['returns a promise', async () => Promise.resolve('none')],
    ['returns a promise that fails', async () => Promise.reject(new RangeError('of 5550123'))],
    ['returns a key of every object', () => 'toString'],
  ] as [string, () => unknown][])(
    'that %s means full, is counted, and logged once for each handler without its values',
    (_how, resolve) => {
      const { tiers, metrics, lines } = resolver({ mode: 'none', resolve: resolve as TierOptions['resolve'] });
      for (let n = 0; n < 3; n++) expect(decide(tiers, 's.h')).toMatchObject({ tier: 'full' });
      decide(tiers, 's.other');
      expect(metrics.resolverErrors).toBe(4);
      expect(lines).toHaveLength(2);
      expect(lines.join()).not.toContain('5550123');
    },
  );

  it('cannot lower an upload below auth_only', () => {
    const { tiers } = resolver({ resolve: () => 'none' });
    expect(decide(tiers, 's.handle_UPLOAD').tier).toBe('auth_only');
  });
});
