import { BusUnavailableError } from '../../ports/change-bus.ts';
import type { Clock, Timer } from '../../ports/clock.ts';
import { isNotInstalled, NotInstalledError } from './outbox.ts';

/** How long a bus may take to accept something. Milliseconds. */
const PUBLISH_TIMEOUT = 3_000;

/** Runs what publishes, for 3 s at most. Rejects with BusUnavailableError alone. */
export async function publishing(service: string, clock: Clock, work: () => Promise<unknown>): Promise<void> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = clock.setTimeout(() => reject(new Error('no answer')), PUBLISH_TIMEOUT);
  });
  try {
    await Promise.race([work(), late]);
  } catch (cause) {
    if (isNotInstalled(cause)) throw new BusUnavailableError(new NotInstalledError().message, { cause });
    throw new BusUnavailableError(
      `${service} did not take the changes (${causeOf(cause)}): publish them again later.`,
      {
        cause,
      },
    );
  } finally {
    timer?.cancel();
  }
}

/** What failed, without anything of a URL or a value. */
export function causeOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  const { code } = error as { readonly code?: unknown };
  if (typeof code === 'string') return code;
  if (error.message === 'no answer') return error.message;
  // What ioredis says of a client without a connection.
  return error.message.startsWith("Stream isn't writeable") ? 'not connected' : error.name;
}
