/** What a worker saw of its handlers in shadow mode (docs/PROTOCOL.md, "Shadow"), read with suspicion and bounds. */
import { isTier, type Tier } from './tier.ts';

/** The tier that is right for an event now, and the one that the rules would have given. */
export interface ShadowCell {
  readonly now: Tier;
  readonly would: Tier;
  readonly events: number;
  /** Database queries before the handler began. */
  readonly queries: number;
  /** From the tier's decision to the handler's beginning, and to its end; sums. Milliseconds. */
  readonly bridgeMs: number;
  readonly ms: number;
}

/** Events that a tier would have got wrong. */
export interface ShadowWrong {
  readonly would: Tier;
  /** What gave that tier: `rule`, `class`, `mode`, `app` or `resolve`. */
  readonly source: string;
  readonly missing: readonly string[];
  readonly events: number;
}

export interface ShadowHandler {
  /** The state's full name, as events carry it. */
  readonly state: string;
  /** Its dotted `module.Class`. */
  readonly class: string;
  readonly handler: string;
  readonly events: number;
  /** The lowest tier that was right for all events so far. */
  readonly lowest: Tier;
  readonly cells: readonly ShadowCell[];
  /** In how many events each thing was needed. */
  readonly needs: Readonly<Record<string, number>>;
  readonly wrong: readonly ShadowWrong[];
}

export interface ShadowReport {
  /** Changes when the figures begin anew. */
  readonly run: string;
  /** Unix milliseconds. */
  readonly since: number;
  /** Absolute figures of this run, of those handlers that have any news. */
  readonly handlers: readonly ShadowHandler[];
}

const MAX_HANDLERS = 1_000;
const MAX_CELLS = 9;
const MAX_KINDS = 32;
const MAX_TEXT = 1_024;

/** undefined where any of it is not as the protocol says: half a report would be a wrong sum. */
export function readShadowReport(body: Readonly<Record<string, unknown>>): ShadowReport | undefined {
  const { run, since, handlers } = body;
  if (!isText(run) || !isCount(since)) return undefined;
  const read = listOf(handlers, MAX_HANDLERS, asHandler);
  return read === undefined ? undefined : { run, since, handlers: read };
}

function asHandler(value: Fields): ShadowHandler | undefined {
  const { state, class: stateClass, handler, events, lowest } = value;
  const cells = listOf(value['cells'], MAX_CELLS, asCell);
  const wrong = listOf(value['wrong'], MAX_KINDS, asWrong);
  const needs = asNeeds(value['needs']);
  if (!isText(state) || !isText(stateClass) || !isText(handler) || !isCount(events) || !isTier(lowest))
    return undefined;
  if (cells === undefined || wrong === undefined || needs === undefined) return undefined;
  return { state, class: stateClass, handler, events, lowest, cells, needs, wrong };
}

function asCell({ now, would, events, queries, bridgeMs, ms }: Fields): ShadowCell | undefined {
  if (!isTier(now) || !isTier(would)) return undefined;
  if (!isCount(events) || !isCount(queries) || !isCount(bridgeMs) || !isCount(ms)) return undefined;
  return { now, would, events, queries, bridgeMs, ms };
}

function asWrong({ would, source, missing, events }: Fields): ShadowWrong | undefined {
  const isList = Array.isArray(missing) && missing.length <= MAX_KINDS && missing.every(isText);
  if (!isTier(would) || !isText(source) || !isList || !isCount(events)) return undefined;
  return { would, source, missing, events };
}

function asNeeds(value: unknown): Record<string, number> | undefined {
  const entries = isFields(value) ? Object.entries(value) : [];
  const isGood = isFields(value) && entries.length <= MAX_KINDS;
  if (!isGood || !entries.every(([need, events]) => isText(need) && isCount(events))) return undefined;
  return Object.fromEntries(entries) as Record<string, number>;
}

type Fields = Readonly<Record<string, unknown>>;

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_TEXT;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}

function listOf<T>(value: unknown, max: number, read: (fields: Fields) => T | undefined): T[] | undefined {
  if (!Array.isArray(value) || value.length > max) return undefined;
  const items = value.map((item: unknown) => (isFields(item) ? read(item) : undefined));
  return items.every((item) => item !== undefined) ? items : undefined;
}
