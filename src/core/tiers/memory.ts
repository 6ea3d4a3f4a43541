/** What was found for a name before. Names are the client's word: past `most` of them it starts anew. */
export class Memory<T> {
  readonly #most: number;
  readonly #known = new Map<string, T>();

  constructor(most: number) {
    this.#most = most;
  }

  get(name: string): T | undefined {
    return this.#known.get(name);
  }

  /** Returns what it keeps. */
  keep(name: string, found: T): T {
    if (this.#known.size >= this.#most) this.#known.clear();
    this.#known.set(name, found);
    return found;
  }
}
