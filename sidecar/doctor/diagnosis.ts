import type { DoctorFacts } from '../../src/ports/doctor.ts';
import type { TierRule } from '../../src/ports/tiers.ts';
import type { ShadowHandler } from '../../src/protocol/shadow-report.ts';
import { TIERS, type Tier } from '../../src/protocol/tier.ts';
import { advisedRules, ruleFor } from './advice.ts';
import { findings, type Finding } from './findings.ts';
import { SavingsMeter, type Savings } from './savings.ts';
import { asTypeScript, asYaml } from './snippet.ts';

/** Events that the tier of the rules would have got wrong. */
interface WrongEvents {
  readonly tier: Tier;
  /** What gives that tier: `tiers.rules[2]`, `class`, `mode`, `app` or `resolve`. */
  readonly by: string;
  readonly missing: readonly string[];
  readonly events: number;
}

export interface HandlerDiagnosis {
  /** The dotted `module.Class`. */
  readonly state: string;
  readonly handler: string;
  readonly events: number;
  /** The tiers that ran, and those that the rules would have given. */
  readonly now: readonly Tier[];
  readonly rules: readonly Tier[];
  /** The lowest that was right for all events. */
  readonly lowest: Tier;
  /** In all events together; null where there was nothing to compare with. */
  readonly saved: { readonly byRules: Savings | null; readonly byLowest: Savings | null };
  readonly needs: Readonly<Record<string, number>>;
  readonly wrong: readonly WrongEvents[];
}

/** What `bridgehead doctor --json` prints. */
export interface Diagnosis {
  /** No event was seen that the rules would get wrong. */
  readonly ok: boolean;
  readonly name: string;
  readonly shadow: boolean;
  /** When the first worker began to watch, ISO 8601. */
  readonly since: string | null;
  readonly workers: { readonly linked: number; readonly reporting: number };
  readonly events: number;
  readonly wrong: number;
  readonly handlers: readonly HandlerDiagnosis[];
  /** A whole `tiers.rules`; `changed` tells whether it differs from the one in force. */
  readonly advised: {
    readonly changed: boolean;
    readonly rules: readonly TierRule[];
    readonly typescript: string;
    readonly yaml: string;
  };
  readonly findings: readonly Finding[];
}

export function diagnose(facts: DoctorFacts): Diagnosis {
  const { seen } = facts;
  const meter = new SavingsMeter(seen.handlers);
  const handlers = seen.handlers
    .map((handler) => diagnoseHandler(facts, handler, meter))
    .toSorted((a, b) => wrongOf(b) - wrongOf(a) || b.events - a.events);
  const advised = advisedRules(facts);
  const rules = advised.map(({ rule }) => rule);
  const wrong = handlers.reduce((sum, handler) => sum + wrongOf(handler), 0);
  return {
    ok: wrong === 0,
    name: facts.name,
    shadow: facts.shadow,
    since: seen.since === undefined ? null : new Date(seen.since).toISOString(),
    workers: { linked: facts.workers.length, reporting: seen.workers },
    events: handlers.reduce((sum, { events }) => sum + events, 0),
    wrong,
    handlers,
    advised: {
      changed: JSON.stringify(rules) !== JSON.stringify(facts.rules),
      rules,
      typescript: asTypeScript(advised),
      yaml: asYaml(advised),
    },
    findings: findings(facts),
  };
}

export function wrongOf({ wrong }: HandlerDiagnosis): number {
  return wrong.reduce((sum, { events }) => sum + events, 0);
}

function diagnoseHandler(facts: DoctorFacts, handler: ShadowHandler, meter: SavingsMeter): HandlerDiagnosis {
  const { cells, lowest } = handler;
  const index = ruleFor(facts, handler);
  return {
    state: facts.app?.states[handler.state]?.class ?? handler.class,
    handler: handler.handler,
    events: handler.events,
    now: TIERS.filter((tier) => cells.some(({ now }) => now === tier)),
    rules: TIERS.filter((tier) => cells.some(({ would }) => would === tier)),
    lowest,
    saved: {
      byRules: meter.of(handler, ({ would }) => would) ?? null,
      byLowest: meter.of(handler, () => lowest) ?? null,
    },
    needs: handler.needs,
    wrong: handler.wrong.map(({ would, source, missing, events }) => ({
      tier: would,
      by: source === 'rule' && index !== undefined ? `tiers.rules[${index}]` : source,
      missing,
      events,
    })),
  };
}
