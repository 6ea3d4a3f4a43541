import type { Change, ChangeAction } from '../../protocol/change.ts';

/** What is known of a row's changes; several that were merged have no id of their own. */
export type Row = Omit<Change, 'id'>;

/** Tags of merged changes; with more of them the row concerns everybody. */
const MAX_TAGS = 32;
/** What a row that waits costs, beside its texts. Bytes, about. */
const OVERHEAD = 200;

/** The same row has the same key, whether its primary key came as a number or a text. */
export function rowKey({ model, pk }: Pick<Row, 'model' | 'pk'>): string {
  return `${model} ${pk}`;
}

/** Bytes that a row with this key takes while it waits, about. */
export function rowBytes(key: string): number {
  return OVERHEAD + 2 * key.length;
}

/** Two changes of one row as one. It is as old as the first of them: whoever measures, measures the longest wait. */
export function merged(before: Row, after: Row): Row {
  const tags = mergedTags(before.tags, after.tags);
  const { model, pk, at } = before;
  return { model, pk, at, action: mergedAction(before.action, after.action), ...(tags !== undefined && { tags }) };
}

/** A browser may have a row that was deleted and made anew, and one that was made and deleted. */
function mergedAction(before: ChangeAction, after: ChangeAction): ChangeAction {
  if (before === 'created' && after === 'updated') return 'created';
  if (before === 'deleted' && after === 'created') return 'updated';
  return after;
}

/** Whom either of them concerned; one without tags concerns everybody. */
function mergedTags(before: Row['tags'], after: Row['tags']): Row['tags'] {
  if (before === undefined || after === undefined) return undefined;
  const all = [...new Set([...before, ...after])];
  return all.length > MAX_TAGS ? undefined : all;
}
