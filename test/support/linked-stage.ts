import type { ConfigInput } from '../../config/schema.ts';
import type { Clock } from '../../src/ports/clock.ts';
import { startComposed, type Composed } from './composed.ts';
import { EngineClient, type EngineClientOptions } from './engine-client.ts';
import { eventually } from './eventually.ts';
import { LinkWorker, type LinkWorkerSession } from './link-worker.ts';

export const SECRET = 'a secret of more than thirty-two bytes, for tests';
export const NAMESPACE = '/_event';

/** Sidecars, played workers and clients of one test; `end` takes all of them away. */
export class LinkedStage {
  readonly #cleanups: (() => unknown)[] = [];

  async end(): Promise<void> {
    for (const cleanup of this.#cleanups.splice(0).toReversed()) await cleanup();
  }

  async sidecar(config: ConfigInput = {}, options: { clock?: Clock } = {}): Promise<Composed> {
    const own: ConfigInput = { secret: SECRET, backends: ['http://127.0.0.1:9'], auth: { source: 'none' }, ...config };
    const sidecar = await startComposed(own, options);
    this.#cleanups.push(() => sidecar.stop());
    return sidecar;
  }

  /** A worker that is linked with the sidecar. */
  async worker(
    sidecar: Composed,
    instance: string,
    changes: Readonly<Record<string, unknown>> = {},
  ): Promise<LinkWorker> {
    const worker = await linkAs(sidecar, instance, changes);
    await eventually(() => sidecar.running.operator.stats().links.map((known) => known.instance)).toContain(instance);
    return worker;
  }

  /** A client whose transport is open. */
  async client(sidecar: Composed, token = 'tab', options: EngineClientOptions = {}): Promise<EngineClient> {
    const client = await EngineClient.open(sidecar.url, { ...options, token });
    this.#cleanups.push(() => client.end());
    return client;
  }

  /** A client that is connected to Reflex's namespace. */
  async enter(sidecar: Composed, token = 'tab'): Promise<EngineClient> {
    const client = await this.client(sidecar, token);
    await client.connect();
    return client;
  }
}

/** The worker of this name links, for the first time or once more; the sidecar may have yet to see to it. */
export function linkAs(
  sidecar: Composed,
  instance: string,
  changes: Readonly<Record<string, unknown>> = {},
): Promise<LinkWorker> {
  return LinkWorker.link(sidecar.running.addresses.link ?? '', SECRET, {
    instance,
    tokens: `tokens-of-${instance}`,
    ...changes,
  });
}

export function event(n: number, name = 'root.note.save'): string {
  return `42${NAMESPACE},["event",{"name":"${name}","payload":{"n":${n}},"router_data":{"pathname":"/"}}]`;
}

/** The numbers in the events a session's worker got. */
export function numbers(session: LinkWorkerSession): number[] {
  return session.texts.flatMap((text) => /"n":(\d+)/.exec(text)?.[1] ?? []).map(Number);
}

export function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, n) => n);
}

export function toasts(client: EngineClient): string[] {
  return client.messages.filter((text) => text.includes('__toast'));
}

/** Cuts a client off; resolves once the sidecar keeps its session: the client knows of its own end before that. */
export async function cutOff(sidecar: Composed, client: EngineClient): Promise<void> {
  client.raw.destroy();
  await eventually(() => sidecar.running.operator.sessions(20).some(({ away }) => away)).toBe(true);
}
