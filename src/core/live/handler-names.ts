import type { Manifest } from '../../protocol/manifest.ts';
import { splitEventName } from '../tiers/event-name.ts';

/** The full name in Reflex of `module.Class.handler`; undefined where the worker has no such handler. */
export function fullNameOf(dotted: string, { states }: Manifest): string | undefined {
  const { stateName: wanted, handler } = splitEventName(dotted);
  for (const [name, state] of states) {
    if (state.class === wanted && state.handlers.includes(handler)) return `${name}.${handler}`;
  }
  return undefined;
}
