/** Servers decode once; a proxy before them may do so, too. */
const MAX_DECODINGS = 4;

/**
 * A path as the most lenient of servers might read it: without a fragment, percent-decoded, backslashes as slashes, runs of slashes
 * as one. Only to compare with another one: bytes beyond ASCII stay bytes.
 */
export function plainPath(path: string): string {
  let plain = path.replace(/#.*$/s, '');
  for (let round = 0; round < MAX_DECODINGS && plain.includes('%'); round++) plain = decoded(plain);
  return plain.replace(/[/\\]+/g, '/');
}

/** Whether both plain paths are the same, or the first lies below the second. */
export function isUnder(path: string, parent: string): boolean {
  return path === parent || path.startsWith(`${parent}/`);
}

function decoded(path: string): string {
  return path.replace(/%([0-9a-f]{2})/gi, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
}
