import { randomUUID } from 'node:crypto';
import { systemClock } from '../../src/ports/clock.ts';
import type { Replay } from '../../src/adapters/bus/dead-letters.ts';
import { ChangeError, MAX_BATCH, readModel, readPublished, type Change } from '../../src/protocol/change.ts';
import type { DeadLetters, Live } from '../compose-bus.ts';
import { parseJson, readBody } from './body.ts';
import { IdempotentReplies, type Repeatable } from './idempotency.ts';
import { reachingBus } from './reaching-bus.ts';
import { AdminError, json, type Reply } from './reply.ts';
import type { Route } from './routes.ts';
import { Tails } from './tail.ts';

/** A thousand changes with long keys. Bytes. */
const MAX_BODY = 1_048_576;
const MOST_LETTERS = 1_000;

/** Publishing changes, watching them, and the stream's dead letters. */
export function liveRoutes({ bus, deadLetters }: Pick<Live, 'bus' | 'deadLetters'>): Route[] {
  const replies = new IdempotentReplies();
  const tails = new Tails(bus);
  const publish = async (body: Buffer, repeatable: Repeatable | undefined): Promise<Reply> => {
    const changes = refusing(() => read(body, repeatable));
    await reachingBus('The change bus', () => bus.publish(changes));
    return json(202, { accepted: changes.length });
  };
  return [
    {
      method: 'POST',
      path: '/api/publish',
      access: 'write',
      handle: async ({ request }) => {
        const body = await readBody(request, MAX_BODY);
        return replies.run(request, body, (repeatable) => publish(body, repeatable));
      },
    },
    {
      method: 'GET',
      path: '/api/tail',
      access: 'read',
      handle: ({ query }) => {
        const model = query.get('model');
        return tails.open(model === null ? undefined : refusing(() => readModel(model, 'model')));
      },
    },
    {
      method: 'GET',
      path: '/api/dead-letters',
      access: 'read',
      handle: () =>
        reachingBus('The stream', async () =>
          json(200, { deadLetters: await existing(deadLetters).list(MOST_LETTERS) }),
        ),
    },
    {
      method: 'POST',
      path: '/api/dead-letters/:id/replay',
      access: 'write',
      handle: ({ segments }) =>
        reachingBus('The stream', async () => replayed(await existing(deadLetters).replay(segments['id'] ?? ''))),
    },
  ];
}

/** Throws AdminError. */
function replayed(replay: Replay): Reply {
  switch (replay) {
    case 'replayed':
      return json(202, { replayed: true });
    case 'unknown':
      throw new AdminError(404, 'unknown_dead_letter', 'No dead letter has this id; see GET /api/dead-letters.');
    case 'groupless': {
      const remedy = 'start one of its programs, then replay it again; the letter is kept';
      throw new AdminError(409, 'unknown_group', `The consumer group of this dead letter is gone: ${remedy}.`);
    }
  }
}

function read(body: Buffer, repeatable: Repeatable | undefined): Change[] {
  const id = (index: number): string => repeatable?.id(index) ?? randomUUID();
  return readPublished(parseJson(body), { id, now: systemClock.now() });
}

function existing(deadLetters: DeadLetters | undefined): DeadLetters {
  if (deadLetters !== undefined) return deadLetters;
  throw new AdminError(409, 'no_dead_letters', 'Only the bus redis-streams has dead letters: see live.bus.');
}

function refusing<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ChangeError)) throw error;
    const size = error.field === 'changes' ? ` (at most ${MAX_BATCH} in a request)` : '';
    throw new AdminError(400, 'bad_change', `${error.message}${size}`);
  }
}
