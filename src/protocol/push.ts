/** A push: a handler, or something for the browser alone, in the sessions of somebody (docs/PROTOCOL.md, "Pushes"). */
import { isOwnPath } from './reflex-update.ts';
import { splitUserName } from './user-name.ts';

/** Whose sessions. */
export type PushTarget =
  | { readonly kind: 'all' }
  /** An id of `GET /api/sessions`, or a client token of Reflex. */
  | { readonly kind: 'session'; readonly id: string }
  /** By the primary key as text; without `model` of any user model. */
  | { readonly kind: 'user'; readonly id: string; readonly model?: string }
  /** By Django's name of the group. */
  | { readonly kind: 'group'; readonly name: string }
  /** The page a session shows, as Reflex writes its route; a glob. */
  | { readonly kind: 'path'; readonly pattern: string };

export const TOAST_LEVELS = ['info', 'success', 'warning', 'error'] as const;

export type PushAction =
  /** `name`: `module.Class.handler`. */
  | { readonly kind: 'event'; readonly name: string; readonly payload: Readonly<Record<string, unknown>> }
  | { readonly kind: 'toast'; readonly text: string; readonly level: (typeof TOAST_LEVELS)[number] }
  | { readonly kind: 'redirect'; readonly path: string }
  | { readonly kind: 'script'; readonly code: string };

export interface Push {
  /** Tells repeated ones apart: 1 to 64 visible ASCII characters. */
  readonly id: string;
  /** When it was published, Unix milliseconds. */
  readonly at: number;
  readonly to: PushTarget;
  readonly what: PushAction;
}

/** What a publisher wrote is no push: which field, why, and what to do. */
export class PushError extends Error {
  override readonly name = 'PushError';
  /** `to.user` */
  readonly field: string;

  constructor(field: string, problem: string, remedy: string) {
    super(`${field} ${problem}. ${remedy}`);
    this.field = field;
  }
}

const ACTIONS = ['event', 'toast', 'redirect', 'script'] as const;
const TARGETS = ['session', 'user', 'group', 'path', 'all'] as const;
const MAX_TEXT = 1_000;
const MAX_CODE = 16_384;
const MAX_NAME = 255;
/** Characters of an event's payload as JSON. */
const MAX_PAYLOAD = 16_384;
const ID = /^[!-~]{1,64}$/;
const HANDLER = /^[\p{L}\p{N}_]+(\.[\p{L}\p{N}_]+){2,20}$/u;

type Fields = Readonly<Record<string, unknown>>;

/** Reads what a publisher gives. `id` and `now` stand in where it says none. Throws PushError. */
export function readPush(value: unknown, defaults: { readonly id: string; readonly now: number }): Push {
  const body = asObject(value, 'The body', 'Write {"to":{"user":"42"},"toast":"Hello"}.');
  const known: readonly string[] = ['id', 'at', 'to', ...ACTIONS];
  const unknown = Object.keys(body).find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new PushError(shown(unknown), 'is not known', `A push has to and one of ${ACTIONS.join(', ')}.`);
  }
  const { id = defaults.id, at } = body;
  if (typeof id !== 'string' || !ID.test(id)) {
    throw new PushError('id', 'is not an id', 'Write 1 to 64 visible ASCII characters, or leave it out.');
  }
  const what = readAction(body);
  return { id, at: Number.isSafeInteger(at) ? Number(at) : defaults.now, to: readTarget(body['to']), what };
}

/** As a bus carries it; `readPush` reads it again. */
export function pushBody({ id, at, to, what }: Push): Readonly<Record<string, unknown>> {
  return { id, at, to: targetBody(to), ...actionBody(what) };
}

