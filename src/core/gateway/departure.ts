import { CloseCode } from '../../protocol/close-code.ts';
import type { Clock } from '../../ports/clock.ts';
import type { SessionCloseReason } from '../../ports/metrics.ts';

/** What leaves: a session, as far as its end goes. */
interface Leaving {
  close(reason: SessionCloseReason, code: number): void;
}

/** Clients come back at once, and each costs its next worker a hydrate: so many sessions a second leave at most, while there is time. */
const PER_SECOND = 500;
/** Milliseconds. */
const STEP = 20;

/**
 * Closes every session's transport, never with a Socket.IO DISCONNECT, evenly over as long as that many clients need to come back, and
 * within `bound` milliseconds. Those whose turn has not come are served.
 */
export async function departure(sessions: readonly Leaving[], bound: number, clock: Clock): Promise<void> {
  const spread = Math.min(bound, (sessions.length / PER_SECOND) * 1000);
  const begun = clock.monotonic();
  for (let left = 0; left < sessions.length;) {
    const share = spread <= STEP ? 1 : (clock.monotonic() - begun + STEP) / spread;
    const due = Math.min(sessions.length, Math.ceil(sessions.length * share));
    for (; left < due; left++) sessions[left]?.close('draining', CloseCode.serviceRestart);
    if (left < sessions.length) await new Promise<void>((resolve) => void clock.setTimeout(resolve, STEP));
  }
}
