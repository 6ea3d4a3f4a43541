/** Counts by a label whose values are few; those known from the start begin at 0. */
export class Tally {
  readonly counts: Map<string, number>;

  constructor(labels: object = {}) {
    this.counts = new Map(Object.keys(labels).map((label) => [label, 0]));
  }

  add(label: string, count = 1): void {
    this.counts.set(label, this.count(label) + count);
  }

  count(label: string): number {
    return this.counts.get(label) ?? 0;
  }

  total(): number {
    let total = 0;
    for (const count of this.counts.values()) total += count;
    return total;
  }
}
