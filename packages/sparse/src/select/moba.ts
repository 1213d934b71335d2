import type { HostTensor, Runtime, Tensor } from '@heed/core';
import { AttentionError } from '@heed/core';
import { blockSums, type PooledKeys, rowsOf } from './pooled-keys.ts';
import { bindRows, groupedProducts, type SelectorRows, type SequenceRows } from './rows.ts';
import { SelectionWriter, type Selection } from './selection.ts';

export interface MobaOptions {
  /** Keys of a block; 512 in the paper's long runs. */
  readonly blockLength: number;
  /** Blocks of a query, its own included: 1 is attention within blocks, as many as there are is attention to every key before. */
  readonly count: number;
}

export interface MobaRows extends SelectorRows {
  /** Sums of the same keys, kept by a cache of one sequence or of a batch of equal lengths; then `key` itself is not read. Default: the keys are pooled here. */
  readonly pooled?: PooledKeys;
}

/**
 * Blocks by pooled keys (MoBA, Lu 2025, section 2.2): a query's own block, and those before it with the largest product of the query and the block's mean key, `count` in all. The product is not
 * scaled; ties go to the lower index. A block is a candidate once the query stands behind it, so it is whole, and prefill and decoding choose alike. Causal.
 *
 * Attend with `causal()` and `gatherQueries(selection)`.
 *
 * @returns block indices [sequences, heads, queryLength, count], for each query and head
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `foreign-tensor`
 */
export async function selectMoba(runtime: Runtime, rows: MobaRows, { blockLength, count }: MobaOptions): Promise<Selection> {
  for (const [name, size] of Object.entries({ blockLength, count })) {
    if (!Number.isSafeInteger(size) || size < 1) throw new AttentionError('invalid-argument', `selectMoba got ${name} ${size}.`, 'Expected an integer of 1 or more.');
  }
  if (rows.pooled !== undefined && rows.pooled.unit !== blockLength) throw new AttentionError('invalid-argument', `The pooled keys have blocks of ${rows.pooled.unit}, the selector of ${blockLength}.`, 'Pool with the selector’s block length.');
  const bound = bindRows(runtime, rows);
  const { sequences, heads, longest } = bound;
  const writer = new SelectionWriter([sequences.length, heads, longest, count]);
  const made: Tensor[] = [];
  try {
    const chosen: (Ranked & { readonly sequence: number })[] = [];
    for (const sequence of sequences) {
      const sums = rows.pooled === undefined ? ownSums(runtime, sequence, blockLength, made) : pooledSums(runtime, rows.pooled, sequence.index, sequences.length);
      for (const part of rankBlocks(runtime, sequence, sums, { blockLength, count }, made)) chosen.push({ ...part, sequence: sequence.index });
    }
    for (const { sequence, own, start, rowCount, indices } of chosen) write(writer, { sequence, heads, own, start, rowCount }, indices === null ? null : await runtime.read(indices));
    return writer.finish(blockLength);
  } finally {
    for (const tensor of made) runtime.release(tensor);
    bound.release();
  }
}

/** Rows that share their own block, with the best blocks before it. */
interface Ranked {
  readonly own: number;
  readonly start: number;
  readonly rowCount: number;
  /** i32 [1, keyHeads, group, rowCount, best]; null where there are none, or none is wanted. */
  readonly indices: Tensor | null;
}

/** The best blocks of a sequence's queries. Queries of one block have the same candidates, so no score is masked. */
function rankBlocks(runtime: Runtime, { query, offset }: SequenceRows, sums: Tensor | null, { blockLength, count }: MobaOptions, made: Tensor[]): readonly Ranked[] {
  const [, , length = 0] = query.shape;
  const ranked: Ranked[] = [];
  for (let start = 0; start < length;) {
    const own = Math.floor((offset + start) / blockLength);
    const rowCount = Math.min(length, (own + 1) * blockLength - offset) - start;
    const best = Math.min(count - 1, own);
    let indices: Tensor | null = null;
    if (best > 0) {
      if (sums === null || (sums.shape[2] ?? 0) < own) throw new AttentionError('invalid-argument', `Query row ${start} stands in block ${own}, and ${sums?.shape[2] ?? 0} blocks before it are known.`, 'Give every key up to the query.');
      const products = groupedProducts(runtime, query, start, rowCount, rowsOf(runtime, sums, 0, own));
      const top = runtime.operations.topK(products, best);
      runtime.release(products);
      runtime.release(top.values);
      made.push(top.indices);
      indices = top.indices;
    }
    ranked.push({ own, start, rowCount, indices });
    start += rowCount;
  }
  return ranked;
}

function ownSums(runtime: Runtime, { key }: SequenceRows, blockLength: number, made: Tensor[]): Tensor {
  const sums = blockSums(runtime, key, blockLength);
  made.push(sums);
  const [batch = 0, heads = 0, blocks = 0, , dim = 0] = sums.shape;
  return runtime.view(sums, [batch, heads, blocks, dim]);
}

function pooledSums(runtime: Runtime, pooled: PooledKeys, entry: number, sequences: number): Tensor | null {
  const sums = pooled.sums();
  if (sums === null) return null;
  const [batch = 0, heads = 0, blocks = 0, dim = 0] = sums.shape;
  if (batch !== sequences) throw new AttentionError('invalid-argument', `The pooled keys are of ${batch} sequences, the queries of ${sequences}.`, 'Keep one cache for each set of sequences.');
  return runtime.view(sums, [1, heads, blocks, dim], sums.strides, entry * (sums.strides[0] ?? 0));
}

function write(writer: SelectionWriter, { sequence, heads, own, start, rowCount }: { readonly sequence: number; readonly heads: number; readonly own: number; readonly start: number; readonly rowCount: number }, indices: HostTensor | null): void {
  const view = indices?.view();
  const best = indices?.shape.at(-1) ?? 0;
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < rowCount; row++) {
      for (let rank = 0; rank < best; rank++) writer.add(sequence, head, start + row, view?.[(head * rowCount + row) * best + rank] ?? 0);
      writer.add(sequence, head, start + row, own);
    }
  }
}
