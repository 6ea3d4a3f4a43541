/** Members in one go: then everybody else has a turn. */
const AT_ONCE = 128;

interface Letter<Member> {
  readonly serial: number;
  readonly bytes: number;
  readonly deliver: (member: Member) => void;
}

/**
 * Brings letters to many members, round after round. Who is reached gets everything that came since the last time, so that where letters
 * come faster than one of them can be brought to all, they share the walk and each connection's write; and a letter need not wait
 * for a round that is under way: it goes along and is done where it got on.
 */
export class Rounds<Member extends object> {
  readonly #members: () => Iterable<Member>;
  /** The serial of the last letter that a member got. */
  readonly #reached = new WeakMap<Member, number>();
  #letters: Letter<Member>[] = [];
  #serial = 0;
  #bytes = 0;
  #isWalking = false;

  /** `members` is walked while members come and go: a Map's iterator is made for that. */
  constructor(members: () => Iterable<Member>) {
    this.#members = members;
  }

  /** Letters that have not been everywhere. */
  get waiting(): number {
    return this.#letters.length;
  }

  /** The size of those, as `add` was told. */
  get bytes(): number {
    return this.#bytes;
  }

  /** `deliver` is called once for each member, in the order of the letters. It MUST NOT throw. */
  add(deliver: (member: Member) => void, bytes: number): void {
    this.#letters.push({ serial: ++this.#serial, bytes, deliver });
    this.#bytes += bytes;
    if (!this.#isWalking) void this.#walk();
  }

  /** Gives a member what it has not got yet. False where that is nothing. */
  reach(member: Member): boolean {
    const seen = this.#reached.get(member) ?? 0;
    if (seen === this.#serial || this.#letters.length === 0) return false;
    this.#reached.set(member, this.#serial);
    for (const { serial, deliver } of this.#letters) if (serial > seen) deliver(member);
    return true;
  }

  async #walk(): Promise<void> {
    this.#isWalking = true;
    let reached = 0;
    while (this.#letters.length > 0) {
      // What comes during the round misses those whom it has passed: they get it in the next.
      const last = this.#serial;
      for (const member of this.#members()) {
        if (this.reach(member) && ++reached % AT_ONCE === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      this.#drop(last);
    }
    this.#isWalking = false;
  }

  #drop(last: number): void {
    const kept = this.#letters.findIndex(({ serial }) => serial > last);
    const done = this.#letters.splice(0, kept < 0 ? this.#letters.length : kept);
    for (const { bytes } of done) this.#bytes -= bytes;
  }
}
