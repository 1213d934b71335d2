/** Writes and reads the primitive encodings of the WebAssembly binary format. */

export class ByteWriter {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(256);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  byte(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  bytes(values: ArrayLike<number>): void {
    const count = values.length;
    this.#reserve(count);
    // Opcodes are one to three bytes, for which a loop is faster than a copy.
    if (count < 8) for (let index = 0; index < count; index += 1) this.#bytes[this.#length + index] = values[index] ?? 0;
    else this.#bytes.set(values, this.#length);
    this.#length += count;
  }

  /** Unsigned LEB128, below 2³². */
  unsigned(value: number): void {
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.byte(rest);
  }

  /** Signed LEB128 of the low 32 bits, so that addresses above 2 GiB may be given as positive numbers. */
  signed(value: number): void {
    let rest = value | 0;
    for (;;) {
      const low = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }

  signed64(value: bigint): void {
    let rest = BigInt.asIntN(64, value);
    for (;;) {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      if ((rest === 0n && (low & 0x40) === 0) || (rest === -1n && (low & 0x40) !== 0)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }

  float32(value: number): void {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    this.bytes(bytes);
  }

  float64(value: number): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, value, true);
    this.bytes(bytes);
  }

  /** UTF-8 with its length in front. */
  name(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.unsigned(bytes.length);
    this.bytes(bytes);
  }

  /** Another writer's bytes with their length in front: a section, a subsection, a function body. */
  sized(content: ByteWriter): void {
    this.unsigned(content.length);
    this.bytes(content.view());
  }

  /** The bytes so far; valid until the next write. */
  view(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + count));
    larger.set(this.view());
    this.#bytes = larger;
  }
}

export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  position: number;
  readonly end: number;

  constructor(bytes: Uint8Array, position = 0, end: number = bytes.length) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.position = position;
    this.end = end;
  }

  get done(): boolean {
    return this.position >= this.end;
  }

  /** @throws RangeError at the end of the bytes. */
  byte(): number {
    const value = this.position < this.end ? this.#bytes[this.position] : undefined;
    if (value === undefined) throw new RangeError(`WebAssembly bytes end at ${this.end}, inside a value`);
    this.position += 1;
    return value;
  }

  bytes(count: number): Uint8Array {
    if (this.position + count > this.end) {
      throw new RangeError(`WebAssembly bytes end at ${this.end}, ${count} bytes were announced at ${this.position}`);
    }
    this.position += count;
    return this.#bytes.subarray(this.position - count, this.position);
  }

  unsigned(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
  }

  signed(): number {
    return Number(this.signed64());
  }

  signed64(): bigint {
    let value = 0n;
    for (let shift = 0n; ; ) {
      const byte = this.byte();
      value |= BigInt(byte & 0x7f) << shift;
      shift += 7n;
      if (byte < 0x80) return BigInt.asIntN(64, (byte & 0x40) === 0 ? value : value | (-1n << shift));
    }
  }

  float32(): number {
    this.position += 4;
    return this.#view.getFloat32(this.position - 4, true);
  }

  float64(): number {
    this.position += 8;
    return this.#view.getFloat64(this.position - 8, true);
  }

  name(): string {
    return new TextDecoder().decode(this.bytes(this.unsigned()));
  }

  /** A reader over the next `size` bytes, which this one skips. */
  sized(): ByteReader {
    const size = this.unsigned();
    const start = this.position;
    this.bytes(size);
    return new ByteReader(this.#bytes, start, start + size);
  }
}
