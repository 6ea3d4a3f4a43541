import type { ChangeBus, ChangeSubscriber } from '../../src/ports/change-bus.ts';
import type { Change, ChangeAction, Gap } from '../../src/protocol/change.ts';
import type { Push, PushAction, PushTarget } from '../../src/protocol/push.ts';

let ids = 0;

/** A change with an id that no other has. */
export function change(pk: number | string, action: ChangeAction = 'updated', model = 'shop.product'): Change {
  return { id: `test-${process.pid}-${++ids}`, model, action, pk, at: Date.now() };
}

/** A push with an id that no other has. */
export function push(to: PushTarget, what: PushAction): Push {
  return { id: `test-${process.pid}-${++ids}`, at: Date.now(), to, what };
}

/** What came over a bus, in its order. */
export class Heard implements ChangeSubscriber {
  readonly all: (Change | Gap)[] = [];
  readonly pushes: Push[] = [];
  readonly states: string[] = [];

  changes(batch: readonly Change[]): void {
    this.all.push(...batch);
  }

  gap(gap: Gap): void {
    this.all.push(gap);
  }

  push(push: Push): void {
    this.pushes.push(push);
  }

  state(state: string): void {
    this.states.push(state);
  }

  get list(): Change[] {
    return this.all.filter((entry): entry is Change => 'id' in entry);
  }

  get pks(): (number | string)[] {
    return this.list.map(({ pk }) => pk);
  }

  get gaps(): Gap[] {
    return this.all.filter((entry): entry is Gap => !('id' in entry));
  }

  has(id: string): boolean {
    return this.list.some((entry) => entry.id === id);
  }
}

export async function startedBus(bus: ChangeBus): Promise<{ bus: ChangeBus; heard: Heard }> {
  const heard = new Heard();
  bus.subscribe(heard);
  await bus.start(10_000);
  return { bus, heard };
}

/** Publishes one change after the other until told to stop; remembers which the bus took. */
export function publishingOn(bus: ChangeBus): { stop(): Promise<Change[]> } {
  const taken: Change[] = [];
  const stopping = new AbortController();
  const run = async (): Promise<void> => {
    for (let n = 0; !stopping.signal.aborted; n++) {
      const next = change(n);
      try {
        await bus.publish([next]);
        taken.push(next);
      } catch {
        // Not taken: what becomes of it does not matter.
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  const running = run();
  return {
    stop: async () => {
      stopping.abort();
      await running;
      return taken;
    },
  };
}
