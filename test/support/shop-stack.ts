import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import type { ConfigInput } from '../../config/index.ts';
import { builtFrontend, frontendFor } from '../../tools/frontend.ts';
import { startBridgehead } from '../../tools/bridgehead.ts';
import { freePorts } from '../../tools/ports.ts';
import { pythonEnv, type ReflexVersion } from '../../tools/python-env.ts';
import { startShop, type Shop } from '../../tools/shop.ts';

/** One line of the shop's /debug/events: what an event met inside Python. */
export interface DebugEvent {
  readonly number: number;
  readonly name: string;
  readonly tier: string;
  readonly source: string | null;
  readonly origin: string | null;
  readonly annotation: string | null;
  readonly user: string | null;
  /** Where SHOP_DEBUG_RIGHTS is set. */
  readonly rights: Rights | null;
  readonly bridge_queries: number;
  readonly queries: number;
  readonly router_data_keys: readonly string[];
}

/** Who a user is and what they may, in an event or to Django itself. */
export interface Rights {
  readonly name: string;
  readonly first_name: string | null;
  readonly last_name: string | null;
  readonly email: string | null;
  readonly is_active: boolean;
  readonly is_staff: boolean;
  readonly is_superuser: boolean;
  /** Of `shop.change_product`. */
  readonly has_perm: boolean;
}

export interface ShopStack {
  readonly shop: Shop;
  /** Addresses of its listeners, and everything it has logged. */
  readonly sidecar: { readonly listen: string; readonly admin: string; readonly log: () => string };
  /** The built pages for this port, or undefined for another Reflex than the frontend's. */
  readonly frontend: string | undefined;
  /** What links the worker to the sidecar. */
  readonly shopEnv: Readonly<Record<string, string>>;
  events(): Promise<DebugEvent[]>;
  stop(): Promise<void>;
}

export interface ShopStackOptions {
  readonly reflex?: ReflexVersion;
  /** The port that browsers use; default: the sidecar's own. */
  readonly publicPort?: number;
  readonly config?: ConfigInput;
  readonly shopEnv?: Readonly<Record<string, string>>;
  readonly databaseUrl?: string;
  readonly redisUrl?: string;
}

/** The real shop behind a real sidecar, linked by a secret of their own. */
export async function startShopStack(options: ShopStackOptions = {}): Promise<ShopStack> {
  const secret = randomBytes(32).toString('base64url');
  const [shopPort = 0, listenPort = 0, linkPort = 0] = await freePorts(3);
  const python = await pythonEnv({ reflex: options.reflex ?? '0.10' });
  const hasFrontend = (options.reflex ?? '0.10') === '0.10';
  const frontend = hasFrontend
    ? await frontendFor(await builtFrontend(python), options.publicPort ?? listenPort)
    : undefined;
  const settings = { backends: [`http://127.0.0.1:${shopPort}`], proxyOther: true, secret, ...options.config };
  const bridgehead = await startBridgehead({ port: listenPort, linkPort, settings });
  const sidecar = {
    listen: bridgehead.url,
    admin: bridgehead.adminUrl,
    log: () => readFileSync(bridgehead.logFile, 'utf8'),
  };
  const shopEnv = { BRIDGEHEAD_SECRET: secret, BRIDGEHEAD_LINK_URL: `tcp://127.0.0.1:${linkPort}`, ...options.shopEnv };
  const shop = await startShop({
    python,
    port: shopPort,
    debug: true,
    ...(frontend !== undefined && { frontend }),
    ...(options.databaseUrl !== undefined && { databaseUrl: options.databaseUrl }),
    ...(options.redisUrl !== undefined && { redisUrl: options.redisUrl }),
    env: shopEnv,
  });
  return {
    shop,
    sidecar,
    frontend,
    shopEnv,
    events: async () => {
      const answer = (await (await fetch(`${shop.url}/debug/events`)).json()) as { events: DebugEvent[] };
      return answer.events;
    },
    stop: async () => {
      await shop.stop();
      await bridgehead.stop();
      if (frontend !== undefined) await rm(frontend, { recursive: true, force: true });
    },
  };
}
