/**
 * The package's main export: what a configuration file and a program that publishes need. It loads nothing: the schema (zod) is
 * loaded by load.ts, in the process that reads the file, a driver when something is published.
 */
import type { Publisher, PublisherOptions } from '../src/publisher.ts';
import type { ConfigInput } from './schema.ts';

export type { ResolvableEvent, ResolvableSession, ResolveFunction, TierRule } from '../src/ports/index.ts';
export type { PublishedChange, PublishedPush, Publisher, PublisherOptions } from '../src/publisher.ts';
export type { Config, ConfigInput } from './schema.ts';

/** Gives a configuration file its types. Returns what it is given. */
export function defineConfig(config: ConfigInput): ConfigInput {
  return config;
}

/** Publishes model changes and pushes from any program of the deployment. It connects when it first publishes. */
export function createPublisher(options: PublisherOptions): Publisher {
  let opened: Promise<Publisher> | undefined;
  const open = async (): Promise<Publisher> => (await import('../src/publisher.ts')).createPublisher(options);
  return {
    publish: async (changes) => (await (opened ??= open())).publish(changes),
    push: async (push) => (await (opened ??= open())).push(push),
    close: async () => (await opened)?.close(),
  };
}
