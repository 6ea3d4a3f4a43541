import type { Socket } from 'socket.io-client';
import type { ConfigInput } from '../../config/index.ts';
import { waitUntil } from '../../tools/process.ts';
import { HANDLERS, type DjangoStack } from './django-stack.ts';
import type { Rights } from './shop-stack.ts';

type Kind = 'required' | 'staff' | 'permission';
type Verdict = 'allow' | 'login' | 'forbidden' | 'unknown';
export type Verdicts = Readonly<Record<Kind, Verdict>>;

const STATE = 'reflex___state____state';
/** One handler for each kind of rule. */
const GUARDED: Readonly<Record<Kind, { readonly name: string; readonly payload: object }>> = {
  required: { name: `${STATE}.shop___cart____cart_state.set_open`, payload: { value: true } },
  staff: { name: `${STATE}.shop___cart____cart_state.clear`, payload: {} },
  permission: { name: `${STATE}.shop___orders____order_state.load`, payload: {} },
};

const KINDS = Object.keys(GUARDED) as Kind[];

export const GUARDS: NonNullable<ConfigInput['tiers']> = {
  rules: [
    { state: 'shop.cart.*', handler: 'set_open', login: 'required' },
    { state: 'shop.cart.*', handler: 'clear', login: 'staff' },
    { state: 'shop.orders.*', handler: 'load', login: { permission: 'shop.change_product' } },
  ],
};

/** What Django's own decorators would say. */
export function expectedVerdicts({ name, is_active, is_staff, has_perm }: Rights): Verdicts {
  const judge = (may: boolean): Verdict => {
    if (name === 'anonymous') return 'login';
    return is_active && may ? 'allow' : 'forbidden';
  };
  return { required: judge(true), staff: judge(is_staff), permission: judge(has_perm) };
}

interface Update {
  readonly delta?: object;
  readonly events?: readonly { readonly name: string; readonly payload: { readonly function?: string } }[];
}

let fences = 0;

/** What becomes of an event of each kind. Rejects where it was not the edge that decided, or not the worker: `by`. */
export async function verdicts(stack: DjangoStack, client: Socket, by: 'edge' | 'worker' = 'edge'): Promise<Verdicts> {
  const last = (await stack.events(0)).at(-1)?.number ?? 0;
  const fence = `fence ${++fences}`;
  const refusals: Verdict[] = [];
  let isThrough = false;
  const hear = (update: Update): void => {
    isThrough ||= JSON.stringify(update.delta ?? {}).includes(fence);
    refusals.push(...(update.events ?? []).flatMap((event) => refusal(event) ?? []));
  };
  client.on('event', hear);
  const send = (name: string, payload: object): void =>
    void client.emit('event', { name, payload, router_data: { pathname: '/', query: {} } });
  const found = {} as Record<Kind, Verdict>;
  for (const kind of KINDS) {
    const { name, payload } = GUARDED[kind];
    const before = refusals.length;
    const ran = async (): Promise<boolean> =>
      (await stack.events(last)).some((event) => event.name === name && event.tier !== null);
    send(name, payload);
    const isDecided = async (): Promise<boolean> => refusals.length > before || (by === 'edge' && (await ran()));
    await waitUntil(isDecided, { intervalMs: 5, what: `rule ${kind}` });
    found[kind] = refusals[before] ?? 'allow';
  }
  // What comes behind all of them: by then the worker has seen whatever it was sent, and said what it has to say.
  send(HANDLERS.auth_only, { value: fence });
  await waitUntil(() => isThrough, { intervalMs: 5, what: 'the event behind them' });
  client.off('event', hear);
  const reached = new Set((await stack.events(last)).map(({ name }) => name));
  const refused = KINDS.filter((kind) => found[kind] !== 'allow');
  const isByWorker = refused.some((kind) => reached.has(GUARDED[kind].name));
  if (isByWorker !== (by === 'worker') || refused.length !== refusals.length) {
    throw new Error(`decided elsewhere, or twice: ${JSON.stringify(found)}, ${refusals.join()}`);
  }
  return found;
}

function refusal({ name, payload }: NonNullable<Update['events']>[number]): Verdict | undefined {
  if (name === '_redirect') return 'login';
  if (payload.function?.includes('You may not do this.') === true) return 'forbidden';
  return payload.function?.includes('bridgehead-retry') === true ? 'unknown' : undefined;
}
