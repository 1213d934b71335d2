import type { Runtime } from '../backend.ts';
import type { BlockList } from '../block-list.ts';
import { AttentionError } from '../errors.ts';
import type { HostTensor, Tensor } from '../tensor.ts';
import { isHostTensor } from '../tensor.ts';
import { show } from '../show.ts';
import { checkTensor } from './tensors.ts';

/** Sizes of the plane that a block list covers. */
export interface PlaneSizes {
  /** Sequences: batch entries, or packed sequences. */
  readonly batch: number;
  readonly heads: number;
  readonly queryRows: number;
  readonly keyRows: number;
}

/**
 * Checks the shapes of a block list, and its contents where the host can see them: counts within capacity, key tiles in range, ascending and each once,
 * gathered query rows in range. Contents on a device are the device's to guard.
 *
 * @throws AttentionError `invalid-blocks`, and those of a tensor
 */
export function checkBlockList(list: BlockList, sizes: PlaneSizes, runtime?: Runtime): void {
  const given: unknown = list;
  if (typeof given !== 'object' || given === null) throw invalid(`blocks is ${show(given)}`, 'Pass { blockQuery, blockKey, counts, indices }.');
  for (const name of ['blockQuery', 'blockKey'] as const) {
    const size: unknown = list[name];
    if (!Number.isSafeInteger(size) || (size as number) < 1) throw invalid(`blocks.${name} is ${show(size)}`, 'Expected an integer of 1 or more.');
  }
  const counts = part('counts', list.counts, 'i32', runtime);
  const indices = part('indices', list.indices, 'i32', runtime);
  const tiles = counts.shape[2] ?? 0;
  const capacity = indices.shape[3] ?? 0;
  const lead = [counts.shape[0] ?? 0, counts.shape[1] ?? 0];
  if (counts.shape.length !== 3 || !isShared(lead[0], sizes.batch) || !isShared(lead[1], sizes.heads)) {
    throw invalid(`blocks.counts has shape [${counts.shape.join(', ')}]`, `Expected [${sizes.batch} or 1, ${sizes.heads} or 1, query tiles].`);
  }
  expectShape('indices', indices, [...lead, tiles, null], 'capacity');
  const full = list.full === undefined ? null : part('full', list.full, 'u8', runtime);
  if (full !== null) expectShape('full', full, [...lead, tiles, capacity], 'capacity');
  const rows = list.queryRows === undefined ? null : part('queryRows', list.queryRows, 'i32', runtime);
  if (rows !== null) expectShape('queryRows', rows, [...lead, tiles, list.blockQuery], 'blockQuery');
  else if (tiles !== Math.ceil(sizes.queryRows / list.blockQuery)) {
    throw invalid(`blocks.counts has ${tiles} query tiles of ${list.blockQuery} rows for ${sizes.queryRows} rows`, `Expected ${Math.ceil(sizes.queryRows / list.blockQuery)}, or gathered rows in queryRows.`);
  }
  if (isHostTensor(counts) && isHostTensor(indices)) checkIndices(counts, indices, Math.ceil(sizes.keyRows / list.blockKey));
  if (rows !== null && isHostTensor(rows)) checkRows(rows, sizes.queryRows);
}

function invalid(what: string, hint: string): AttentionError {
  return new AttentionError('invalid-blocks', `${what}.`, hint);
}

function part(name: string, given: unknown, dtype: 'i32' | 'u8', runtime: Runtime | undefined): Tensor {
  const tensor = checkTensor(`blocks.${name}`, given, runtime);
  if (tensor.dtype !== dtype) throw invalid(`blocks.${name} is ${tensor.dtype}`, `Expected ${dtype}.`);
  return tensor;
}

function isShared(size: number | undefined, whole: number): boolean {
  return size === 1 || size === whole;
}

function expectShape(name: string, tensor: Tensor, expected: readonly (number | null)[], last: string): void {
  if (tensor.shape.length === expected.length && tensor.shape.every((size, axis) => expected[axis] === null || expected[axis] === size)) return;
  throw invalid(`blocks.${name} has shape [${tensor.shape.join(', ')}]`, `Expected [${expected.map((size) => size ?? last).join(', ')}], like counts with ${last} at the end.`);
}

function checkIndices(counts: HostTensor, indices: HostTensor, keyTiles: number): void {
  const [batch = 0, heads = 0, tiles = 0, capacity = 0] = indices.shape;
  const [stepB = 0, stepH = 0, stepT = 0, step = 0] = indices.strides;
  const [countB = 0, countH = 0, countT = 0] = counts.strides;
  const count = counts.view();
  const index = indices.view();
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let t = 0; t < tiles; t++) {
        const listed = count[b * countB + h * countH + t * countT] ?? 0;
        if (listed < 0 || listed > capacity) throw invalid(`blocks.counts[${b}, ${h}, ${t}] is ${listed}`, `Expected 0 … ${capacity}, the capacity of indices.`);
        const base = b * stepB + h * stepH + t * stepT;
        let previous = -1;
        for (let place = 0; place < listed; place++) {
          const tile = index[base + place * step] ?? -1;
          if (tile <= previous || tile >= keyTiles) {
            throw invalid(
              `blocks.indices[${b}, ${h}, ${t}, ${place}] is ${tile}${place > 0 ? `, after ${previous}` : ''}`,
              `Expected key tiles 0 … ${keyTiles - 1}, ascending, each once.`,
            );
          }
          previous = tile;
        }
      }
    }
  }
}

function checkRows(rows: HostTensor, queryRows: number): void {
  const [batch = 0, heads = 0, tiles = 0, size = 0] = rows.shape;
  const [stepB = 0, stepH = 0, stepT = 0, step = 0] = rows.strides;
  const view = rows.view();
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let t = 0; t < tiles; t++) {
        for (let place = 0; place < size; place++) {
          const row = view[b * stepB + h * stepH + t * stepT + place * step] ?? -2;
          if (row < -1 || row >= queryRows) throw invalid(`blocks.queryRows[${b}, ${h}, ${t}, ${place}] is ${row}`, `Expected 0 … ${queryRows - 1}, or −1 where a tile is short.`);
        }
      }
    }
  }
}
