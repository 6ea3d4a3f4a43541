/**
 * Updates that Bridgehead itself sends to a Reflex frontend. The scripts are constants and every value in them is
 * JSON-encoded, so that nothing a client or a worker said can become code.
 */
import { encodeEvent } from './socket-io.ts';

interface FrontendEvent {
  readonly name: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

function update(namespace: string, events: readonly FrontendEvent[]): string {
  const withRouter = events.map((event) => ({ ...event, router_data: {} }));
  return encodeEvent(namespace, 'event', { delta: {}, events: withRouter, final: true });
}

/** A toast of the app's own toaster; one of the same `id` replaces the one before. */
export function toastUpdate(
  namespace: string,
  toast: { id: string; level: 'error' | 'warning'; text: string },
): string {
  const call = `refs['__toast']?.[${JSON.stringify(toast.level)}](${JSON.stringify(toast.text)}, {id: ${JSON.stringify(toast.id)}})`;
  return update(namespace, [{ name: '_call_function', payload: { function: `(() => (${call}))`, callback: null } }]);
}

/** Sends the browser to another page of the app. */
export function redirectUpdate(namespace: string, path: string): string {
  return update(namespace, [{ name: '_redirect', payload: { path, external: false, popup: false, replace: false } }]);
}
