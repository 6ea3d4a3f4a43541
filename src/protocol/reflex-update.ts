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
  toast: { id: string; level: 'info' | 'success' | 'warning' | 'error'; text: string },
): string {
  const call = `refs['__toast']?.[${JSON.stringify(toast.level)}](${JSON.stringify(toast.text)}, {id: ${JSON.stringify(toast.id)}})`;
  return update(namespace, [{ name: '_call_function', payload: { function: `(() => (${call}))`, callback: null } }]);
}

/** Sends the browser to another page of the app. `path` MUST be one that `isOwnPath` takes. */
export function redirectUpdate(namespace: string, path: string): string {
  return update(namespace, [{ name: '_redirect', payload: { path, external: false, popup: false, replace: false } }]);
}

/** Runs JavaScript in the page. The one update whose value is code. */
export function scriptUpdate(namespace: string, code: string): string {
  return update(namespace, [{ name: '_call_script', payload: { javascript_code: code, callback: null } }]);
}

/** Whether a path leads to a page of the same site: browsers take `//host`, `/\host` and a tab between the slashes for another one. */
export function isOwnPath(path: string): boolean {
  return path.startsWith('/') && !/^\/[/\\]|[^\x21-\x5b\x5d-\uffff]/.test(path);
}
