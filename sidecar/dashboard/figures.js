// What the page reads out of GET /metrics, the exposition format of Prometheus.

/** @typedef {{ name: string, labels: Map<string, string>, value: number }} Sample */

/**
 * @param {string} text
 * @returns {Sample[]}
 */
export function parse(text) {
  return text.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    return name === undefined ? [] : [{ name, labels: labelsOf(labels), value: Number(value) }];
  });
}

/** @param {string} text */
function labelsOf(text) {
  const pairs = [...text.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)];
  return new Map(pairs.map(([, name = '', value = '']) => [name, unescaped(value)]));
}

/** @param {string} value */
function unescaped(value) {
  return value.replaceAll(/\\(.)/g, (_all, /** @type {string} */ one) => (one === 'n' ? '\n' : one));
}

/**
 * Samples by the values of these labels.
 *
 * @param {readonly Sample[]} samples
 * @param {readonly string[]} names
 * @returns {Map<string, Sample[]>}
 */
export function byLabel(samples, ...names) {
  /** @type {Map<string, Sample[]>} */
  const groups = new Map();
  for (const sample of samples) {
    const key = names.map((name) => sample.labels.get(name)).join('\n');
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [sample]);
    else group.push(sample);
  }
  return groups;
}

/** @param {readonly Sample[]} samples */
export function sum(samples) {
  return samples.reduce((total, { value }) => total + value, 0);
}

/**
 * An estimate in seconds from cumulated buckets, linear within one; undefined where nothing was counted.
 *
 * @param {readonly Sample[]} buckets
 * @param {number} q
 */
export function quantile(buckets, q) {
  const bounds = [...byLabel(buckets, 'le')].map(([le, samples]) => ({ bound: boundOf(le), upTo: sum(samples) }));
  bounds.sort((left, right) => left.bound - right.bound);
  const wanted = q * (bounds.at(-1)?.upTo ?? 0);
  if (wanted === 0) return undefined;
  let low = { bound: 0, upTo: 0 };
  for (const one of bounds) {
    if (one.bound === Infinity) break;
    if (one.upTo >= wanted && one.upTo > low.upTo) {
      return low.bound + ((one.bound - low.bound) * (wanted - low.upTo)) / (one.upTo - low.upTo);
    }
    low = one;
  }
  return low.bound;
}

/** @param {string} le */
function boundOf(le) {
  return le === '+Inf' ? Infinity : Number(le);
}
