/** Linear memory and its allocator. Addresses and sizes are plain numbers, exact up to 4 GiB. */
import { AttentionError } from '@heed/core';

export const pageBytes = 65_536;

/** Every block starts at a multiple of this: a cache line, four vectors. */
export const blockAlignment = 64;

/** Bytes behind every block that may be read, though they mean nothing: kernels read whole vectors at the end of a row. */
export const readableBeyond = 256;

/** Most pages that 32-bit addresses reach. */
const addressablePages = 65_536;

/** Below it lies nothing, so that address 0 is never a block. */
const firstAddress = 1024;

export interface MemoryOptions {
  /** Over a SharedArrayBuffer, so that workers see it. Default false. */
  readonly shared?: boolean;
  /** Most bytes it may grow to. Default 4 GiB. */
  readonly maximumBytes?: number;
}

export class LinearMemory {
  readonly memory: WebAssembly.Memory;
  readonly shared: boolean;
  /** Addresses at and above it are never handed out. */
  readonly #limit: number;
  /** End of the part that blocks and free ranges tile. */
  #end: number = firstAddress;
  readonly #live = new Map<number, number>();
  readonly #free = new FreeRanges();
  #bytes = 0;
  #peakBytes = 0;

  /**
   * @throws AttentionError `out-of-memory` when the engine refuses even a small address range, `invalid-argument` for a bad maximum
   */
  constructor({ shared = false, maximumBytes = addressablePages * pageBytes }: MemoryOptions = {}) {
    if (!(maximumBytes >= pageBytes) || maximumBytes > addressablePages * pageBytes) {
      throw new AttentionError('invalid-argument', `Got a maximum of ${maximumBytes} bytes.`, 'Expected 65,536 to 4,294,967,296.');
    }
    const pages = Math.floor(maximumBytes / pageBytes);
    this.shared = shared;
    this.memory = reserve(shared, pages);
    // The last page stays unused when it ends at 4 GiB, so that the end of a block never wraps around to 0.
    this.#limit = Math.min(pages, addressablePages - 1) * pageBytes;
  }

  /** Bytes in live blocks, with the padding to {@link blockAlignment}. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The most that were live at once. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  /** Starts a new measurement of the peak. */
  resetPeak(): void {
    this.#peakBytes = this.#bytes;
  }

  /**
   * A block of undefined content, aligned to {@link blockAlignment}.
   * @returns its address, below 2³²
   * @throws AttentionError `out-of-memory` with the bytes asked for and the bytes live
   */
  allocate(bytes: number): number {
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new AttentionError('invalid-argument', `Got a block of ${bytes} bytes.`, 'Expected an integer of 0 or more.');
    }
    const size = Math.max(blockAlignment, Math.ceil(bytes / blockAlignment) * blockAlignment);
    const address = this.#free.take(size) ?? this.#extend(size);
    this.#live.set(address, size);
    this.#bytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#bytes);
    return address;
  }

  /**
   * Gives a block back; neighbours that are free become one range.
   * @throws AttentionError `internal` for an address that is no live block
   */
  release(address: number): void {
    const size = this.#live.get(address);
    if (size === undefined) {
      throw new AttentionError('internal', `Address ${address} is no live block.`, 'Release each block once.');
    }
    this.#live.delete(address);
    this.#bytes -= size;
    const free = this.#free.give(address, size);
    // A range at the end goes back to the part never used, so that larger blocks fit there without a search.
    if (free.address + free.size === this.#end) {
      this.#free.remove(free.address, free.size);
      this.#end = free.address;
    }
  }

  /** Memory as float32 from `address`; valid until it grows. */
  f32(address: number, length: number): Float32Array {
    return new Float32Array(this.memory.buffer, address, length);
  }

  f64(address: number, length: number): Float64Array {
    return new Float64Array(this.memory.buffer, address, length);
  }

  i32(address: number, length: number): Int32Array {
    return new Int32Array(this.memory.buffer, address, length);
  }

  u16(address: number, length: number): Uint16Array {
    return new Uint16Array(this.memory.buffer, address, length);
  }

  i8(address: number, length: number): Int8Array {
    return new Int8Array(this.memory.buffer, address, length);
  }

  u8(address: number, length: number): Uint8Array {
    return new Uint8Array(this.memory.buffer, address, length);
  }

  /** Takes `size` bytes behind everything that was used, growing the memory when it ends. */
  #extend(size: number): number {
    const address = Math.ceil(this.#end / blockAlignment) * blockAlignment;
    const end = address + size;
    if (end + readableBeyond > this.#limit) throw this.#outOfMemory(size);
    const present = this.memory.buffer.byteLength;
    if (end + readableBeyond > present) {
      // Half as much again, at most 64 MiB more than needed: few growths, little waste.
      const ahead = Math.min(this.#limit, end + readableBeyond + Math.min(present >> 1, 64 * 2 ** 20));
      if (!this.#grow(ahead) && !this.#grow(end + readableBeyond)) throw this.#outOfMemory(size);
    }
    this.#end = end;
    return address;
  }

  #grow(bytes: number): boolean {
    try {
      this.memory.grow(Math.ceil((bytes - this.memory.buffer.byteLength) / pageBytes));
      return true;
    } catch {
      return false;
    }
  }

  #outOfMemory(size: number): AttentionError {
    return new AttentionError(
      'out-of-memory',
      `A block of ${size} bytes does not fit: ${this.#bytes} bytes are live of ${this.#limit} that can be addressed.`,
      'Release tensors, or split the call.',
    );
  }
}

