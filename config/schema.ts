import { z } from 'zod';
import type { ResolveFunction } from '../src/ports/index.ts';
import { key } from './about.ts';
import { PRESET_NAMES } from './presets.ts';
import { tierRule } from './rule.ts';
import {
  address,
  allowedOrigin,
  backendUrl,
  httpPath,
  secretText,
  sidecarUrl,
  tcpAddress,
  trustedProxy,
  urlWith,
} from './values.ts';

const BIG = 1_000_000_000_000;

/** A whole number that may be 0 for "no limit". */
const limit = (maximum = BIG) => z.int().min(0).max(maximum);

const tiers = z.strictObject({
  mode: key(z.enum(['inherit', 'full', 'smart', 'none']).default('inherit'), {
    description: "The tier where nothing else decides. `inherit` takes the app's own RX_EVENT_BRIDGE_MODE.",
    reload: true,
  }),
  rules: key(z.array(tierRule).max(10_000).default([]), {
    description: 'Rules by state, handler and path; the first that matches decides.',
    reload: true,
  }),
  resolver: key(z.string().min(1).optional(), {
    description:
      'A module and its export that set the tier, `./resolver.mjs#resolve`, relative to the configuration file.',
    reload: true,
  }),
  resolve: key(z.custom<ResolveFunction>((value) => typeof value === 'function', 'must be a function').optional(), {
    description: 'The same as a function, in TypeScript and JavaScript files: `resolve(event, session)`.',
    reload: true,
  }),
  shadow: key(z.boolean().default(false), {
    description:
      'Decide and report, change nothing: events are forwarded as they come, nobody is refused, and `bridgehead doctor` tells what the rules would have done.',
    reload: true,
  }),
});

const auth = z.strictObject({
  source: key(z.enum(['companion', 'django-db', 'none']).default('companion'), {
    description:
      "Who says which user a session belongs to. `django-db` reads tables alone: it is for user models whose `is_active`, default manager and session hash are Django's own. A linked worker tells where that is not so, and then every user is left to the workers.",
  }),
  cookie: key(z.string().min(1).optional(), {
    description: "Name of Django's session cookie. Unset: the app's own.",
  }),
  loginUrl: key(z.string().min(1).optional(), {
    description: "Where a refused user is sent. Unset: the app's own LOGIN_URL.",
  }),
  django: z
    .strictObject({
      secretKey: key(z.string().min(1).optional(), {
        description: "Django's SECRET_KEY, for source django-db.",
        secret: true,
      }),
      secretKeyFallbacks: key(z.array(z.string().min(1)).default([]), {
        description: "Django's SECRET_KEY_FALLBACKS.",
        secret: true,
      }),
      userModel: key(
        z
          .string()
          .regex(/^\w+\.\w+$/, { error: 'must be app_label.model' })
          .default('auth.user'),
        {
          description:
            'The user model, for source django-db, and for who a primary key alone is at `POST /api/auth/invalidate` where no worker tells.',
        },
      ),
      userTable: key(z.string().min(1).optional(), {
        description: "The user model's table. Unset: Django's own name for it.",
      }),
      sessionTable: key(z.string().min(1).default('django_session'), {
        description: 'The table of sessions, where a session engine of your own has another.',
      }),
      backends: key(z.array(z.string().min(1)).min(1).max(20).default(['django.contrib.auth.backends.ModelBackend']), {
        description:
          "AUTHENTICATION_BACKENDS whose users source django-db answers for: those that let in whom Django's ModelBackend lets in, and grant nothing of their own. Sessions of others are left to the worker.",
      }),
    })
    .prefault({}),
  revoked: key(z.enum(['keep', 'reconnect']).default('keep'), {
    description:
      'What becomes of open tabs whose user lost access: logged out, gone, or with fewer rights or groups than before. `reconnect` closes their transport, so that they hydrate anew at once; `keep` leaves the page as it is. What they do is held to the rules either way.',
  }),
  cache: z
    .strictObject({
      ttl: key(z.number().min(0).max(86_400).default(60), {
        description: 'How long an answer holds, from when it was made. 0 turns the cache off.',
        unit: 'seconds',
      }),
      max: key(z.int().min(0).max(100_000_000).default(50_000), {
        description: 'Entries in memory.',
        unit: 'entries',
      }),
    })
    .prefault({}),
});

/** With both dots: a pattern without them would never match, or match more than it seems. */
const pushPattern = z.string().regex(/^\*$|^[^\s.]+(\.[^\s.]+){1,20}$/, {
  error: 'must be module.Class.handler, with * and ? as wildcards',
});

