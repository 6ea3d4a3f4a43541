import type { ConfigInput } from '../../config/schema.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type { Change, ChangeAction } from '../../src/protocol/change.ts';
import type { Subscription } from '../../src/protocol/link-live.ts';
import { startComposed, type Composed } from './composed.ts';
import { EngineClient } from './engine-client.ts';
import { eventually } from './eventually.ts';
import type { LinkWorker, LinkWorkerSession } from './link-worker.ts';
import { linkAs, SECRET } from './linked-stage.ts';

let ids = 0;

/** A change with an id that no other has. */
export function change(pk: number | string, action: ChangeAction = 'updated', rest: Partial<Change> = {}): Change {
  return { id: `live-${process.pid}-${++ids}`, model: 'shop.product', action, pk, at: Date.now(), ...rest };
}

/** A tab, and its session in the worker. */
export interface Tab {
  readonly client: EngineClient;
  readonly there: LinkWorkerSession;
}

/** Sidecars with played workers, and tabs that subscribe; everything ends with `end`. */
export class LiveStand {
  readonly #ends: (() => unknown)[] = [];

  async sidecar(config: ConfigInput = {}, options: { clock?: Clock } = {}): Promise<Composed> {
    const own: ConfigInput = { secret: SECRET, backends: ['http://127.0.0.1:9'], auth: { source: 'none' }, ...config };
    const sidecar = await startComposed(own, options);
    this.#ends.push(() => sidecar.stop());
    return sidecar;
  }

  async worker(
    sidecar: Composed,
    instance: string,
    changes: Readonly<Record<string, unknown>> = {},
  ): Promise<LinkWorker> {
    const worker = await linkAs(sidecar, instance, changes);
    await eventually(() => sidecar.running.operator.stats().links.map((known) => known.instance)).toContain(instance);
    return worker;
  }

  /** A connected tab, whose session is the newest of one of these workers. */
  async tab(
    sidecar: Composed,
    workers: readonly LinkWorker[],
    options: { token?: string; cookie?: string } = {},
  ): Promise<Tab> {
    const { token = `tab-${++ids}`, cookie } = options;
    const before = workers.map(({ sessions }) => sessions.length);
    const client = await EngineClient.open(sidecar.url, {
      token,
      ...(cookie !== undefined && { headers: { Cookie: cookie } }),
    });
    this.#ends.push(() => client.end());
    await client.connect();
    const there = workers.flatMap(({ sessions }, index) => sessions.slice(before[index]))[0];
    if (there === undefined) throw new Error('no worker has the session');
    return { client, there };
  }

  /** A tab that shows a list. */
  async subscribed(
    sidecar: Composed,
    workers: readonly LinkWorker[],
    subscription: Partial<Subscription> = {},
  ): Promise<Tab> {
    const tab = await this.tab(sidecar, workers);
    await subscribe(sidecar, tab, subscription);
    return tab;
  }

  async end(): Promise<void> {
    for (const end of this.#ends.splice(0).toReversed()) await end();
  }
}

/** Subscribes, and waits until the sidecar knows. */
export async function subscribe(
  sidecar: Composed,
  { there }: Tab,
  subscription: Partial<Subscription> = {},
): Promise<void> {
  const before = sidecar.metrics.subscriptions;
  there.subscribe(subscription);
  await eventually(() => sidecar.metrics.subscriptions).toBeGreaterThan(before);
}

/** A tab's own event. */
export function event(n: number, options: { name?: string; path?: string } = {}): string {
  const { name = 'root.note.save', path = '/' } = options;
  return `42/_event,["event",{"name":"${name}","payload":{"n":${n}},"router_data":{"pathname":"${path}"}}]`;
}
