import type { TierRule } from '../../ports/tiers.ts';
import { looseSpelling } from './event-name.ts';
import { compileGlob, type Glob } from './glob.ts';
import { Memory } from './memory.ts';

interface CompiledRule {
  readonly index: number;
  readonly rule: TierRule;
  readonly state: Glob | undefined;
  readonly handler: Glob | undefined;
  readonly path: Glob | undefined;
}

/** What the table says of a state's handler, whatever page it is on. */
export interface RuleMatch {
  /** The first rule without a path. */
  readonly first: TierRule | undefined;
  /** Rules with a path, to be tried for each event: they only raise. */
  readonly withPath: readonly { readonly path: Glob; readonly rule: TierRule }[];
}

const NO_RULES: RuleMatch['withPath'] = [];
const MAX_STATES = 10_000;

/**
 * The compiled rules. Those that name no state, or more than one, are tried once for each state; of a state's handlers each then meets
 * only the rules that fit the state, so that a thousand rules cost a new handler a microsecond or two. `loose`: class names are guessed
 * (no manifest), and compared without case and underscores.
 */
export class RuleTable {
  /** Rules that fit more states than one. */
  readonly #rules: CompiledRule[] = [];
  /** Rules that name one state. */
  readonly #exact = new Map<string, CompiledRule[]>();
  /** Rules that name one handler of whatever state: often one for each handler, so they are looked up. */
  readonly #ofHandler = new Map<string, CompiledRule>();
  readonly #ofState = new Memory<readonly CompiledRule[]>(MAX_STATES);
  readonly #spell: (text: string) => string;

  constructor(rules: readonly TierRule[], options: { readonly loose: boolean }) {
    this.#spell = options.loose ? looseSpelling : (text) => text;
    for (const [index, rule] of rules.entries()) this.#add(this.#compile(rule, index));
  }

  #compile(rule: TierRule, index: number): CompiledRule {
    const state = rule.state === undefined ? undefined : this.#spell(rule.state);
    return { index, rule, state: glob(state), handler: glob(rule.handler), path: glob(rule.path) };
  }

  #add(compiled: CompiledRule): void {
    const { state, handler, path } = compiled;
    const isLookedUp = state === undefined && path === undefined && handler?.exact === true;
    if (state?.exact === true) {
      const others = this.#exact.get(state.prefix);
      if (others === undefined) this.#exact.set(state.prefix, [compiled]);
      else others.push(compiled);
    } else if (!isLookedUp) this.#rules.push(compiled);
    else if (!this.#ofHandler.has(handler.prefix)) this.#ofHandler.set(handler.prefix, compiled);
  }

  match(stateClass: string, handler: string): RuleMatch {
    let first = this.#ofHandler.get(handler);
    let withPath: { readonly path: Glob; readonly rule: TierRule }[] | undefined;
    for (const fitting of this.#fitting(stateClass)) {
      if (fitting.handler?.matches(handler) === false) continue;
      const { path, rule, index } = fitting;
      if (path !== undefined) (withPath ??= []).push({ path, rule });
      else if (first === undefined || index < first.index) first = fitting;
    }
    return { first: first?.rule, withPath: withPath ?? NO_RULES };
  }

  /** The rules that fit a state, in their order. */
  #fitting(stateClass: string): readonly CompiledRule[] {
    return this.#ofState.get(stateClass) ?? this.#ofState.keep(stateClass, this.#findFitting(this.#spell(stateClass)));
  }

  #findFitting(spelled: string): readonly CompiledRule[] {
    const fitting = this.#rules.filter(({ state }) => state?.matches(spelled) ?? true);
    const exact = this.#exact.get(spelled);
    return exact === undefined ? fitting : [...fitting, ...exact].toSorted((a, b) => a.index - b.index);
  }
}

function glob(pattern: string | undefined): Glob | undefined {
  return pattern === undefined ? undefined : compileGlob(pattern);
}