const live = z.strictObject({
  bus: key(z.enum(['memory', 'redis', 'redis-streams', 'postgres']).optional(), {
    description:
      'What carries changes between processes; see docs/LIVE.md. Unset: `redis` where there is a Redis, else `memory`, for a single sidecar.',
  }),
  coalesceMs: key(limit(60_000).default(50), {
    description: 'Changes of one row within this time become one.',
    unit: 'milliseconds',
  }),
  push: key(z.array(pushPattern).max(1_000).default([]), {
    description:
      'Handlers that `POST /api/push` may start in sessions: globs of `module.Class.handler`, such as `shop.orders.OrderState.refresh`. Each sidecar asks its own list.',
    reload: true,
  }),
  scripts: key(z.boolean().default(false), {
    description: 'Whether `POST /api/push` may run JavaScript in browsers.',
    reload: true,
  }),
  outbox: key(z.union([z.literal('auto'), z.boolean()]).default('auto'), {
    description: 'Bring the PostgreSQL outbox to the bus. `auto`: where there is a database and its table exists.',
  }),
});

const limits = z.strictObject({
  payloadBytes: key(z.int().min(1024).max(100_000_000).default(1_000_000), {
    description: 'Largest message of a client. A smaller value that the worker announces holds instead.',
    unit: 'bytes',
  }),
  eventsPerSecond: key(z.number().min(0).max(1_000_000).default(200), {
    description: 'Events of one session; more wait in its queue. 0: no limit.',
    unit: 'events/s',
    reload: true,
  }),
  eventBurst: key(limit(1_000_000).default(400), {
    description: 'Events that may come at once before the rate holds. 0: no limit.',
    unit: 'events',
    reload: true,
  }),
  userEventsPerSecond: key(z.number().min(0).max(1_000_000).default(0), {
    description:
      'Events of all sessions of one user, twice as many at once; shared through Redis where there is one. 0: no limit.',
    unit: 'events/s',
  }),
  addressEventsPerSecond: key(z.number().min(0).max(1_000_000).default(0), {
    description: 'The same for all sessions of one client address.',
    unit: 'events/s',
  }),
  handshakesPerSecond: key(limit(1_000_000).default(0), {
    description: 'New sessions from one client address, four times as many at once; further ones get 429. 0: no limit.',
    unit: 'sessions/s',
    reload: true,
  }),
  sessions: key(limit(10_000_000).default(20_000), {
    description: 'Sessions at once; further ones get 503. 0: no limit.',
    unit: 'sessions',
    reload: true,
  }),
  sessionsPerUser: key(limit(1_000_000).default(0), {
    description:
      "Sessions of one user in this sidecar; one more and the user's oldest is told by a toast and disconnected, until its page is looked at again. Counted from the first event whose tier or rule asks for the user. 0: no limit.",
    unit: 'sessions',
    reload: true,
  }),
  queueBytes: key(limit().default(1_000_000), {
    description:
      'What may wait for one session, each way. One message within payloadBytes always passes an empty queue. 0: no limit.',
    unit: 'bytes',
    reload: true,
  }),
  totalQueueBytes: key(limit().default(256_000_000), {
    description:
      'What may wait for all sessions together, for workers and for clients, slow polling requests included. Beyond half of it, nothing more is kept for clients that are away; beyond three quarters, clients that leave most unread are closed. 0: no limit.',
    unit: 'bytes',
    reload: true,
  }),
  uploadBytes: key(limit().default(0), {
    description: 'Largest upload; 413 beyond. 0: no limit.',
    unit: 'bytes',
    reload: true,
  }),
});

const metrics = z.strictObject({
  log: key(
    z
      .union([
        z.literal(false),
        z.strictObject({
          intervalSeconds: key(z.number().min(1).max(86_400).default(60), {
            description: 'Time between two lines.',
            unit: 'seconds',
            reload: true,
          }),
          level: key(z.enum(['debug', 'info', 'warn', 'error']).default('info'), {
            description: 'Level of the line.',
            reload: true,
          }),
          logger: key(z.string().min(1).default('bridgehead.metrics'), {
            description: "The line's logger name.",
            reload: true,
          }),
        }),
      ])
      .prefault({}),
    { description: 'The periodic line of figures in the log; `false` turns it off.', reload: true },
  ),
});

const admin = z.strictObject({
  listen: key(tcpAddress.prefault('127.0.0.1:8081'), {
    description: 'Health, metrics, the dashboard and the API. Off loopback and without apiKey it serves only health.',
  }),
  apiKey: key(z.string().min(1).optional(), { description: 'Bearer key; every POST needs it.', secret: true }),
  hosts: key(z.array(z.string().min(1)).default([]), {
    description: 'Host names by which the admin listener may be called, beside loopback names and its own address.',
  }),
});

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

