import type { Metrics } from '../../ports/metrics.ts';
import type { Headers, HttpExchange } from '../../ports/transport.ts';
import type { ClientToken } from '../../protocol/brand.ts';
import { raiseTier } from '../../protocol/tier.ts';
import type { BackendPool } from '../backends/backend-pool.ts';
import { clientAddress, upstreamHeaders, type TrustsProxy } from '../http/forwarded.ts';
import { respondError } from '../http/respond.ts';
import { tokenHash } from '../../protocol/keys.ts';
import type { AuthResult } from '../../ports/auth.ts';
import { checkAccess, type Verdict } from '../access/access-policy.ts';
import { ClientIdentity } from '../auth/client-identity.ts';
import { noteOf } from '../relay/annotator.ts';
import { clientInfo } from '../relay/client-info.ts';
import type { RelayContext } from '../relay/relay-context.ts';
import type { Admission } from './admission.ts';
import type { HttpProxy } from './http-proxy.ts';

export interface UploadParts {
  readonly context: RelayContext;
  readonly pool: BackendPool;
  readonly proxy: HttpProxy;
  readonly admission: Admission;
  readonly trusts: TrustsProxy;
  readonly metrics: Metrics;
  /** Largest upload in bytes; 0 means none. */
  readonly maxBytes: () => number;
}

type Passed =
  | { readonly kind: 'passed'; readonly headers: Headers }
  | { readonly kind: 'refused'; readonly status: number; readonly code: string; readonly message: string };

const REFUSALS: Record<Exclude<Verdict, 'allow'>, Passed> = {
  login: { kind: 'refused', status: 401, code: 'login_required', message: 'This upload needs a login.' },
  forbidden: { kind: 'refused', status: 403, code: 'forbidden', message: 'You may not upload this.' },
  unknown: {
    kind: 'refused',
    status: 503,
    code: 'user_unavailable',
    message: 'Who you are cannot be checked now; try again.',
  },
};

/** Reflex's uploads: an event whose handler and token stand in headers, and whose payload streams. */
export class Uploads {
  readonly #parts: UploadParts;

  constructor(parts: UploadParts) {
    this.#parts = parts;
  }

  async post(exchange: HttpExchange): Promise<void> {
    const { admission, metrics, pool, proxy, maxBytes } = this.#parts;
    const refusal = admission.origin(exchange.head);
    if (refusal !== undefined) return this.#refuse(exchange, refusal.status, refusal.code, refusal.message);
    const token = header(exchange, 'reflex-client-token');
    const handler = header(exchange, 'reflex-event-handler');
    const missing = token === '' ? 'Reflex-Client-Token' : 'Reflex-Event-Handler';
    if (token === '' || handler === '') {
      metrics.refused('upload_headers');
      return this.#refuse(exchange, 400, 'upload_headers', `An upload needs the header ${missing}.`);
    }
    const backend = pool.forToken(token as ClientToken);
    if (backend === undefined) return this.#refuse(exchange, 502, 'upstream_unavailable', 'There is no backend.');
    const passed = await this.#pass(exchange, token as ClientToken, handler);
    if (passed.kind === 'refused') return this.#refuse(exchange, passed.status, passed.code, passed.message);
    const { headers } = passed;
    const { result, bytes } = await proxy.forward(exchange, {
      upstream: backend.upstream,
      headers,
      maxBytes: maxBytes(),
    });
    if (result === 'too_large') metrics.refused('upload_size');
    if (result === 'upstream_error') metrics.refused('upload_upstream');
    metrics.upload(result === 'too_large' ? 'refused' : result, bytes);
  }

  /** The handler's tier, at least auth_only, with its access rules: counted and signed like an event's. */
  async #pass(exchange: HttpExchange, token: ClientToken, handler: string): Promise<Passed> {
    const { context, trusts, metrics } = this.#parts;
    const { head } = exchange;
    const address = clientAddress(head, trusts);
    const request = { target: head.target, headers: upstreamHeaders(head, address, trusts), protocols: [] };
    const client = clientInfo({ token, address, request });
    const identity = new ClientIdentity(client.cookies);
    const decision = context.tiers.decide({ name: handler, path: '', payload: {} }, client);
    const user = await this.#user(identity);
    const verdict = checkAccess(decision.access, user ?? { kind: 'unavailable', cause: 'no source' });
    const { annotator } = context;
    // The backend may be an unmodified worker, so nothing is left to it to enforce.
    if (verdict !== 'allow') {
      metrics.accessRefused(verdict);
      return REFUSALS[verdict];
    }
    const tier = decision.tier === 'worker' ? decision.tier : raiseTier(decision.tier, 'auth_only');
    decision.meter.event(tier);
    if (annotator === undefined || !decision.known) return { kind: 'passed', headers: {} };
    metrics.annotated();
    const session = annotator.cookie === null ? '' : identity.session(annotator.cookie);
    const annotation = annotator.annotate({ token: tokenHash(token), session }, handler, noteOf(tier, user));
    return { kind: 'passed', headers: { 'x-bridgehead-annotation': annotation } };
  }

  async #user(identity: ClientIdentity): Promise<AuthResult | undefined> {
    const { users, clock } = this.#parts.context;
    if (users === undefined) return undefined;
    const known = identity.known(users.resolver, users.cookie, clock);
    if (known !== undefined) return known;
    await identity.find(users.resolver, users.cookie, clock);
    return identity.known(users.resolver, users.cookie, clock);
  }

  #refuse(exchange: HttpExchange, status: number, code: string, message: string): void {
    this.#parts.metrics.upload('refused', 0);
    respondError(exchange, status, code, message);
  }
}

function header(exchange: HttpExchange, name: string): string {
  const value = exchange.head.headers[name];
  return (typeof value === 'object' ? value[0] : value)?.trim() ?? '';
}
