import type { ServerResponse } from 'node:http';
import type { ChangeBus } from '../../src/ports/change-bus.ts';
import { systemClock } from '../../src/ports/clock.ts';
import { AdminError, type Reply } from './reply.ts';

const MOST_TAILS = 20;
/** What may wait for a reader that is too slow; beyond it changes are left out, and a gap says so. Bytes. */
const MOST_WAITING = 1_000_000;
/** An empty line, so that both sides notice a dead connection. Milliseconds. */
const BEAT = 15_000;

/** Who watches the bus: each gets a line of JSON for each change and gap, until it leaves. */
export class Tails {
  readonly #bus: ChangeBus;
  #count = 0;

  constructor(bus: ChangeBus) {
    this.#bus = bus;
  }

  /** Changes of this model alone, or of all. Throws AdminError where too many watch. */
  open(model: string | undefined): Reply {
    if (this.#count >= MOST_TAILS) {
      throw new AdminError(503, 'too_many_tails', `${MOST_TAILS} tails are open: close one first.`);
    }
    return {
      status: 200,
      contentType: 'application/x-ndjson; charset=utf-8',
      body: '',
      stream: (response) => this.#follow(response, model),
    };
  }

  #follow(response: ServerResponse, model: string | undefined): void {
    this.#count++;
    let isBehind = false;
    const write = (line: object): void => {
      if (response.writableLength > MOST_WAITING) {
        isBehind = true;
        return;
      }
      if (isBehind) response.write(`${JSON.stringify({ gap: { reason: 'slow' } })}\n`);
      isBehind = false;
      response.write(`${JSON.stringify(line)}\n`);
    };
    const leave = this.#bus.subscribe({
      changes: (batch) => {
        for (const change of batch) if (model === undefined || change.model === model) write({ change });
      },
      gap: (gap) => {
        if (model === undefined || gap.model === undefined || gap.model === model) write({ gap });
      },
      push: ({ to, what }) => {
        // Whose it is, and what it says, is nobody's business here.
        if (model === undefined) write({ push: { to: to.kind, what: what.kind } });
      },
      state: (state) => write({ state }),
    });
    const beat = systemClock.setInterval(() => response.write('\n'), BEAT);
    // Headers and the state go out at once: whoever watches knows that it does.
    write({ state: this.#bus.state });
    response.once('close', () => {
      this.#count--;
      beat.cancel();
      leave();
    });
  }
}