/** The configuration file, and every other layer. Rules that span keys are in consistency.ts. */
export const configSchema = z.strictObject({
  name: key(
    z
      .string()
      .regex(/^[\w.-]{1,64}$/, { error: 'must be 1 to 64 letters, digits, dots, dashes or underscores' })
      .default('default'),
    { description: 'The deployment: prefixes Redis keys and channels, bound into annotations.' },
  ),
  preset: key(z.enum(PRESET_NAMES).optional(), {
    description: 'A table of values for the keys that are not set explicitly; see "Presets".',
  }),
  listen: key(tcpAddress.prefault('127.0.0.1:8080'), { description: 'The listener for browsers.' }),
  transport: key(z.enum(['auto', 'node', 'uws']).default('node'), {
    description:
      'Who accepts connections: `node`, `uws` (uWebSockets.js, which you install yourself beside bridgehead), `auto` (uws where it can be loaded, else node). What uWebSockets.js leaves undone is in ARCHITECTURE.md.',
  }),
  backends: key(z.array(backendUrl).min(1).prefault(['http://127.0.0.1:8000']), {
    description: 'Python workers for direct sessions, uploads and proxied paths.',
  }),
  eventPath: key(httpPath.default('/_event'), { description: "HTTP path of the app's Engine.IO endpoint." }),
  uploadPath: key(httpPath.default('/_upload'), { description: 'HTTP path of uploads.' }),
  namespace: key(httpPath.default('/_event'), { description: "The app's Socket.IO namespace." }),
  proxyOther: key(z.boolean().default(false), {
    description: 'Pass every other path to the backend (demos, one box).',
  }),
  secret: key(secretText.optional(), {
    description: 'Signs annotations and proves links, at least 32 bytes. Unset: no links, no annotations.',
    secret: true,
  }),
  previousSecrets: key(z.array(secretText).max(10).default([]), {
    description: 'Accepted while the secret is being changed.',
    secret: true,
  }),
  link: z
    .strictObject({
      listen: key(address.prefault('127.0.0.1:8082'), {
        description:
          'Where workers with the companion dial in: host:port or unix:/path. Opened where there is a secret.',
      }),
      sessions: key(z.boolean().default(true), {
        description: 'Carry sessions over links. `false`: links carry control alone.',
      }),
    })
    .prefault({}),
  tiers: tiers.prefault({}),
  auth: auth.prefault({}),
  live: live.prefault({}),
  limits: limits.prefault({}),
  compression: key(
    z
      .union([
        z.literal(false),
        z.strictObject({
          threshold: key(z.int().min(0).max(100_000_000).default(1024), {
            description: 'Smaller messages are sent as they are.',
            unit: 'bytes',
          }),
        }),
      ])
      .default(false),
    { description: 'permessage-deflate towards browsers, without context takeover. `{}` turns it on.' },
  ),
  upstream: z
    .strictObject({
      waitSeconds: key(z.number().min(0).max(3600).default(30), {
        description: 'How long events wait for a worker before the client is told.',
        unit: 'seconds',
      }),
    })
    .prefault({}),
  sessionRetention: key(z.number().min(0).max(3600).default(30), {
    description: 'How long a session outlives an abnormal loss of its connection.',
    unit: 'seconds',
  }),
  shutdownDelay: key(z.number().min(0).max(3600).default(0), {
    description: 'Between "not ready" and closing, so that balancers notice.',
    unit: 'seconds',
  }),
  origins: key(z.array(allowedOrigin).prefault(['same-origin']), {
    description: 'Origins that may open sessions: `same-origin`, `scheme://host[:port]`, `*`.',
    reload: true,
  }),
  peerUrl: key(sidecarUrl.optional(), {
    description:
      'Where the other sidecars of the deployment reach `listen`, for polling requests that the balancer brings to the wrong one: http://host:port. Unset: the address in `listen`, unless that is 0.0.0.0 or [::]. Used where there are a Redis and a secret.',
  }),
  trustedProxies: key(z.array(trustedProxy).default(['loopback']), {
    description: 'Peers whose X-Forwarded-* headers are believed.',
  }),
  metrics: metrics.prefault({}),
  admin: admin.prefault({}),
  redis: z
    .strictObject({
      url: key(
        urlWith(
          'redis',
          'rediss',
          'redis+sentinel',
          'rediss+sentinel',
          'redis+cluster',
          'rediss+cluster',
          'unix',
        ).optional(),
        {
          description: 'Redis for the shared cache, limits and bus.',
          secret: true,
        },
      ),
    })
    .prefault({}),
  database: z
    .strictObject({
      url: key(urlWith('postgresql', 'postgres').optional(), {
        description: 'PostgreSQL for auth source django-db, the bus and the outbox.',
        secret: true,
      }),
      replicaUrl: key(urlWith('postgresql', 'postgres').optional(), {
        description: 'Read replica for auth source django-db.',
        secret: true,
      }),
      listenUrl: key(urlWith('postgresql', 'postgres').optional(), {
        description: 'For LISTEN, where `url` goes through PgBouncer.',
        secret: true,
      }),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: key(z.enum(LOG_LEVELS).default('info'), { description: 'The least level that is logged.', reload: true }),
    })
    .prefault({}),
});

type DeepReadonly<T> = T extends (...parameters: never[]) => unknown
  ? T
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T;

/** What a configuration file may hold. */
export type ConfigInput = DeepReadonly<z.input<typeof configSchema>>;

/** The configuration in force: complete, checked and frozen. `tiers.resolve` also holds a loaded `tiers.resolver`. */
export type Config = DeepReadonly<z.output<typeof configSchema>>;
