/** Records of 32-bit words that the host writes and kernels read: one name for each word, so that both sides agree. */
export interface Words<Name extends string = string> {
  readonly names: readonly Name[];
  readonly bytes: number;
  /** Bytes from the start of the record. @throws RangeError for a name it does not have */
  readonly offset: (name: Name) => number;
}

export function words<Name extends string>(names: readonly Name[]): Words<Name> {
  const places = new Map(names.map((name, index) => [name, index * 4]));
  return {
    names,
    bytes: names.length * 4,
    offset: (name) => {
      const place = places.get(name);
      if (place === undefined) throw new RangeError(`no word '${name}' among ${names.join(', ')}`);
      return place;
    },
  };
}

/** One record as the host fills it: a part of an array that may hold many. */
export class WordRecord<Name extends string = string> {
  readonly #layout: Words<Name>;
  readonly #start: number;
  readonly integers: Int32Array;

  /** @param integers words that hold the record, from `start` on; default: its own */
  constructor(layout: Words<Name>, integers: Int32Array = new Int32Array(layout.names.length), start = 0) {
    this.#layout = layout;
    this.#start = start;
    this.integers = integers;
  }

  /** Index of a word in {@link integers}. */
  place(name: Name): number {
    return this.#start + this.#layout.offset(name) / 4;
  }

  get(name: Name): number {
    return this.integers[this.place(name)] ?? 0;
  }

  /** A 32-bit integer, or an address below 2³². */
  set(name: Name, value: number): void {
    this.integers[this.place(name)] = value | 0;
  }

  setFloat(name: Name, value: number): void {
    new Float32Array(this.integers.buffer)[this.place(name)] = value;
  }
}

/** The words of one record for each item, one after another. */
export function recordsOf<Item, Name extends string>(layout: Words<Name>, items: readonly Item[], fill: (record: WordRecord<Name>, item: Item, index: number) => void): Int32Array {
  const integers = new Int32Array(layout.names.length * items.length);
  items.forEach((item, index) => {
    fill(new WordRecord(layout, integers, index * layout.names.length), item, index);
  });
  return integers;
}
