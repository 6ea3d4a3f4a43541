import { type Address, formatAddress } from '../config/values.ts';

/** Says which key's address could not be opened. */
export async function opened<T>(key: string, address: Address, listening: Promise<T>): Promise<T> {
  try {
    return await listening;
  } catch (cause) {
    const { why, remedy } = explain(cause instanceof Error && 'code' in cause ? cause.code : undefined);
    throw new Error(`${key}: ${formatAddress(address)} ${why}; ${remedy} or set another ${key}`, { cause });
  }
}

function explain(code: unknown): { readonly why: string; readonly remedy: string } {
  switch (code) {
    case 'EADDRINUSE':
      return { why: 'is already in use', remedy: 'stop what listens there' };
    case 'EADDRNOTAVAIL':
      return { why: 'is no address of this machine', remedy: 'write one that it has, 0.0.0.0 for all' };
    case 'EACCES':
      return { why: 'may not be opened by this user', remedy: 'grant the right (ports below 1024 need it)' };
    case 'ENOTSOCK':
      return { why: 'is a file of another kind, which is not deleted', remedy: 'move it away' };
    default:
      return { why: 'cannot be opened', remedy: 'see the cause' };
  }
}
