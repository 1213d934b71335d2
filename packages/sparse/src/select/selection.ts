import type { HostTensor } from '@heed/core';
import { AttentionError, elementCount, isContiguous, isHostTensor, tensor, toFloat64 } from '@heed/core';

/**
 * What a selector chose, as plain data on the host: it can be read, saved, sent, and given back. For each query row the indices of runs of `unit` keys: index n is the keys
 * n · unit … n · unit + unit − 1 of the row's sequence.
 */
export interface Selection {
  /** Keys that one index stands for: 1 where keys are chosen one by one, else the length of a block. */
  readonly unit: number;
  /** i32 [batch | 1, heads | 1, queryLength, capacity], ascending and each once, −1 behind the last. */
  readonly indices: HostTensor;
}

/** Ascending indices of one row at a time, in rows of `capacity` places. */
export class SelectionWriter {
  readonly #indices: Int32Array;
  readonly #shape: readonly [number, number, number, number];

  constructor(shape: readonly [batch: number, heads: number, rows: number, capacity: number]) {
    this.#shape = shape;
    this.#indices = new Int32Array(shape.reduce((product, size) => product * size, 1)).fill(-1);
  }

  /** Adds an index to a row, at its place in the order. Each once, and no more than the capacity. */
  add(batch: number, head: number, row: number, index: number): void {
    const [, heads, rows, capacity] = this.#shape;
    const start = ((batch * heads + head) * rows + row) * capacity;
    let place = start;
    while (place < start + capacity && (this.#indices[place] ?? -1) >= 0) place++;
    if (place === start + capacity) throw new RangeError(`row ${row} has its ${capacity} indices already`);
    for (; place > start && (this.#indices[place - 1] ?? -1) > index; place--) this.#indices[place] = this.#indices[place - 1] ?? -1;
    this.#indices[place] = index;
  }

  /** Many indices of one row that had none, in any order. */
  fill(batch: number, head: number, row: number, chosen: Int32Array): void {
    const [, heads, rows, capacity] = this.#shape;
    this.#indices.set(chosen.toSorted(), ((batch * heads + head) * rows + row) * capacity);
  }

  finish(unit: number): Selection {
    return Object.freeze({ unit, indices: tensor(this.#indices, this.#shape) });
  }
}

/** The indices of one row. */
export function chosenOf({ indices }: Selection, batch: number, head: number, row: number): readonly number[] {
  const [batches = 1, heads = 1, rows = 0, capacity = 0] = indices.shape;
  const start = (((batches === 1 ? 0 : batch) * heads + (heads === 1 ? 0 : head)) * rows + row) * capacity;
  const found = toFloat64(indices).subarray(start, start + capacity);
  const end = found.indexOf(-1);
  return [...(end < 0 ? found : found.subarray(0, end))];
}

/** @throws AttentionError `invalid-argument` for what no selector makes: other shapes or dtypes, indices that do not ascend */
export function checkSelection({ unit, indices }: Selection): Int32Array {
  if (!Number.isSafeInteger(unit) || unit < 1) throw new AttentionError('invalid-argument', `The selection's unit is ${unit}.`, 'Expected an integer of 1 or more.');
  if (!isHostTensor(indices) || indices.dtype !== 'i32' || indices.shape.length !== 4) {
    throw new AttentionError('invalid-argument', `The selection's indices are ${indices.dtype} [${indices.shape.join(', ')}].`, 'Expected i32 [batch or 1, heads or 1, queryLength, capacity] on the host.');
  }
  const view = indices.view();
  const dense = isContiguous(indices) && view instanceof Int32Array ? view.subarray(0, elementCount(indices.shape)) : Int32Array.from(toFloat64(indices));
  const capacity = indices.shape[3] ?? 0;
  for (let place = 0; place < dense.length; place++) {
    const index = dense[place] ?? -1;
    const before = place % capacity === 0 ? -1 : (dense[place - 1] ?? -1);
    const ended = place % capacity > 0 && before < 0;
    if (index < -1 || (index >= 0 && (ended || index <= before))) {
      throw new AttentionError('invalid-argument', `The selection's element ${place} is ${index}, after ${before}.`, 'Expected ascending indices, each once, and −1 behind the last.');
    }
  }
  return dense;
}

/** A choice of key heads as one of the query heads that read them: each `group` times, one after another (L6). */
export function repeatHeads(selection: Selection, group: number): Selection {
  const chosen = checkSelection(selection);
  if (!Number.isSafeInteger(group) || group < 1) throw new AttentionError('invalid-argument', `Got a group of ${group} heads.`, 'Expected an integer of 1 or more.');
  const [batch = 0, heads = 0, rows = 0, capacity = 0] = selection.indices.shape;
  const size = rows * capacity;
  const repeated = new Int32Array(batch * heads * group * size);
  for (let head = 0; head < batch * heads; head++) for (let copy = 0; copy < group; copy++) repeated.set(chosen.subarray(head * size, (head + 1) * size), (head * group + copy) * size);
  return Object.freeze({ unit: selection.unit, indices: tensor(repeated, [batch, heads * group, rows, capacity]) });
}
