import { randomUUID } from 'node:crypto';
import { systemClock } from '../../src/ports/clock.ts';
import type { ChangeBus } from '../../src/ports/change-bus.ts';
import { PushError, readPush, type Push } from '../../src/protocol/push.ts';
import type { PushGate } from '../compose-live.ts';
import { parseJson, readBody } from './body.ts';
import { IdempotentReplies } from './idempotency.ts';
import { reachingBus } from './reaching-bus.ts';
import { AdminError, json } from './reply.ts';
import type { Route } from './routes.ts';

/** A payload or a script, escaped, and what stands around it. Bytes. */
const MAX_BODY = 131_072;

/** Pushes: handlers, toasts, redirects and scripts in the sessions of somebody. */
export function pushRoutes(bus: ChangeBus, gate: PushGate): Route[] {
  const replies = new IdempotentReplies();
  return [
    {
      method: 'POST',
      path: '/api/push',
      access: 'write',
      handle: async ({ request }) => {
        const body = await readBody(request, MAX_BODY);
        return replies.run(request, body, async (repeatable) => {
          const push = read(body, repeatable?.id(0) ?? randomUUID());
          expectAllowed(push, gate);
          await reachingBus('The change bus', () => bus.publishPush(push));
          return json(202, { accepted: 1 });
        });
      },
    },
  ];
}

function read(body: Buffer, id: string): Push {
  try {
    return { ...readPush(parseJson(body), { id, now: systemClock.now() }), at: systemClock.now() };
  } catch (error) {
    if (!(error instanceof PushError)) throw error;
    throw new AdminError(400, 'bad_push', error.message);
  }
}

/** Throws AdminError. */
function expectAllowed({ what }: Push, gate: PushGate): void {
  const { rules } = gate;
  if (what.kind === 'script' && !rules.scripts) {
    throw new AdminError(403, 'push_refused', 'script is not allowed: set live.scripts to true in every sidecar.');
  }
  if (what.kind !== 'event') return;
  if (!rules.allows(what.name)) {
    const remedy = `add '${what.name}', or a glob for it, to live.push in every sidecar`;
    throw new AdminError(403, 'push_refused', `event.name is not allowed: ${remedy}.`);
  }
  if (gate.hasHandler(what.name) === false) {
    throw new AdminError(400, 'bad_push', 'event.name names no handler of the app. Write module.Class.handler.');
  }
}
