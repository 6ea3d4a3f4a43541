import type { Tier } from '../../src/protocol/tier.ts';
import { wrongOf, type Diagnosis, type HandlerDiagnosis } from './diagnosis.ts';
import type { Savings } from './savings.ts';

/** Handlers in the table; `--json` has them all. */
const MOST = 100;

/** The diagnosis for a terminal. */
export function asText(diagnosis: Diagnosis): string {
  return [
    ...seen(diagnosis),
    ...wrong(diagnosis),
    ...table(diagnosis),
    ...rules(diagnosis),
    ...advice(diagnosis),
    '',
  ].join('\n');
}

function seen({ name, events, since, workers, shadow }: Diagnosis): string[] {
  const state = shadow ? 'tiers.shadow is on: the rules decide nothing' : 'tiers.shadow is off: the rules decide';
  const what =
    since === null
      ? 'nothing was recorded'
      : `${counted(events, 'event')} seen since ${since} by ${counted(workers.reporting, 'worker')}`;
  return [`${name}: ${state}; ${counted(workers.linked, 'worker')} linked; ${what}.`];
}

function wrong({ handlers, wrong: total, since }: Diagnosis): string[] {
  if (since === null) return [];
  if (total === 0) return ['', 'No event was seen that the rules would get wrong.'];
  const lines = handlers.flatMap((handler) =>
    handler.wrong.map(
      ({ tier, by, missing, events }) =>
        `  ${handler.state}.${handler.handler}: ${counted(events, 'event')} wrong in ${tier} (${by}): ${missing.map(inWords).join('; ')}`,
    ),
  );
  return ['', `The rules would get ${counted(total, 'event')} wrong:`, ...lines];
}

const HEAD = ['handler', 'events', 'now', 'by rules', 'lowest right', 'saves per event', 'in all', 'wrong'];

function table({ handlers }: Diagnosis): string[] {
  if (handlers.length === 0) return [];
  const rows = handlers
    .slice(0, MOST)
    .map((handler) => [
      `${handler.state}.${handler.handler}`,
      String(handler.events),
      tiers(handler.now),
      tiers(handler.rules),
      handler.lowest,
      spared(handler.saved.byLowest, handler.events),
      spared(handler.saved.byLowest, 1),
      String(wrongOf(handler)),
    ]);
  const widths = HEAD.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`.trimEnd();
  const rest = handlers.length - rows.length;
  return [
    '',
    'What each handler needed ("saves": in the lowest right tier, against now):',
    line(HEAD),
    ...rows.map(line),
    ...(rest > 0 ? [`  … and ${rest} more: --json`] : []),
  ];
}

function rules({ advised, since }: Diagnosis): string[] {
  if (since === null) return [];
  if (!advised.changed) return ['', 'The rules are as they should be for what was seen.'];
  return [
    '',
    'Rules that give each handler seen the lowest tier that was right (all others keep what they have). TypeScript:',
    '',
    ...indented(advised.typescript),
    '',
    'YAML:',
    '',
    ...indented(advised.yaml),
  ];
}

function indented(text: string): string[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => `  ${line}`);
}

function advice({ findings }: Diagnosis): string[] {
  return findings.length === 0 ? [] : ['', 'Besides:', ...findings.map(({ text }) => `  - ${text}`)];
}

function tiers(list: HandlerDiagnosis['now']): string {
  return (list satisfies readonly Tier[]).join(', ');
}

function spared(saved: Savings | null, among: number): string {
  if (saved === null) return '?';
  return `${figure(saved.queries / among)} queries, ${figure(saved.milliseconds / among)} ms`;
}

function figure(value: number): string {
  return value === 0 ? '0' : value < 10 ? value.toFixed(1) : Math.round(value).toString();
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

const WORDS: Readonly<Record<string, string>> = {
  user: 'request.user was read',
  session: 'request.session was read',
  'session.write': 'the session was changed',
  login: 'it logged in or out',
  request: 'the request was read',
  state: "the state's user fields were read (is_authenticated, username, …)",
  refresh: "the state's user fields were refreshed before it",
  messages: "Django's messages were used",
  language: 'the language that a middleware sets was read',
  response: "the middleware's response was read",
  redirect: 'a middleware answered with a redirect',
};

function inWords(need: string): string {
  return WORDS[need] ?? (need.startsWith('request.') ? `${need} was read, which a middleware sets` : need);
}
