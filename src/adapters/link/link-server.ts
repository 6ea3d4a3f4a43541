import { createServer, type Server, type Socket } from 'node:net';
import type { Clock } from '../../ports/clock.ts';
import type { LinkEvents, LinkedWorker, LinkServer, RulesMessage } from '../../ports/links.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { Keyring } from '../../protocol/keys.ts';
import { readingInto } from './accepted-socket.ts';
import { removeStaleSocket } from './stale-socket.ts';
import { WorkerLink, type LinkIdentity } from './worker-link.ts';

export interface LinkServerOptions {
  /** `host:port`, or `unix:` and a path. */
  readonly listen: { readonly host: string; readonly port: number } | { readonly path: string };
  /** The deployment's name, and this sidecar's own id. */
  readonly name: string;
  readonly instance: string;
}

/** A replica may lag behind by as much as this. Milliseconds. */
const PRIMARY_AFTER_INVALIDATION = 30_000;
/** Links at once; a deployment has a few dozen workers. */
const MAX_LINKS = 1_000;

/** Accepts workers' links (docs/PROTOCOL.md, "Link"). */
export function linkServer(
  options: LinkServerOptions,
  parts: { keys: Keyring; clock: Clock; logger: Logger; metrics: Metrics },
): LinkServer {
  const { logger, metrics } = parts;
  const identity: LinkIdentity = { name: options.name, instance: options.instance, keys: parts.keys };
  const links = new Set<WorkerLink>();
  let rules: { readonly version: number; readonly message: RulesMessage } | undefined;

  let listener: LinkEvents = {
    workers: () => undefined,
    session: () => undefined,
    invalidated: () => undefined,
    lost: () => undefined,
    reported: () => undefined,
    published: () => Promise.resolve(false),
    missed: () => Promise.resolve(false),
  };
  let turn = 0;
  // Nobody knows what was invalidated just before the start.
  let primaryUntil = parts.clock.monotonic() + PRIMARY_AFTER_INVALIDATION;

  const accept = (socket: Socket): void => {
    const peer = socket.remoteAddress ?? 'unix socket';
    const link: WorkerLink = new WorkerLink(socket, identity, parts, {
      ready: (worker) => {
        metrics.linkState('up');
        logger.info(aboutWorker(worker), 'worker linked');
        if (rules !== undefined) link.sendRules(rules.version, rules.message);
        // A worker has one link at a time: an older one is half open, and its sessions are to go on over this one.
        const { instance } = worker.manifest;
        for (const other of links) if (other !== link && other.worker?.manifest.instance === instance) other.replaced();
        listener.workers();
      },
      changed: () => listener.workers(),
      session: (change) => listener.session(change),
      invalidated: (what, id) => listener.invalidated(what, id),
      reported: (instance, report) => listener.reported(instance, report),
      published: (changes) => listener.published(changes),
      missed: (gap) => listener.missed(gap),
      refused: (code, reason) => {
        metrics.linkState('refused');
        logger.warn({ peer, code, reason }, 'link refused');
      },
      closed: (worker, reason, end) => {
        links.delete(link);
        if (worker === undefined) return;
        metrics.linkState('down');
        logger.warn({ ...aboutWorker(worker), reason }, 'worker unlinked');
        const { instance } = worker.manifest;
        const isLinked = [...links].some((other) => other.worker?.manifest.instance === instance);
        if (end !== undefined && !isLinked) listener.lost(worker.manifest, end);
        listener.workers();
      },
    });
    links.add(link);
  };
  const server = createServer({ noDelay: true, keepAlive: true, pauseOnConnect: true }, (socket) =>
    accept(readingInto(socket)),
  );
  server.maxConnections = MAX_LINKS;

  return {
    listen: () => listening(server, options.listen),
    get workers() {
      return [...links].map((link) => link.worker).filter((worker) => worker !== undefined);
    },
    setRules(message) {
      rules = { version: (rules?.version ?? 0) + 1, message };
      for (const link of links) if (link.worker !== undefined) link.sendRules(rules.version, message);
    },
    set listener(next: LinkEvents) {
      listener = next;
    },
    invalidated: () => {
      primaryUntil = parts.clock.monotonic() + PRIMARY_AFTER_INVALIDATION;
    },
    tell(changes) {
      for (const { live } of links) live.tell(changes);
    },
    tellGap(gap) {
      for (const { live } of links) live.tellGap(gap);
    },
    async resolve(cookie, signal) {
      const primary = parts.clock.monotonic() < primaryUntil;
      const able = [...links].filter((link) => link.worker?.manifest.auth === true);
      // The next in turn, and one more where that one is lost or says it cannot.
      for (let tries = 0; tries < Math.min(2, able.length); tries++) {
        const result = await able[turn++ % able.length]?.ask(cookie, primary, signal);
        if (result !== undefined && result.kind !== 'unavailable') return result;
        if (signal.aborted) break;
      }
      return { kind: 'unavailable', cause: able.length === 0 ? 'no worker is linked' : 'no worker could tell' };
    },
    async close() {
      const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
      for (const link of links) link.leave('shutting down');
      await closed;
    },
  };
}

function aboutWorker({ manifest }: LinkedWorker): object {
  const { instance, host, pid, build, versions } = manifest;
  return { worker: instance, host, workerPid: pid, build, reflex: versions['reflex'] ?? null };
}

async function listening(server: Server, listen: LinkServerOptions['listen']): Promise<string> {
  if ('path' in listen) await removeStaleSocket(listen.path);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(listen, () => {
      server.removeListener('error', reject);
      const address = server.address();
      if (typeof address === 'object' && address !== null) {
        const host = address.family === 'IPv6' ? `[${address.address}]` : address.address;
        resolve(`tcp://${host}:${address.port}`);
      } else resolve(`unix:${address ?? ''}`);
    });
  });
}
