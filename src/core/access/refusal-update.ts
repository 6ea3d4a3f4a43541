import { isOwnPath, redirectUpdate, toastUpdate } from '../../protocol/reflex-update.ts';
import type { Verdict } from './access-policy.ts';

/** What a browser gets instead of its event's answer. `path`: the page as the client says it. */
export function refusalUpdate(
  verdict: Exclude<Verdict, 'allow'>,
  where: { readonly namespace: string; readonly loginUrl: string; readonly path: string },
): string {
  switch (verdict) {
    case 'login':
      return redirectUpdate(where.namespace, withNext(where.loginUrl, where.path));
    case 'forbidden':
      return toast(where.namespace, 'bridgehead-forbidden', 'You may not do this.');
    case 'unknown':
      return toast(
        where.namespace,
        'bridgehead-retry',
        'We could not check who you are. Please try again in a moment.',
      );
  }
}

function toast(namespace: string, id: string, text: string): string {
  return toastUpdate(namespace, { id, level: 'error', text });
}

/** `next` leads back to a page of the same site or nowhere. */
function withNext(loginUrl: string, path: string): string {
  if (!isOwnPath(path) || path.length > 1_024) return loginUrl;
  return `${loginUrl}${loginUrl.includes('?') ? '&' : '?'}next=${encodeURIComponent(path)}`;
}
