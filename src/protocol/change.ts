/** A change of one row of a model, and how it travels (docs/PROTOCOL.md, "Changes"). */
import { pushBody, PushError, readPush, type Push } from './push.ts';

export type ChangeAction = 'created' | 'updated' | 'deleted';

export interface Change {
  /** Tells repeated ones apart: 1 to 64 visible ASCII characters. */
  readonly id: string;
  /** Django's label in lower case, `shop.product`. */
  readonly model: string;
  readonly action: ChangeAction;
  /** The primary key: a safe integer, or a text of 1 to 255 characters (also for integers beyond 2^53). */
  readonly pk: number | string;
  /** When it was published, Unix milliseconds by the publisher's clock. */
  readonly at: number;
  /**
   * Whom it concerns, such as `tenant:acme`: at most 8 texts of 1 to 100 characters. Subscriptions that ask for tags hear only of changes that have one
   * of them, or none at all.
   */
  readonly tags?: readonly string[];
}

/** Changes may have been missed: of one model, or (without) of any. */
export interface Gap {
  readonly reason: GapReason;
  readonly model?: string;
}

/**
 * `reconnect`: the connection broke, and the bus keeps nothing. `trimmed`: what was missed is no longer kept. `server`: the
 * server restarted or was replaced. `reported`: a publisher says so, for example after a TRUNCATE.
 */
export type GapReason = 'reconnect' | 'trimmed' | 'server' | 'reported';

const MAX_ID = 64;
const MAX_MODEL = 200;
const MAX_PK = 255;
const MAX_TAGS = 8;
const MAX_TAG = 100;

/** Changes of one call of the HTTP API or a publisher. */
export const MAX_BATCH = 1_000;

const ACTIONS: readonly string[] = ['created', 'updated', 'deleted'] satisfies ChangeAction[];
const GAP_REASONS: readonly string[] = ['reconnect', 'trimmed', 'server', 'reported'] satisfies GapReason[];
const KEYS = ['id', 'model', 'action', 'pk', 'tags'];

/** What a publisher wrote is no change: which field, why, and what to do. */
export class ChangeError extends Error {
  override readonly name = 'ChangeError';
  /** `pk`, or `changes[3].pk` in a batch. */
  readonly field: string;

  constructor(field: string, problem: string, remedy: string) {
    super(`${field} ${problem}. ${remedy}`);
    this.field = field;
  }
}

export interface ChangeDefaults {
  /** The id of a change that brings none, by its place in the batch. */
  readonly id: (index: number) => string;
  /** Unix milliseconds. */
  readonly now: number;
}

/** Reads what a publisher gives: one change, or `{"changes":[…]}` with 1 to 1,000. Throws ChangeError. */
export function readPublished(value: unknown, defaults: ChangeDefaults): Change[] {
  const body = asObject(value, 'The body');
  if (!('changes' in body)) return [readOne(body, '', 0, defaults)];
  const other = Object.keys(body).find((name) => name !== 'changes');
  if (other !== undefined)
    throw new ChangeError(other, 'stands beside changes', 'Put it into each change, or leave it out.');
  const { changes } = body;
  if (!Array.isArray(changes)) throw new ChangeError('changes', 'is not a list', 'Send {"changes":[{…},{…}]}.');
  if (changes.length === 0) throw new ChangeError('changes', 'is empty', 'Send at least one change.');
  if (changes.length > MAX_BATCH) {
    throw new ChangeError('changes', `holds ${changes.length} changes`, `Send at most ${MAX_BATCH} at a time.`);
  }
  return changes.map((change: unknown, index) => {
    const path = `changes[${index}]`;
    return readOne(asObject(change, path), `${path}.`, index, defaults);
  });
}

