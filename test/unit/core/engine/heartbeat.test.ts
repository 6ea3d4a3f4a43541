import { describe, expect, it } from 'vitest';
import type { Lane, LaneSink } from '../../../../src/core/engine/lane.ts';
import { EngineSession } from '../../../../src/core/engine/engine-session.ts';
import type { SessionCloseReason } from '../../../../src/ports/metrics.ts';
import type { SessionId } from '../../../../src/protocol/brand.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const OPTIONS = { pingInterval: 25_000, pingTimeout: 20_000, upgradeTimeout: 10_000, maxPayload: 1_000_000 };

/** A lane that keeps what is sent on it, and when. */
function open() {
  const clock = new ManualClock();
  const sent: { readonly packet: string; readonly at: number }[] = [];
  const closes: SessionCloseReason[] = [];
  let reads = true;
  let client: LaneSink | undefined;
  const lane: Lane = {
    transport: 'websocket',
    bufferedBytes: 0,
    send: (packet) => {
      sent.push({ packet: packet.toString(), at: clock.monotonic() });
      return 'flushed';
    },
    pause: () => {
      reads = false;
      return true;
    },
    resume: () => {
      reads = true;
    },
    close: () => undefined,
    terminate: () => undefined,
  };
  const makeLane = (sink: LaneSink): Lane => {
    client = sink;
    return lane;
  };
  const session = new EngineSession('a' as SessionId, makeLane, OPTIONS, clock);
  const nothing = (): void => undefined;
  session.open({ text: nothing, binary: nothing, drained: nothing, closed: (reason) => closes.push(reason) });
  const pings = (): number[] => sent.filter(({ packet }) => packet === '2').map(({ at }) => at);
  return {
    clock,
    session,
    closes,
    pings,
    says: (packet: string) => client?.text(packet, undefined),
    reads: () => reads,
  };
}

describe('the heartbeat of an Engine.IO session', () => {
  it('pings once in each interval: a client gives up an interval and a timeout after the last ping', () => {
    const { clock, pings, says, closes } = open();
    for (let second = 0; second < 200; second++) {
      clock.advance(1_000);
      if (pings().at(-1) === clock.monotonic()) says('3');
    }
    expect(pings()).toEqual([25_000, 50_000, 75_000, 100_000, 125_000, 150_000, 175_000, 200_000]);
    expect(closes).toEqual([]);
  });

  it('closes a client that does not answer within the timeout', () => {
    const { clock, closes } = open();
    clock.advance(44_999);
    expect(closes).toEqual([]);
    clock.advance(1);
    expect(closes).toEqual(['ping_timeout']);
  });

  it('takes any packet for a sign of life', () => {
    const { clock, closes, says } = open();
    clock.advance(30_000);
    says('42["ping"]');
    clock.advance(19_000);
    expect(closes).toEqual([]);
  });

  it('does not hold a client that is paused to its pongs', () => {
    const { clock, session, closes } = open();
    session.pause();
    clock.advance(120_000);
    expect(closes).toEqual([]);
    session.resume();
    clock.advance(50_000);
    expect(closes).toEqual(['ping_timeout']);
  });
});

describe('a client that is asked whether it lives', () => {
  it('is asked once for all who want to know, and all get its answer', async () => {
    const { clock, session, pings, says } = open();
    const answers = [session.probe(2_000), session.probe(2_000)];
    says('3');
    clock.advance(5_000);
    expect(await Promise.all(answers)).toEqual([true, true]);
    expect(pings()).toEqual([0]);
    const silent = session.probe(2_000);
    clock.advance(2_000);
    expect(await silent).toBe(false);
  });

  it('is read meanwhile where it is held back, and no longer', async () => {
    const { clock, session, says, reads } = open();
    session.pause();
    const answer = session.probe(2_000);
    expect(reads()).toBe(true);
    says('3');
    expect(await answer).toBe(true);
    expect(reads()).toBe(false);
    const released = session.probe(2_000);
    session.resume();
    clock.advance(2_000);
    expect(await released).toBe(false);
    expect(reads()).toBe(true);
  });
});
