import { AttentionError, type Tensor } from '@heed/core';
import { checkCount } from '../parameters.ts';
import type { Temporaries } from '../temporaries.ts';
import type { CachedKeys, CacheRows, CacheShape, KeyValueCache } from './cache.ts';
import { allEqual, checkRollback, checkRows, forEach } from './rows.ts';
import { RowStorage } from './storage.ts';

export interface ContiguousCacheOptions extends CacheShape {
  readonly batch: number;
  /** Rows that there is room for at once; the room doubles when it is used up. Default 64. */
  readonly capacity?: number;
  /** Most tokens of a sequence; more are refused with `cache-full`. Default: as many as memory takes. */
  readonly maxLength?: number;
  /** Position of the first token, for all sequences or for each; −p for a sequence with p rows of padding on the left. Default 0. */
  readonly firstPosition?: number | readonly number[];
}

/**
 * Keys and values in one tensor each, [batch, keyHeads, capacity, dim]: appending copies the new rows, and all of them when the room is used up, so n appends cost O(n) copies.
 * @throws AttentionError `invalid-argument`, `out-of-memory`
 */
export function createContiguousCache(options: ContiguousCacheOptions): ContiguousCache {
  return new ContiguousCache(options);
}

/** See {@link createContiguousCache}. */
export class ContiguousCache implements KeyValueCache {
  readonly runtime: CacheShape['runtime'];
  readonly batch: number;
  readonly chunk: number = Infinity;
  readonly #shape: CacheShape;
  readonly #maxLength: number;
  readonly #firstPositions: readonly number[];
  #storage: RowStorage;
  #lengths: readonly number[];

  /** @internal use {@link createContiguousCache} */
  constructor({ batch, capacity = 64, maxLength = Infinity, firstPosition = 0, ...shape }: ContiguousCacheOptions) {
    this.runtime = shape.runtime;
    this.batch = checkCount('batch', batch, 0);
    this.#shape = shape;
    this.#maxLength = maxLength === Infinity ? maxLength : checkCount('maxLength', maxLength, 0);
    this.#firstPositions = forEach(batch, firstPosition, 'firstPosition');
    this.#storage = new RowStorage(shape, batch, Math.min(checkCount('capacity', capacity, 0), this.#maxLength));
    this.#lengths = this.#firstPositions.map(() => 0);
  }

  get lengths(): readonly number[] {
    return this.#lengths;
  }

  get nextPositions(): readonly number[] {
    return this.#lengths.map((length, sequence) => length + (this.#firstPositions[sequence] ?? 0));
  }

  /** Rows that there is room for without growing. */
  get capacity(): number {
    return this.#storage.rows;
  }

  append(rows: CacheRows): void {
    const counts = checkRows({ ...this.#shape, batch: this.batch, nextPositions: this.nextPositions }, rows);
    const lengths = this.#lengths.map((length, sequence) => length + (counts[sequence] ?? 0));
    this.reserve(Math.max(0, ...lengths));
    this.#write(rows.key, rows.value, counts);
    this.#lengths = lengths;
  }

  /**
   * Makes room for as many rows of each sequence, so that appending up to there allocates nothing.
   * @throws AttentionError `cache-full`, `out-of-memory`; the cache is as it was
   */
  reserve(rows: number): void {
    if (rows > this.#maxLength) throw new AttentionError('cache-full', `The cache is to hold ${rows} tokens, and may hold ${this.#maxLength}.`, 'Roll back, start a new cache, or use a ring.');
    if (rows <= this.#storage.rows) return;
    const storage = new RowStorage(this.#shape, this.batch, Math.min(this.#maxLength, Math.max(rows, 2 * this.#storage.rows)));
    const { key, value } = this.#storage;
    storage.write(key, value, { entry: null, row: 0 }, { entry: null, row: 0 }, Math.max(0, ...this.#lengths));
    this.#storage.release();
    this.#storage = storage;
  }

  read(_temporaries: Temporaries): readonly CachedKeys[] {
    const { key, value } = this.#storage;
    return [{ key, value, keyLengths: this.#lengths, keyOffset: this.#firstPositions }];
  }

  rollback(count: number | readonly number[]): void {
    const counts = checkRollback(this.#lengths, count);
    this.#lengths = this.#lengths.map((length, sequence) => length - (counts[sequence] ?? 0));
  }

  dispose(): void {
    this.#storage.release();
  }

  #write(key: Tensor, value: Tensor | undefined, counts: readonly number[]): void {
    const storage = this.#storage;
    if (allEqual(counts) && allEqual(this.#lengths)) {
      storage.write(key, value, { entry: null, row: 0 }, { entry: null, row: this.#lengths[0] ?? 0 }, counts[0] ?? 0);
      return;
    }
    counts.forEach((count, entry) => {
      storage.write(key, value, { entry, row: 0 }, { entry, row: this.#lengths[entry] ?? 0 }, count);
    });
  }
}
