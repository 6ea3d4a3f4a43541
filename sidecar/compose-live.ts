import type { Config } from '../config/index.ts';
import type { Gateway } from '../src/core/gateway/gateway.ts';
import { CrashGaps } from '../src/core/live/crash-gaps.ts';
import { LiveHub } from '../src/core/live/live-hub.ts';
import { Pushes, type PushRules } from '../src/core/live/pushes.ts';
import { compileGlob } from '../src/core/tiers/glob.ts';
import type { ChangeBus } from '../src/ports/change-bus.ts';
import type { Clock } from '../src/ports/clock.ts';
import type { LinkEvents, LinkServer } from '../src/ports/links.ts';
import type { Logger } from '../src/ports/logger.ts';
import type { Metrics } from '../src/ports/metrics.ts';
import type { Manifest } from '../src/protocol/manifest.ts';

/** What may be pushed. */
export interface PushGate {
  /** As they are now. */
  readonly rules: PushRules;
  /** Whether the app has this `module.Class.handler`; undefined: no worker has said. */
  hasHandler(name: string): boolean | undefined;
}

/** What brings changes from workers to the bus, and changes and pushes from the bus to workers and sessions. */
export interface LiveDelivery {
  readonly hub: LiveHub;
  /** What workers publish. */
  readonly publishing: Pick<LinkEvents, 'published' | 'missed'>;
  readonly gate: PushGate;
  /** It may not have published all that it committed. */
  workerLost(worker: Manifest): void;
  /** From now on pushes reach its sessions. */
  serve(gateway: Gateway): void;
  reload(next: Config): void;
  close(): void;
}

export interface LiveDeliveryParts {
  readonly bus: ChangeBus;
  readonly links: LinkServer | undefined;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

export function composeLive(config: Config, parts: LiveDeliveryParts): LiveDelivery {
  const { bus, links } = parts;
  const hub = new LiveHub({ coalesceMs: config.live.coalesceMs }, { ...parts, watchers: links });
  const crashGaps = new CrashGaps({ ...parts, linked: () => links?.workers ?? [] });
  const leaves = [bus.subscribe(hub), () => crashGaps.close()];
  let rules = rulesOf(config);
  let served: Gateway | undefined;
  return {
    hub,
    publishing: {
      published: (changes) => taken(bus.publish(changes)),
      missed: (gap) => taken(bus.publishGap(gap)),
    },
    workerLost: (worker) => crashGaps.lost(worker),
    gate: {
      get rules() {
        return rules;
      },
      hasHandler: (name) => (served?.knowsHandlers === true ? served.fullName(name) !== undefined : undefined),
    },
    serve(gateway) {
      served = gateway;
      const pushes = new Pushes({
        ...parts,
        sessions: gateway.pushable,
        namespace: config.namespace,
        rules: () => rules,
        fullName: (handler) => gateway.fullName(handler),
      });
      leaves.push(bus.subscribe({ changes: () => undefined, gap: () => undefined, push: (push) => pushes.push(push) }));
    },
    reload(next) {
      rules = rulesOf(next);
    },
    close() {
      for (const leave of leaves) leave();
      hub.close();
    },
  };
}

function rulesOf({ live }: Config): PushRules {
  const globs = live.push.map(compileGlob);
  return { scripts: live.scripts, allows: (handler) => globs.some((glob) => glob.matches(handler)) };
}

/** Whether the bus has it: the worker is told, and sends it again where not. */
async function taken(publishing: Promise<void>): Promise<boolean> {
  try {
    await publishing;
    return true;
  } catch {
    return false;
  }
}
