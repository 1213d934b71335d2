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

/** One record as the host fills it. */
export class WordRecord<Name extends string = string> {
  readonly layout: Words<Name>;
  readonly integers: Int32Array;
  readonly #floats: Float32Array;

  constructor(layout: Words<Name>) {
    this.layout = layout;
    this.integers = new Int32Array(layout.names.length);
    this.#floats = new Float32Array(this.integers.buffer);
  }

  /** A 32-bit integer, or an address below 2³². */
  set(name: Name, value: number): void {
    this.integers[this.layout.offset(name) / 4] = value | 0;
  }

  setFloat(name: Name, value: number): void {
    this.#floats[this.layout.offset(name) / 4] = value;
  }
}
