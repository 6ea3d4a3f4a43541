/**
 * Globs of tier rules (docs/PROTOCOL.md, "Globs"): `*` any run of characters, `?` exactly one code point, the rest
 * literal. Matched in at most pattern x text steps: a name that a client makes up cannot make it slow.
 */
export interface Glob {
  /** The characters before the first wildcard. */
  readonly prefix: string;
  /** Whether there is no wildcard at all. */
  readonly exact: boolean;
  matches(text: string): boolean;
}

export function compileGlob(pattern: string): Glob {
  const wildcard = pattern.search(/[*?]/);
  if (wildcard === -1) return { prefix: pattern, exact: true, matches: (text) => text === pattern };
  const prefix = pattern.slice(0, wildcard);
  if (wildcard === pattern.length - 1 && pattern.endsWith('*')) {
    return { prefix, exact: false, matches: (text) => text.startsWith(prefix) };
  }
  const symbols = Array.from(pattern);
  return { prefix, exact: false, matches: (text) => matchSymbols(symbols, Array.from(text)) };
}

function matchSymbols(pattern: readonly string[], text: readonly string[]): boolean {
  let position = 0;
  let star = -1;
  let retry = 0;
  let index = 0;
  while (index < text.length) {
    const symbol = pattern[position];
    if (symbol === '*') {
      star = position++;
      retry = index;
    } else if (symbol !== undefined && (symbol === '?' || symbol === text[index])) {
      position++;
      index++;
    } else if (star !== -1) {
      position = star + 1;
      index = ++retry;
    } else return false;
  }
  while (pattern[position] === '*') position++;
  return position === pattern.length;
}
