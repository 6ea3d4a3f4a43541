import type { TableRow } from './table.ts';

export interface BenchOptions {
  /** Shorter rounds and less data; the targets stay, but for how much was measured. */
  readonly quick: boolean;
  /** With `relay`: over links. */
  readonly link: boolean;
  /** What happens now, for whoever waits. */
  readonly say: (text: string) => void;
}

export interface Target {
  readonly value: number;
  readonly atMost?: number;
  readonly atLeast?: number;
  readonly met: boolean;
}

export interface BenchResult {
  readonly figures: Readonly<Record<string, number>>;
  readonly targets: Readonly<Record<string, Target>>;
  readonly table: readonly TableRow[];
  /** What a reader must know of this run to read its figures. */
  readonly notes?: readonly string[];
}

export interface Bench {
  readonly name: string;
  /** One line for `--help`. */
  readonly summary: string;
  run(options: BenchOptions): Promise<BenchResult>;
}

export function atMost(value: number, limit: number): Target {
  return { value: rounded(value), atMost: limit, met: value <= limit };
}

export function atLeast(value: number, limit: number): Target {
  return { value: rounded(value), atLeast: limit, met: value >= limit };
}

/** Three significant digits below a thousand: more would be noise. */
export function rounded(value: number): number {
  return Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(3));
}