function readOne(body: Fields, prefix: string, index: number, defaults: ChangeDefaults): Change {
  const unknown = Object.keys(body).find((name) => !KEYS.includes(name));
  if (unknown !== undefined) {
    const name = /^\w{1,32}$/.test(unknown) ? unknown : JSON.stringify(unknown.slice(0, 32));
    throw new ChangeError(
      `${prefix}${name}`,
      'is not known',
      'A change has model, action, pk and, if you like, id and tags.',
    );
  }
  const { id = defaults.id(index) } = body;
  if (!isId(id)) {
    throw new ChangeError(
      `${prefix}id`,
      'is not an id',
      `Write 1 to ${MAX_ID} visible ASCII characters, or leave it out.`,
    );
  }
  const model = readModel(body['model'], `${prefix}model`);
  const action = body['action'];
  if (!isAction(action)) {
    throw new ChangeError(`${prefix}action`, 'is not an action', 'Write created, updated or deleted.');
  }
  const pk = readPk(body['pk'], `${prefix}pk`);
  return { id, model, action, pk, at: defaults.now, ...readTags(body['tags'], `${prefix}tags`) };
}

function readTags(value: unknown, field: string): Pick<Change, 'tags'> {
  if (value === undefined || value === null) return {};
  if (!Array.isArray(value)) throw new ChangeError(field, 'is not a list', 'Write texts, for example ["tenant:acme"].');
  if (value.length > MAX_TAGS) {
    throw new ChangeError(field, `holds ${value.length} tags`, `Give a change at most ${MAX_TAGS}.`);
  }
  const wrong = value.findIndex((tag) => !isTag(tag));
  if (wrong !== -1) {
    throw new ChangeError(`${field}[${wrong}]`, 'is not a tag', `Write a text of 1 to ${MAX_TAG} characters.`);
  }
  return value.length === 0 ? {} : { tags: value as string[] };
}

/** A model's label in lower case. Throws ChangeError. */
export function readModel(value: unknown, field: string): string {
  if (isModel(value)) return value.toLowerCase();
  throw new ChangeError(field, 'is not the label of a model', 'Write app_label.model, for example shop.product.');
}

function readPk(value: unknown, field: string): number | string {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) {
    const remedy = 'Write integers of at most 2^53 - 1 as a number and larger ones as a text.';
    throw new ChangeError(field, 'is not a whole number that JSON can hold', remedy);
  }
  if (typeof value === 'object' && value !== null) {
    throw new ChangeError(
      field,
      'is a composite key',
      'Only models whose primary key is one column can be live: give the model one.',
    );
  }
  if (isPk(value)) return value;
  throw new ChangeError(field, 'is not a primary key', `Write an integer, or a text of 1 to ${MAX_PK} characters.`);
}

/** A primary key from a text: an integer where it is one in its usual form. */
export function pkOf(text: string): number | string {
  if (!/^(?:0|-?[1-9]\d{0,15})$/.test(text)) return text;
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : text;
}

export type BusMessage =
  | { readonly kind: 'changes'; readonly changes: readonly Change[]; readonly skipped: number }
  | { readonly kind: 'gap'; readonly gap: Gap }
  /** `deployment`: for this one alone. */
  | { readonly kind: 'push'; readonly push: Push; readonly deployment?: string }
  | { readonly kind: 'unreadable' };

/** What one message on a bus may hold, so that no reader ever gets a huge one. */
const MAX_MESSAGE_CHANGES = 100;
const MAX_MESSAGE_CHARACTERS = 16_384;
/** A longer one is not read. Characters. */
const MAX_READ = 1_048_576;

/** Messages for a bus, in order: each `{"changes":[…]}` with at most 100. */
export function encodeChanges(changes: readonly Change[]): string[] {
  const messages: string[] = [];
  let parts: string[] = [];
  let length = 0;
  const flush = (): void => {
    if (parts.length > 0) messages.push(`{"changes":[${parts.join(',')}]}`);
    parts = [];
    length = 0;
  };
  for (const change of changes) {
    const text = JSON.stringify(plainChange(change));
    if (parts.length >= MAX_MESSAGE_CHANGES || length + text.length > MAX_MESSAGE_CHARACTERS) flush();
    parts.push(text);
    length += text.length;
  }
  flush();
  return messages;
}

/** With its known keys alone, in the order in which they are written. */
export function plainChange({ id, model, action, pk, at, tags }: Change): Change {
  return { id, model, action, pk, at, ...(tags !== undefined && { tags }) };
}