/** Engines differ in how much address space they give a shared memory, so smaller maxima are tried. */
function reserve(shared: boolean, pages: number): WebAssembly.Memory {
  for (let maximum = pages; ; maximum = Math.floor(maximum / 2)) {
    try {
      return new WebAssembly.Memory({ initial: 1, maximum, shared });
    } catch (cause) {
      if (maximum <= 1024) {
        throw new AttentionError('out-of-memory', `The engine gives no memory of ${maximum * pageBytes} bytes.`, 'Close other tabs or runtimes.', { cause });
      }
    }
  }
}

/** Free ranges by size class (powers of two) and by both ends. */
class FreeRanges {
  readonly #sizes = new Map<number, number>();
  readonly #ends = new Map<number, number>();
  readonly #classes: Set<number>[] = Array.from({ length: 33 }, () => new Set());

  /** Removes `size` bytes from a range that holds them. */
  take(size: number): number | undefined {
    const own = classOf(size);
    for (let index = own; index < this.#classes.length; index += 1) {
      for (const address of this.#classes[index] ?? []) {
        const found = this.#sizes.get(address) ?? 0;
        if (found < size) continue;
        this.remove(address, found);
        if (found > size) this.#insert(address + size, found - size);
        return address;
      }
    }
    return undefined;
  }

  /** Adds a range and joins it with its free neighbours; returns the whole. */
  give(address: number, size: number): { readonly address: number; readonly size: number } {
    let start = address;
    let total = size;
    const before = this.#ends.get(address);
    if (before !== undefined) {
      this.remove(before, address - before);
      start = before;
      total += address - before;
    }
    const after = this.#sizes.get(address + size);
    if (after !== undefined) {
      this.remove(address + size, after);
      total += after;
    }
    this.#insert(start, total);
    return { address: start, size: total };
  }

  remove(address: number, size: number): void {
    this.#sizes.delete(address);
    this.#ends.delete(address + size);
    this.#classes[classOf(size)]?.delete(address);
  }

  #insert(address: number, size: number): void {
    this.#sizes.set(address, size);
    this.#ends.set(address + size, address);
    this.#classes[classOf(size)]?.add(address);
  }
}

/** floor(log2(size)), for sizes up to 2³². */
function classOf(size: number): number {
  return size >= 2 ** 32 ? 32 : 31 - Math.clz32(size);
}