function readTarget(value: unknown): PushTarget {
  const remedy = 'Write one of {"session":"…"}, {"user":"42"}, {"group":"editors"}, {"path":"/orders"}, {"all":true}.';
  const to = asObject(value, 'to', remedy);
  const names = Object.keys(to);
  const kind = TARGETS.find((name) => name === names[0]);
  if (kind === undefined || names.length !== 1) throw new PushError('to', 'names nobody, or several', remedy);
  const given = to[kind];
  switch (kind) {
    case 'all':
      if (given !== true) throw new PushError('to.all', 'is not true', 'Write {"all":true}.');
      return { kind };
    case 'session':
      return { kind, id: text(given, 'to.session', MAX_NAME) };
    case 'user':
      return readUser(given);
    case 'group':
      return { kind, name: text(given, 'to.group', MAX_NAME) };
    case 'path': {
      const pattern = text(given, 'to.path', MAX_TEXT);
      if (/^[/*?]/.test(pattern)) return { kind, pattern };
      throw new PushError(
        'to.path',
        'is not the path of a page',
        'Write a path or a glob such as /orders or /orders/*.',
      );
    }
  }
}

function readUser(given: unknown): PushTarget {
  const key = Number.isSafeInteger(given) ? String(given) : text(given, 'to.user', 2 * MAX_NAME);
  const { model, id } = splitUserName(key);
  if (id !== '') return { kind: 'user', id, ...(model !== undefined && { model }) };
  throw new PushError('to.user', 'has no primary key', 'Write 42, "42" or "auth.user:42".');
}

function readAction(body: Fields): PushAction {
  const given = ACTIONS.filter((name) => body[name] !== undefined);
  const [kind] = given;
  if (kind === undefined || given.length > 1) {
    throw new PushError(given[1] ?? 'The body', given.length > 1 ? `stands beside ${kind}` : 'does nothing', ONE_OF);
  }
  const value = body[kind];
  switch (kind) {
    case 'event':
      return readEvent(value);
    case 'toast':
      return readToast(value);
    case 'redirect':
      return { kind, path: readPath(value) };
    case 'script':
      return { kind, code: text(value, 'script', MAX_CODE) };
  }
}

const ONE_OF = `Say one of ${ACTIONS.join(', ')}.`;

function readEvent(value: unknown): PushAction {
  const remedy = 'Write {"name":"shop.orders.OrderState.refresh","payload":{}}.';
  const event = asObject(value, 'event', remedy);
  expectKeys(event, 'event', ['name', 'payload']);
  const name = text(event['name'], 'event.name', MAX_TEXT);
  if (!HANDLER.test(name)) throw new PushError('event.name', 'is not module.Class.handler', remedy);
  const payload = asObject(event['payload'] ?? {}, 'event.payload', remedy);
  if (JSON.stringify(payload).length > MAX_PAYLOAD) {
    throw new PushError(
      'event.payload',
      `has more than ${MAX_PAYLOAD} characters`,
      'Send a key, and read the rest there.',
    );
  }
  return { kind: 'event', name, payload };
}

function readToast(value: unknown): PushAction {
  if (typeof value === 'string') return { kind: 'toast', text: text(value, 'toast', MAX_TEXT), level: 'info' };
  const toast = asObject(value, 'toast', 'Write a text, or {"text":"Saved","level":"success"}.');
  expectKeys(toast, 'toast', ['text', 'level']);
  const level = TOAST_LEVELS.find((name) => name === (toast['level'] ?? 'info'));
  if (level === undefined) {
    throw new PushError('toast.level', 'is not a level', `Write one of ${TOAST_LEVELS.join(', ')}.`);
  }
  return { kind: 'toast', text: text(toast['text'], 'toast.text', MAX_TEXT), level };
}

function readPath(value: unknown): string {
  const path = text(value, 'redirect', MAX_TEXT);
  if (isOwnPath(path)) return path;
  throw new PushError(
    'redirect',
    'leads away from the app',
    'Write the path of a page, with one slash in front and without spaces: /orders.',
  );
}

function targetBody(to: PushTarget): Fields {
  switch (to.kind) {
    case 'all':
      return { all: true };
    case 'session':
      return { session: to.id };
    case 'user':
      return { user: to.model === undefined ? to.id : `${to.model}:${to.id}` };
    case 'group':
      return { group: to.name };
    case 'path':
      return { path: to.pattern };
  }
}

function actionBody(what: PushAction): Fields {
  switch (what.kind) {
    case 'event':
      return { event: { name: what.name, payload: what.payload } };
    case 'toast':
      return { toast: { text: what.text, level: what.level } };
    case 'redirect':
      return { redirect: what.path };
    case 'script':
      return { script: what.code };
  }
}

function text(value: unknown, field: string, most: number): string {
  if (typeof value === 'string' && value !== '' && value.length <= most) return value;
  throw new PushError(field, 'is not a text', `Write 1 to ${most} characters.`);
}

function expectKeys(value: Fields, field: string, known: readonly string[]): void {
  const unknown = Object.keys(value).find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new PushError(`${field}.${shown(unknown)}`, 'is not known', `It has ${known.join(' and ')}.`);
}

function asObject(value: unknown, field: string, remedy: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new PushError(field, 'is not a JSON object', remedy);
}

/** A key that somebody made up, short and harmless. */
function shown(key: string): string {
  return /^\w{1,32}$/.test(key) ? key : JSON.stringify(key.slice(0, 32));
}
