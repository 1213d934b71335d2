import type { Runtime, Tensor } from '@heed/core';
import { AttentionError, isHostTensor, tensor, write } from '@heed/core';

/**
 * Sums of the rows of each whole block, in the order of the rows, so that a sum kept from step to step is the same.
 *
 * @param rows [batch, heads, length, dim] of the runtime; rows behind the last whole block are left out
 * @returns [batch, heads, ⌊length / unit⌋, 1, dim], for the caller to release
 */
export function blockSums(runtime: Runtime, rows: Tensor, unit: number): Tensor {
  const [batch = 0, heads = 0, length = 0, dim = 0] = rows.shape;
  const blocks = Math.floor(length / unit);
  if (batch * heads * blocks === 0) return runtime.tensor([batch, heads, blocks, 1, dim], 'f32');
  const [stepB = 0, stepH = 0, stepL = 0, step = 1] = rows.strides;
  const blocked = runtime.view(rows, [batch, heads, blocks, unit, dim], [stepB, stepH, stepL * unit, stepL, step]);
  const ones = runtime.upload(tensor(new Float32Array(unit).fill(1), [unit]));
  const sums = runtime.operations.matmul(runtime.view(ones, [batch, heads, blocks, 1, unit], [0, 0, 0, 0, 1]), blocked, { dtype: 'f32' });
  runtime.release(ones);
  return sums;
}

const sumOfTwo = write('transform', 'sumOfTwo', ({ table }) => table('a', []).at().add(table('b', []).at())).expression;

/**
 * Block sums of a growing cache. A block counts once it is whole; the open one is a running sum. Appending rows one by one, in chunks or all at once gives the same sums.
 * Rows live on the runtime; sums of whole blocks are handed out as one tensor.
 */
export class PooledKeys {
  readonly unit: number;
  readonly #runtime: Runtime;
  /** Sums of whole blocks, [batch, heads, capacity, dim], of which the first `#blocks` count. */
  #sums: Tensor | null = null;
  #blocks = 0;
  /** Sum of the open block [batch, heads, 1, dim], and how many rows it has. */
  #open: Tensor | null = null;
  #openRows = 0;

  /** @param unit rows of a block */
  constructor(runtime: Runtime, unit: number) {
    if (!Number.isSafeInteger(unit) || unit < 1) throw new AttentionError('invalid-argument', `The pooled blocks have ${unit} rows.`, 'Expected an integer of 1 or more.');
    this.#runtime = runtime;
    this.unit = unit;
  }

  /** Rows so far. */
  get length(): number {
    return this.#blocks * this.unit + this.#openRows;
  }

  /** Whole blocks so far. */
  get blocks(): number {
    return this.#blocks;
  }

  /** @param rows [batch, heads, count, dim], of this runtime or the host */
  append(rows: Tensor): void {
    const runtime = this.#runtime;
    const given = onRuntime(runtime, rows);
    const [, , count = 0] = given.shape;
    for (let row = 0; row < count;) {
      const room = this.unit - this.#openRows;
      if (this.#openRows === 0 && count - row >= this.unit) {
        const whole = Math.floor((count - row) / this.unit) * this.unit;
        const sums = blockSums(runtime, rowsOf(runtime, given, row, whole), this.unit);
        const [batch = 0, heads = 0, blocks = 0, , dim = 0] = sums.shape;
        this.#push(runtime.view(sums, [batch, heads, blocks, dim]));
        runtime.release(sums);
        row += whole;
        continue;
      }
      const taken = Math.min(room, count - row);
      for (let next = row; next < row + taken; next++) this.#add(rowsOf(runtime, given, next, 1));
      row += taken;
    }
    if (given !== rows) runtime.release(given);
  }

  /** Sums of the whole blocks, [batch, heads, blocks, dim]: a view that ends with the next `append`. Null before the first block is whole. */
  sums(): Tensor | null {
    const held = this.#sums;
    if (held === null || this.#blocks === 0) return null;
    return rowsOf(this.#runtime, held, 0, this.#blocks);
  }

  dispose(): void {
    for (const held of [this.#sums, this.#open]) if (held !== null) this.#runtime.release(held);
    [this.#sums, this.#open, this.#blocks, this.#openRows] = [null, null, 0, 0];
  }

  #add(row: Tensor): void {
    const runtime = this.#runtime;
    const before = this.#open;
    this.#open = before === null ? runtime.operations.copy(row, { dtype: 'f32' }) : runtime.operations.elementwise(sumOfTwo, { a: before, b: row }, { dtype: 'f32' });
    if (before !== null) runtime.release(before);
    this.#openRows += 1;
    if (this.#openRows < this.unit) return;
    this.#push(this.#open);
    runtime.release(this.#open);
    [this.#open, this.#openRows] = [null, 0];
  }

  #push(sums: Tensor): void {
    const runtime = this.#runtime;
    const [batch = 0, heads = 0, count = 0, dim = 0] = sums.shape;
    const held = this.#sums;
    const capacity = held?.shape[2] ?? 0;
    if (held === null || this.#blocks + count > capacity) {
      const larger = runtime.tensor([batch, heads, Math.max(2 * capacity, this.#blocks + count, 16), dim], 'f32');
      if (held !== null && this.#blocks > 0) runtime.operations.copy(rowsOf(runtime, held, 0, this.#blocks), { into: rowsOf(runtime, larger, 0, this.#blocks) });
      if (held !== null) runtime.release(held);
      this.#sums = larger;
    }
    const target = this.#sums;
    if (target !== null) runtime.operations.copy(sums, { into: rowsOf(runtime, target, this.#blocks, count) });
    this.#blocks += count;
  }
}

/** Rows start … start + count − 1 of [batch, heads, length, dim]. */
export function rowsOf(runtime: Runtime, source: Tensor, start: number, count: number): Tensor {
  const [batch = 0, heads = 0, , dim = 0] = source.shape;
  return runtime.view(source, [batch, heads, count, dim], source.strides, start * (source.strides[2] ?? 0));
}

/** The tensor itself, or a copy of one of the host for the caller to release. @throws AttentionError `foreign-tensor` */
export function onRuntime(runtime: Runtime, given: Tensor): Tensor {
  if (given.runtime === runtime) return given;
  if (given.runtime !== null || !isHostTensor(given)) throw new AttentionError('foreign-tensor', 'A tensor belongs to another runtime.', 'Pass tensors of the selector’s runtime, or of the host.');
  return runtime.upload(given);
}
