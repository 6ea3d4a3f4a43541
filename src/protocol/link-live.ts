/** Frames of live changes on a link (docs/PROTOCOL.md, "Live changes on a link"): what a worker may say, read with suspicion. */
import {
  isModel,
  isPk,
  isTag,
  MAX_BATCH,
  plainChange,
  readFromBus,
  type Change,
  type ChangeDefaults,
} from './change.ts';
import { FrameError } from './link.ts';

type Body = Readonly<Record<string, unknown>>;

/** Rows that one live event carries; more are a reload. */
export const MAX_LIVE_ROWS = 200;
/** Subscriptions of a session. */
export const MAX_SUBSCRIPTIONS = 64;

const MAX_PKS = 1_000;
const MAX_TAGS = 100;
const MAX_ID = 200;
const MAX_NUMBER = 0xffff_ffff;
/** Models that a worker may name. */
const MAX_MODELS = 10_000;

/** Which changes run which handler of a session. */
export interface Subscription {
  /** Of the session's own; 1 to 200 characters. */
  readonly id: string;
  readonly model: string;
  /** null: all rows. */
  readonly pks: readonly (number | string)[] | null;
  /** A change that has tags must have one of these; null: whatever it has. */
  readonly tags: readonly string[] | null;
  /** The full name of an event handler. */
  readonly handler: string;
}

/** CHANGES of a worker: an entry that is no change is passed over. Throws FrameError. */
export function readWorkerChanges(body: Body, defaults: ChangeDefaults): { n: number; changes: Change[] } {
  const n = readNumber(body['n']);
  const { changes } = body;
  if (!Array.isArray(changes)) throw new FrameError('changes: expected a list');
  if (changes.length > MAX_BATCH) throw new FrameError(`changes: expected at most ${MAX_BATCH}`);
  return { n, changes: changes.flatMap((change: unknown, index) => readFromBus(change, index, defaults)) };
}

/** CHANGES of a sidecar. */
export function changesMessage(changes: readonly Change[]): { readonly changes: readonly Change[] } {
  return { changes: changes.map(plainChange) };
}

/** GAP of a worker: it had to drop changes of this model, or of any. Throws FrameError. */
export function readWorkerGap(body: Body): { n: number; model: string | undefined } {
  const { model } = body;
  return { n: readNumber(body['n']), model: model === undefined ? undefined : asModel(model) };
}

/** WATCH: the models that a worker wants to hear of; null for all. Throws FrameError. */
export function readWatch({ models }: Body): ReadonlySet<string> | null {
  if (models === null) return null;
  if (!Array.isArray(models) || models.length > MAX_MODELS) throw new FrameError('models: expected a list or null');
  return new Set(models.map(asModel));
}

/** Throws FrameError. */
export function readSubscription(body: Body): Subscription {
  const { handler } = body;
  if (typeof handler !== 'string' || handler === '') throw new FrameError('handler: expected a name');
  return {
    id: readSubscriptionId(body),
    model: asModel(body['model']),
    pks: listOrNull(body['pks'], 'pks', MAX_PKS, isPk),
    tags: listOrNull(body['tags'], 'tags', MAX_TAGS, isTag),
    handler,
  };
}

/** Throws FrameError. */
export function readSubscriptionId({ id }: Body): string {
  if (typeof id !== 'string' || id === '' || id.length > MAX_ID) {
    throw new FrameError(`id: expected 1 to ${MAX_ID} characters`);
  }
  return id;
}

function listOrNull<T>(
  value: unknown,
  field: string,
  most: number,
  is: (item: unknown) => item is T,
): readonly T[] | null {
  if (value === undefined || value === null) return null;
  if (!Array.isArray(value) || value.length > most || !value.every(is)) {
    throw new FrameError(`${field}: expected null or a list of at most ${most}`);
  }
  return value;
}

function readNumber(value: unknown): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > MAX_NUMBER) {
    throw new FrameError('n: expected an integer of 32 bits from 1 on');
  }
  return value;
}

function asModel(value: unknown): string {
  if (!isModel(value)) throw new FrameError('model: expected app_label.model');
  return value.toLowerCase();
}