export function encodeGap({ model, reason }: Gap): string {
  const why = reason === 'reported' ? {} : { reason };
  return JSON.stringify({ gap: model === undefined ? why : { ...why, model } });
}

/** `deployment`: where the message may come to others as well. */
export function encodePush(push: Push, deployment?: string): string {
  return JSON.stringify({ push: pushBody(push), ...(deployment !== undefined && { deployment }) });
}

/** Reads a message on a bus: as many changes as it has that can be read, also one that stands alone. Never throws. */
export function readBusMessage(text: string, defaults: ChangeDefaults): BusMessage {
  const body = text.length > MAX_READ ? undefined : parse(text);
  if (body === undefined) return { kind: 'unreadable' };
  const { gap, push, changes = [body] } = body;
  if (push !== undefined) return readBusPush(push, body['deployment'], defaults);
  if (typeof gap === 'object' && gap !== null) {
    const { model, reason } = gap as Fields;
    return {
      kind: 'gap',
      gap: { reason: isGapReason(reason) ? reason : 'reported', ...(isModel(model) && { model: model.toLowerCase() }) },
    };
  }
  if (!Array.isArray(changes)) return { kind: 'unreadable' };
  const read = changes.flatMap((change: unknown, index) => readFromBus(change, index, defaults));
  if (read.length === 0) return { kind: 'unreadable' };
  return { kind: 'changes', changes: read, skipped: changes.length - read.length };
}

/** Senders other than ours: what the rules of a push do not allow is no push. */
function readBusPush(value: unknown, deployment: unknown, defaults: ChangeDefaults): BusMessage {
  try {
    const push = readPush(value, { id: defaults.id(0), now: defaults.now });
    return { kind: 'push', push, ...(typeof deployment === 'string' && { deployment }) };
  } catch (error) {
    if (!(error instanceof PushError)) throw error;
    return { kind: 'unreadable' };
  }
}

/** Other versions may say more: what is not known is ignored. */
export function readFromBus(value: unknown, index: number, defaults: ChangeDefaults): Change[] {
  if (typeof value !== 'object' || value === null) return [];
  const { id = defaults.id(index), model, action, pk, at = defaults.now, tags } = value as Fields;
  if (!isId(id) || !isModel(model) || !isAction(action) || !isPk(pk)) return [];
  const made = Number.isSafeInteger(at) ? Number(at) : defaults.now;
  return [{ id, model: model.toLowerCase(), action, pk, at: made, ...tagsOf(tags) }];
}

/** Tags that cannot be read narrow nothing: the change concerns everybody. */
function tagsOf(value: unknown): Pick<Change, 'tags'> {
  const isReadable = Array.isArray(value) && value.length > 0 && value.length <= MAX_TAGS && value.every(isTag);
  return isReadable ? { tags: value } : {};
}

type Fields = Readonly<Record<string, unknown>>;

function asObject(value: unknown, field: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new ChangeError(field, 'is not a JSON object', 'Write {"model":"shop.product","action":"updated","pk":42}.');
}

function parse(text: string): Fields | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
  } catch {
    return undefined;
  }
}

function isId(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_ID && /^[!-~]+$/.test(value);
}

export function isModel(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value.length <= MAX_MODEL &&
    /^[\p{L}_][\p{L}\p{N}_]*\.[\p{L}_][\p{L}\p{N}_]*$/u.test(value)
  );
}

/** PostgreSQL's text cannot hold a NUL, nor UTF-8 a lone surrogate. */
export function isTag(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value !== '' &&
    value.length <= MAX_TAG &&
    !value.includes('\0') &&
    value.isWellFormed()
  );
}

function isGapReason(value: unknown): value is GapReason {
  return typeof value === 'string' && GAP_REASONS.includes(value);
}

function isAction(value: unknown): value is ChangeAction {
  return typeof value === 'string' && ACTIONS.includes(value);
}

export function isPk(value: unknown): value is number | string {
  if (typeof value === 'number') return Number.isSafeInteger(value);
  // PostgreSQL's text cannot hold a NUL, nor UTF-8 a lone surrogate.
  return (
    typeof value === 'string' && value !== '' && value.length <= MAX_PK && !value.includes('\0') && value.isWellFormed()
  );
}
