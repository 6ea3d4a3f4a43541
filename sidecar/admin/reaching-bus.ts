import { BusUnavailableError } from '../../src/ports/change-bus.ts';
import { AdminError } from './reply.ts';

/** Throws AdminError, 503, where the service does not take it. */
export async function reachingBus<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AdminError) throw error;
    const remedy = 'send the same again later';
    const message = error instanceof BusUnavailableError ? error.message : `${what} cannot be reached: ${remedy}.`;
    throw new AdminError(503, 'bus_unavailable', message, { 'retry-after': '1' });
  }
}
