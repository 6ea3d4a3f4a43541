import type { TierRule } from '../../src/ports/tiers.ts';
import type { AdvisedRule } from './advice.ts';

/** `tiers` for bridgehead.config.ts. */
export function asTypeScript(rules: readonly AdvisedRule[]): string {
  const lines = rules.map(({ rule, events }) => {
    const parts = written(rule).map(([key, value]) => `${key}: ${inTypeScript(value)}`);
    return `    { ${parts.join(', ')} },${comment('//', events)}`;
  });
  return ['tiers: {', '  rules: [', ...lines, '  ],', '},', ''].join('\n');
}

/** The same for bridgehead.config.yaml: JSON is YAML, and its strings need no second thought. */
export function asYaml(rules: readonly AdvisedRule[]): string {
  const lines = rules.map(({ rule, events }) => {
    const parts = written(rule).map(([key, value]) => `${key}: ${JSON.stringify(value)}`);
    return `    - { ${parts.join(', ')} }${comment('#', events)}`;
  });
  return ['tiers:', rules.length === 0 ? '  rules: []' : '  rules:', ...lines, ''].join('\n');
}

type Value = NonNullable<TierRule[keyof TierRule]>;

function written(rule: TierRule): [string, Value][] {
  return Object.entries(rule).filter((entry): entry is [string, Value] => entry[1] !== undefined);
}

function inTypeScript(value: Value): string {
  return typeof value === 'string' ? quoted(value) : `{ permission: ${quoted(value.permission)} }`;
}

function quoted(text: string): string {
  return /['\\\p{Cc}]/u.test(text) ? JSON.stringify(text) : `'${text}'`;
}

function comment(mark: string, events: number | undefined): string {
  return events === undefined ? '' : ` ${mark} ${events} ${events === 1 ? 'event' : 'events'} seen`;
}
