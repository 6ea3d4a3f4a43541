/**
 * Finds places in JSON text, so that a value can be put in or taken out without writing the rest anew: numbers beyond
 * 2^53, `1.0` and the order of keys stay as the client wrote them. Every function expects text that JSON.parse accepts.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** The index after the string that begins at `start`. */
function stringEnd(text: string, start: number): number {
  let index = start + 1;
  for (;;) {
    const quote = text.indexOf('"', index);
    if (quote === -1) return text.length;
    let backslashes = 0;
    while (text.charCodeAt(quote - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return quote + 1;
    index = quote + 1;
  }
}

function skipSpace(text: string, start: number): number {
  let index = start;
  for (;;) {
    const code = text.charCodeAt(index);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return index;
    index++;
  }
}

/** The index after the value that begins at `start`. */
function valueEnd(text: string, start: number): number {
  let index = start;
  let depth = 0;
  while (index < text.length) {
    const code = text.charCodeAt(index);
    if (code === QUOTE) {
      index = stringEnd(text, index);
      if (depth === 0) return index;
      continue;
    }
    if (code === 0x7b || code === 0x5b) depth++;
    else if (code === 0x7d || code === 0x5d) {
      if (depth === 0) return index;
      depth--;
      if (depth === 0) return index + 1;
    } else if (depth === 0 && (code === 0x2c || code <= 0x20)) return index;
    index++;
  }
  return index;
}

/** Whether more than `limit` brackets open in the text from `start` on, in strings or not: fewer cannot nest deeper. */
export function opensMoreThan(text: string, start: number, limit: number): boolean {
  let left = limit;
  for (const bracket of ['{', '[']) {
    for (let index = text.indexOf(bracket, start); index !== -1; index = text.indexOf(bracket, index + 1)) {
      if (--left < 0) return true;
    }
  }
  return false;
}

/** How deep arrays and objects nest in the text from `start` on; stops counting at `limit` + 1. */
export function nestingDepth(text: string, start: number, limit: number): number {
  let depth = 0;
  let deepest = 0;
  let index = start;
  while (index < text.length) {
    const code = text.charCodeAt(index);
    if (code === QUOTE) {
      index = stringEnd(text, index);
      continue;
    }
    if (code === 0x7b || code === 0x5b) {
      depth++;
      if (depth > deepest) {
        deepest = depth;
        if (deepest > limit) return deepest;
      }
    } else if (code === 0x7d || code === 0x5d) depth--;
    index++;
  }
  return deepest;
}

export interface Member {
  /** Index of the quote that opens the key. */
  readonly keyStart: number;
  readonly valueStart: number;
  /** Index after the value. */
  readonly valueEnd: number;
}

function keyOf(text: string, start: number, end: number): string {
  const raw = text.slice(start + 1, end - 1);
  return raw.includes('\\') ? (JSON.parse(text.slice(start, end)) as string) : raw;
}

/** All members of the object at `start` that have this key, in order: of several, every JSON parser keeps the last. */
export function findMembers(text: string, start: number, key: string): Member[] {
  return members(text, start).filter((member) => member.key === key);
}

/** Where the elements of the array at `start` begin. */
function elements(text: string, start: number): number[] {
  const found: number[] = [];
  let index = skipSpace(text, start + 1);
  while (text[index] !== ']') {
    found.push(index);
    const after = skipSpace(text, valueEnd(text, index));
    index = text[after] === ',' ? skipSpace(text, after + 1) : after;
  }
  return found;
}

function members(text: string, start: number): (Member & { readonly key: string })[] {
  const found: (Member & { readonly key: string })[] = [];
  let index = skipSpace(text, start + 1);
  while (text.charCodeAt(index) === QUOTE) {
    const keyStart = index;
    const keyEnd = stringEnd(text, keyStart);
    const valueStart = skipSpace(text, skipSpace(text, keyEnd) + 1);
    const end = valueEnd(text, valueStart);
    found.push({ key: keyOf(text, keyStart, keyEnd), keyStart, valueStart, valueEnd: end });
    index = skipSpace(text, end);
    if (text[index] !== ',') break;
    index = skipSpace(text, index + 1);
  }
  return found;
}

/** Where the second element of the array at `start` begins. */
export function secondElement(text: string, start: number): number {
  const first = skipSpace(text, start + 1);
  const comma = skipSpace(text, valueEnd(text, first));
  return skipSpace(text, comma + 1);
}

/** The index of the brace that closes the object at `start`. */
export function closingBrace(text: string, start: number): number {
  return valueEnd(text, start) - 1;
}

/** Whether the object at `start` has no members. */
export function isEmptyObject(text: string, start: number): boolean {
  return text[skipSpace(text, start + 1)] === '}';
}

/** The text without the members of the object at `start` that have this key. One pass, however many there are. */
export function removeMembers(text: string, start: number, key: string): string {
  let kept = '';
  let position = 0;
  let endsObject = false;
  for (const { keyStart, valueEnd } of findMembers(text, start, key)) {
    kept += text.slice(position, keyStart);
    const after = skipSpace(text, valueEnd);
    endsObject = text[after] !== ',';
    position = endsObject ? valueEnd : skipSpace(text, after + 1);
  }
  // The comma before the last member has lost what it stood for.
  if (endsObject) kept = kept.replace(/,[ \t\r\n]*$/, '');
  return kept + text.slice(position);
}

/** Whether any key in the text from `start` on is spelt with a backslash. */
export function hasEscapedKey(text: string, start: number): boolean {
  let backslash = text.indexOf('\\', start);
  let quote = text.indexOf('"', start);
  while (backslash !== -1 && quote !== -1) {
    const end = stringEnd(text, quote);
    if (backslash < end && text[skipSpace(text, end)] === ':') return true;
    if (backslash < end) backslash = text.indexOf('\\', end);
    quote = text.indexOf('"', end);
  }
  return false;
}

/**
 * The value that begins at `start`, of text that JSON.parse accepts. For text with escaped keys, of which V8 13.6 misreads
 * some: after an object with the key `n\u0` it takes the key `"n\u0061me"` of the next one for `n\u0`.
 */
export function readValue(text: string, start: number): unknown {
  const first = text[start];
  if (first === '{') {
    return Object.fromEntries(members(text, start).map(({ key, valueStart }) => [key, readValue(text, valueStart)]));
  }
  if (first === '[') return elements(text, start).map((element) => readValue(text, element));
  return JSON.parse(text.slice(start, valueEnd(text, start)));
}
