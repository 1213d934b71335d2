import type { Runtime, Tensor } from '@heed/core';
import type { CacheShape } from './cache.ts';

/** Memory for rows of keys and values: [entries, keyHeads, rows, dim] each, or keys alone where values are channels of them. */
export class RowStorage {
  readonly rows: number;
  readonly key: Tensor;
  readonly value: Tensor;
  readonly #runtime: Runtime;
  readonly #ownsValue: boolean;

  /** @throws AttentionError `out-of-memory`; then nothing is held */
  constructor({ runtime, keyHeads, keyDim, valueDim, dtype = 'f32', valueStart }: CacheShape, entries: number, rows: number) {
    this.#runtime = runtime;
    this.rows = rows;
    this.#ownsValue = valueStart === undefined;
    this.key = runtime.tensor([entries, keyHeads, rows, keyDim], dtype);
    try {
      this.value =
        valueStart === undefined
          ? runtime.tensor([entries, keyHeads, rows, valueDim], dtype)
          : runtime.view(this.key, [entries, keyHeads, rows, valueDim], this.key.strides, valueStart);
    } catch (error) {
      runtime.release(this.key);
      throw error;
    }
  }

  release(): void {
    this.#runtime.release(this.key);
    if (this.#ownsValue) this.#runtime.release(this.value);
  }

  /**
   * Writes `count` rows of entry `from.entry` of `key` and `value`, from row `from.row` on, to `to`. An entry of null stands for all of them.
   */
  write(key: Tensor, value: Tensor | undefined, from: RowPlace, to: RowPlace, count: number): void {
    if (count === 0) return;
    copyRows(this.#runtime, key, from, this.key, to, count);
    if (this.#ownsValue && value !== undefined) copyRows(this.#runtime, value, from, this.value, to, count);
  }
}

/** A row of one entry of axis 0, or of all of them. */
export interface RowPlace {
  readonly entry: number | null;
  readonly row: number;
}

function copyRows(runtime: Runtime, source: Tensor, from: RowPlace, target: Tensor, to: RowPlace, count: number): void {
  runtime.operations.copy(rowsOf(runtime, source, from, count), { into: rowsOf(runtime, target, to, count) });
}

/** Rows of one entry of [entries, heads, rows, dim], or of all. */
export function rowsOf(runtime: Runtime, tensor: Tensor, { entry, row }: RowPlace, count: number): Tensor {
  const [entries = 0, heads = 0, , dim = 0] = tensor.shape;
  const [entryStep = 0, , rowStep = 0] = tensor.strides;
  return runtime.view(tensor, [entry === null ? entries : 1, heads, count, dim], tensor.strides, (entry ?? 0) * entryStep + row * rowStep);
}
