/**
 * A cookie's value in a Cookie header, read as Django reads it: of several with one name the last counts, and quotes
 * around a value are not part of it.
 */
export function cookieValue(header: string | undefined, name: string): string | undefined {
  if (header === undefined) return undefined;
  let found: string | undefined;
  for (const part of header.split(';')) {
    const equals = part.indexOf('=');
    const key = equals === -1 ? '' : part.slice(0, equals).trim();
    if (key === name) found = unquote(part.slice(equals + 1).trim());
  }
  return found;
}

/** The Cookie header with this value in the place of all cookies of this name; undefined: with none of them. */
export function withCookie(header: string | undefined, name: string, value: string | undefined): string | undefined {
  const others = (header ?? '')
    .split(';')
    .filter((part) => part.trim() !== '' && cookieValue(part, name) === undefined);
  // What no cookie can hold is left out: then it is nobody's.
  const own = value !== undefined && COOKIE_OCTETS.test(value) ? [`${name}=${value}`] : [];
  const all = [...others.map((part) => part.trim()), ...own];
  return all.length === 0 ? undefined : all.join('; ');
}

/** RFC 6265, section 4.1.1. */
const COOKIE_OCTETS = /^[!#-+\--:<-[\]-~]+$/;

function unquote(value: string): string {
  return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value;
}
