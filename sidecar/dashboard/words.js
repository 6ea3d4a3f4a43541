// Figures as an operator reads them.

/** @param {number} value */
export function count(value) {
  return Math.round(value).toLocaleString('en');
}

/** @param {number} value */
export function rate(value) {
  return value < 10 ? value.toFixed(1) : count(value);
}

/** @param {number | undefined} value seconds */
export function seconds(value) {
  if (value === undefined) return '–';
  return value < 1 ? `${Number((value * 1_000).toPrecision(2))} ms` : `${Number(value.toPrecision(2))} s`;
}

/** @param {number} value seconds */
export function span(value) {
  const [days, hours, minutes] = [value / 86_400, (value / 3_600) % 24, (value / 60) % 60].map(Math.floor);
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : `${Math.floor(value)} s`;
}

/** @param {number} value */
export function bytes(value) {
  if (value === 0) return '0';
  return value < 1_000_000 ? `${Math.ceil(value / 1_000)} kB` : `${(value / 1_000_000).toFixed(1)} MB`;
}
