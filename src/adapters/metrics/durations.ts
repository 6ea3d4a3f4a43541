/** Upper bounds in seconds, from a relayed ping to a handler that keeps its user waiting. The last bucket is open. */
export const BOUNDS: readonly number[] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** A histogram as plain numbers: observing is a short search and two additions. */
export class Durations {
  /** Not cumulative; one more than `BOUNDS`. */
  readonly counts = new Float64Array(BOUNDS.length + 1);
  sum = 0;

  observe(seconds: number): void {
    let bucket = 0;
    while (bucket < BOUNDS.length && seconds > (BOUNDS[bucket] as number)) bucket++;
    this.counts[bucket] = (this.counts[bucket] as number) + 1;
    this.sum += seconds;
  }
}

/**
 * An estimate of the quantile, in seconds: linear within its bucket, the last bound beyond all bounds.
 * Undefined where nothing was counted.
 */
export function quantile(counts: ArrayLike<number>, q: number): number | undefined {
  let total = 0;
  for (let bucket = 0; bucket < counts.length; bucket++) total += counts[bucket] as number;
  if (total === 0) return undefined;
  let before = 0;
  for (let bucket = 0; bucket < BOUNDS.length; bucket++) {
    const inside = counts[bucket] as number;
    if (inside > 0 && before + inside >= q * total) {
      const low = bucket === 0 ? 0 : (BOUNDS[bucket - 1] as number);
      return low + ((BOUNDS[bucket] as number) - low) * ((q * total - before) / inside);
    }
    before += inside;
  }
  return BOUNDS.at(-1);
}
