import { randomUUID } from 'node:crypto';
import proxyAddr from 'proxy-addr';
import type { Config } from '../config/index.ts';
import { formatAddress } from '../config/values.ts';
import { linkServer } from '../src/adapters/link/link-server.ts';
import { ShadowReports } from '../src/core/tiers/shadow-reports.ts';
import { LinkedWorkers } from '../src/core/links/linked-workers.ts';
import { SessionSource } from '../src/core/links/session-source.ts';
import { Gateway, type GatewayParts, type GatewaySettings } from '../src/core/gateway/gateway.ts';
import type { SharedBudget } from '../src/ports/budget.ts';
import { KeyedLimits } from '../src/core/limits/keyed-limits.ts';
import type { Clock } from '../src/ports/clock.ts';
import type { LinkServer, RulesMessage } from '../src/ports/links.ts';
import type { Logger } from '../src/ports/logger.ts';
import type { Metrics } from '../src/ports/metrics.ts';
import type { DependencyHealth, Operator, Stats } from '../src/ports/operator.ts';
import { keyring } from '../src/protocol/keys.ts';
import { opened } from './opened.ts';
import { watchForSecondSidecar } from './second-sidecar.ts';
import { doctorFacts } from './compose-doctor.ts';
import { composeBackends } from './compose-backends.ts';
import { composeSource, permissionsOf } from './compose-source.ts';
import { composeBus, type Live } from './compose-bus.ts';
import { composeLive, type PushGate } from './compose-live.ts';
import { composePeers } from './compose-peers.ts';
import { composeUsers } from './compose-users.ts';
import { loadTransport } from './transport.ts';
import { VERSION } from './version.ts';

export interface ComposeParts {
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly clock: Clock;
  /** Called when an operator asks for the end of the process. */
  readonly onDrainRequested: () => void;
}

/** A process that accepts traffic. */
export interface Running {
  readonly addresses: { readonly listen: string; readonly link: string | undefined };
  readonly operator: Operator;
  /** The change bus. */
  readonly live: Live;
  readonly pushes: PushGate;
  /** Takes what may change while running from another configuration. */
  reload(next: Config): void;
  /** From now on unready: balancers look elsewhere, while sessions are still accepted from those that have not noticed. */
  unready(): void;
  /** Waits for what is under way, closes every transport and listener. */
  stop(): Promise<void>;
}

/** How long a stop waits for handlers, queues and uploads. Milliseconds. */
const DRAIN_BOUND = 20_000;

/** Builds everything from a configuration and opens the listeners. Rejects with the system's error if one is taken. */
export async function compose(config: Config, parts: ComposeParts): Promise<Running> {
  const { clock, logger, metrics } = parts;
  const started = clock.monotonic();
  const workers = new LinkedWorkers(parts);
  const backends = await composeBackends(config, { ...parts, linkedHome: (token) => workers.homeOf(token) });
  const { pool } = backends;
  const links = makeLinks(config, parts);
  const instance = randomUUID();
  let current = config;
  const permissions = (): readonly string[] => permissionsOf(current.tiers.rules);
  const source = await composeSource(config, links, { ...parts, permissions });
  let served: Gateway | undefined;
  const users = await composeUsers(config, source, {
    ...parts,
    instance,
    permissions,
    onInvalidated: (what) => {
      if (config.auth.revoked === 'reconnect') served?.revoke(what);
    },
  });
  const peers = await composePeers(config, parts);
  const live = await composeBus(config, { ...parts, instance });
  const delivery = composeLive(config, { ...parts, bus: live.bus, links });
  const state = { accepting: false };
  const ready = (): boolean =>
    state.accepting && (workers.any || pool.backends.some((backend) => backend.state === 'up'));
  const { hub } = delivery;
  const wait = config.upstream.waitSeconds * 1000;
  const linkedParts = { workers, namespace: config.namespace, clock, metrics, live: hub, wait };
  const channels = new SessionSource(pool, links !== undefined && config.link.sessions ? linkedParts : undefined);
  const gateway = new Gateway(
    {
      eventPath: config.eventPath,
      uploadPath: config.uploadPath,
      namespace: config.namespace,
      proxyOther: config.proxyOther,
      payloadBytes: config.limits.payloadBytes,
      retention: config.sessionRetention * 1000,
    },
    gatewaySettings(config),
    {
      pool,
      channels,
      linkedPayload: () => workers.maxPayload,
      trusts: proxyAddr.compile([...config.trustedProxies]),
      clock,
      logger,
      metrics,
      ready,
      annotationKey: annotationKey(config),
      users: users.resolver,
      sharedLimits: sharedLimits(config, users.budget, clock),
      peers: peers.parts,
    },
  );
  delivery.serve(gateway);
  served = gateway;
  const isAlone = links !== undefined && live.bus.kind === 'memory';
  const endWatch = isAlone ? watchForSecondSidecar(links, parts) : undefined;
  links?.setRules(rulesMessage(config));
  const reports = new ShadowReports(metrics);
  if (links !== undefined) {
    links.listener = {
      workers: () => {
        gateway.workersChanged(links.workers);
        workers.update(links.workers);
        users.workersChanged(links.workers);
      },
      session: (change) => gateway.sessionChanged(change),
      invalidated: (what, id) => users.invalidate(what, id),
      lost: (worker, end) => {
        users.workerLost(worker.instance, end);
        delivery.workerLost(worker);
      },
      reported: (worker, report) => {
        if (current.tiers.shadow) reports.report(worker, report);
      },
      ...delivery.publishing,
    };
  }

  // A worker that counts in code points may be sent up to four bytes for each.
  const maxMessageBytes = config.limits.payloadBytes * 4;
  const compression = config.compression === false ? undefined : config.compression;
  const transport = await loadTransport(config.transport, { maxMessageBytes, compression }, logger);
  void pool.start();
  const link = links === undefined ? undefined : await opened('link.listen', config.link.listen, links.listen());
  const { port } = await opened('listen', config.listen, transport.listen(config.listen, gateway));
  await peers.announce(gateway.sidPrefix, port);
  state.accepting = true;

  const stats = (): Stats => ({
    name: config.name,
    version: VERSION,
    uptime: (clock.monotonic() - started) / 1000,
    sessions: gateway.sessions,
    queuedBytes: gateway.queuedBytes,
    draining: !state.accepting,
    backends: pool.backends.map(({ upstream, state: health, sessions }) => ({
      url: upstream.url,
      state: health,
      sessions,
    })),
    links: (links?.workers ?? []).map(({ manifest, since, drainBy, load }) => {
      const { instance, host, pid, build, versions } = manifest;
      const held = workers.sessions.get(instance) ?? 0;
      const now = { sessions: held, inFlight: load.inFlight, draining: drainBy !== undefined };
      return { instance, host, pid, build, versions, ...now, age: (clock.monotonic() - since) / 1000 };
    }),
  });
  const health = (): DependencyHealth[] => [
    ...pool.backends.map(({ upstream, state: health }) => {
      // One of several workers may be away: the others carry its sessions.
      const required = pool.backends.length === 1;
      return { name: `backend ${upstream.url}`, state: health, required, detail: '' };
    }),
    ...(links === undefined ? [] : [linkHealth(links)]),
    ...users.health(),
    ...live.health(),
  ];

  return {
    live,
    pushes: delivery.gate,
    addresses: { listen: `http://${formatAddress({ ...config.listen, port })}`, link },
    operator: {
      ready,
      health,
      stats,
      doctor: () => doctorFacts(current, links?.workers ?? [], reports),
      sessions: (limit) => gateway.summaries(limit),
      closeSession: (id, reason) => gateway.closeSession(id, reason),
      drain: parts.onDrainRequested,
      userModel: () => users.model,
      invalidate: (what) => {
        users.invalidate(what);
        return users.resolver !== undefined;
      },
    },
    reload(next) {
      delivery.reload(next);
      gateway.configure(gatewaySettings(next));
      const message = rulesMessage(next);
      const changed = JSON.stringify(message) !== JSON.stringify(rulesMessage(current));
      const watching = next.tiers.shadow ? (links?.workers ?? []) : [];
      if (changed) reports.forget(new Set(watching.map(({ manifest }) => manifest.instance)));
      const named = JSON.stringify(permissions());
      current = next;
      links?.setRules(message);
      // After the rules: a worker that is asked from now on looks for the new ones.
      if (JSON.stringify(permissions()) !== named) users.resolver?.permissionsChanged();
    },
    unready() {
      state.accepting = false;
    },
    async stop() {
      state.accepting = false;
      endWatch?.();
      await gateway.drain(DRAIN_BOUND);
      await peers.close();
      transport.stopListening();
      await links?.close();
      await users.close();
      delivery.close();
      await live.close();
      await source?.close?.();
      backends.stop();
      await transport.close();
    },
  };
}

function gatewaySettings(config: Config): GatewaySettings {
  const { name, origins, tiers, limits, auth } = config;
  return {
    name,
    origins,
    limits,
    asksWorkers: auth.source === 'companion',
    cookie: auth.cookie,
    loginUrl: auth.loginUrl,
    shadow: tiers.shadow,
    tiers: { mode: tiers.mode, rules: tiers.rules, resolve: tiers.resolve },
  };
}

function rulesMessage({ tiers }: Config): RulesMessage {
  const { mode, shadow, rules } = tiers;
  return { mode, shadow, rules, resolve: tiers.resolve !== undefined, permissions: permissionsOf(tiers.rules) };
}

/** Keys in memory of each shared rate. */
const MAX_SHARED_KEYS = 50_000;

function sharedLimits(config: Config, budget: SharedBudget | undefined, clock: Clock): GatewayParts['sharedLimits'] {
  const { addressEventsPerSecond, userEventsPerSecond } = config.limits;
  const limits = (scope: string, perSecond: number): KeyedLimits | undefined => {
    if (perSecond === 0) return undefined;
    return new KeyedLimits({ limit: { perSecond, burst: 2 * perSecond }, scope, budget, clock, max: MAX_SHARED_KEYS });
  };
  return { address: limits('address', addressEventsPerSecond), user: limits('user', userEventsPerSecond) };
}

function annotationKey({ secret, previousSecrets }: Config): ReturnType<typeof keyring>['current'] | undefined {
  return secret === undefined ? undefined : keyring(secret, previousSecrets, 'annotation').current;
}

function makeLinks(config: Config, parts: ComposeParts): LinkServer | undefined {
  const { secret, previousSecrets, name } = config;
  if (secret === undefined) {
    parts.logger.warn(
      {},
      'no secret: workers cannot link and events are not annotated; set BRIDGEHEAD_SECRET here and in the workers',
    );
    return undefined;
  }
  const keys = keyring(secret, previousSecrets, 'link');
  return linkServer({ listen: config.link.listen, name, instance: randomUUID() }, { ...parts, keys });
}

function linkHealth(links: LinkServer): DependencyHealth {
  const { length } = links.workers;
  const detail = length === 0 ? 'no worker has linked: tiers are observed only' : `${length} linked`;
  return { name: 'links', state: length === 0 ? 'starting' : 'up', required: false, detail };
}
