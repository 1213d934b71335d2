import type { Runtime, Tensor } from '@heed/core';
import { AttentionError, tensor, write } from '@heed/core';
import { chooseBestVisible } from './best-visible.ts';
import { compressedLength, nsaSizes, type NsaOptions, type NsaSizes } from './nsa-options.ts';
import { bindRows, groupedProducts, rowsUpTo, type SelectorRows, type SequenceRows } from './rows.ts';
import { SelectionWriter, type Selection } from './selection.ts';

export interface NsaRows extends Omit<SelectorRows, 'packed'> {
  /** Compressed keys [batch, keyHeads, blocks, dim], as `compressBlocks` makes them. */
  readonly key: Tensor;
  /** Of the compression branch. Default 1/√dim. */
  readonly scale?: number;
}

/** Added to scores of blocks that are not visible: e to it is 0, and it stays finite where nothing is visible. */
const unseen = -1e30;

const masked = write('transform', 'masked', ({ table, uniform }) => table('scores', []).at().mul(uniform('scale', 1)).add(table('bias', []).at())).expression;
const exponential = write('transform', 'exponential', ({ table }) => {
  const score = table('scores', []).at();
  return score.gt(unseen / 2).select(score.sub(table('largest', []).at()).exp(), 0);
}).expression;
/** A query that sees nothing has weights 0. */
const divided = write('transform', 'divided', ({ table }) => table('part', []).at().div(table('whole', []).at().max(1e-30))).expression;

/**
 * The selection branch of native sparse attention (Yuan 2025, section 3.3.2): the weights of compressed attention become the importance of selection blocks, a compression block counting once for
 * each stride that it shares with one; importance is summed over the query heads of a key head, which so share their blocks; the first blocks and the query's own and last ones are always selected.
 * Ties go to the lower index. Causal. Attend with `causal()` and `listRows(repeatHeads(selection, group))`.
 *
 * @returns block indices [batch, keyHeads, queryLength, count]
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `foreign-tensor`
 */
export async function selectNsa(runtime: Runtime, rows: NsaRows, options: NsaOptions = {}): Promise<Selection> {
  const sizes = nsaSizes(options);
  const { scale, ...own } = rows;
  const bound = bindRows(runtime, own);
  try {
    const { sequences, keyHeads, dim, longest } = bound;
    const writer = new SelectionWriter([sequences.length, keyHeads, longest, sizes.count]);
    for (const sequence of sequences) {
      const blockOf = (position: number): number => Math.floor(position / sizes.selectBlock);
      const overlaps = overlapMatrix(runtime, sequence.key.shape[2] ?? 0, sizes);
      const done = chooseBestVisible(runtime, sequence, {
        writer,
        planes: keyHeads,
        count: sizes.count - sizes.initial - sizes.local,
        // Between the initial blocks and the local ones.
        visible: (position) => Math.max(0, blockOf(position) - sizes.local + 1 - sizes.initial),
        forced: { first: sizes.initial, of: (position) => forcedBlocks(blockOf(position), sizes) },
        scores: (start, count, candidates) => importance(runtime, sequence, { start, count, candidates, scale: scale ?? 1 / Math.sqrt(dim), overlaps, sizes }),
      });
      await done.finally(() => {
        runtime.release(overlaps);
      });
    }
    return writer.finish(sizes.selectBlock);
  } finally {
    bound.release();
  }
}

/** The initial and the local blocks of a query in block `own`, each once. */
function forcedBlocks(own: number, { initial, local }: NsaSizes): readonly number[] {
  const blocks = new Set<number>();
  for (let block = 0; block < initial && block <= own; block++) blocks.add(block);
  for (let block = Math.max(0, own - local + 1); block <= own; block++) blocks.add(block);
  return [...blocks];
}

/** Strides that compression block c shares with selection block J: f32 [compression blocks, selection blocks]. */
function overlapMatrix(runtime: Runtime, blocks: number, { compressBlock, stride, selectBlock }: NsaSizes): Tensor {
  const columns = Math.max(1, Math.ceil(((blocks - 1) * stride + compressBlock) / selectBlock));
  const shared = new Float32Array(Math.max(1, blocks) * columns);
  for (let block = 0; block < blocks; block++) {
    for (let unit = block; unit < block + compressBlock / stride; unit++) {
      const at = block * columns + Math.floor((unit * stride) / selectBlock);
      shared[at] = (shared[at] ?? 0) + 1;
    }
  }
  return runtime.upload(tensor(shared, [Math.max(1, blocks), columns]));
}

interface ImportanceCall {
  readonly start: number;
  readonly count: number;
  readonly candidates: number;
  readonly scale: number;
  readonly overlaps: Tensor;
  readonly sizes: NsaSizes;
}

/** Importance of the blocks initial … initial + candidates − 1: [1, keyHeads, count, candidates]. */
function importance(runtime: Runtime, { query, key, offset }: SequenceRows, { start, count, candidates, scale, overlaps, sizes }: ImportanceCall): Tensor {
  const { operations } = runtime;
  const keyHeads = key.shape[1] ?? 1;
  const group = (query.shape[1] ?? 0) / keyHeads;
  const visible = (row: number): number => Math.min(key.shape[2] ?? 0, compressedLength(offset + start + row + 1, sizes));
  const blocks = visible(count - 1);
  const columns = overlaps.shape[1] ?? 0;
  if (compressedLength(offset + start + count, sizes) > (key.shape[2] ?? 0)) throw new AttentionError('invalid-argument', `Query row ${start + count - 1} sees ${compressedLength(offset + start + count, sizes)} compressed keys, and there are ${key.shape[2] ?? 0}.`, 'Give the compressed keys of every key up to the query.');
  if (blocks === 0 || sizes.initial >= columns) return runtime.upload(tensor(new Float32Array(keyHeads * count * candidates), [1, keyHeads, count, candidates]));
  const bias = new Float32Array(count * blocks);
  for (let row = 0; row < count; row++) bias.fill(unseen, row * blocks + visible(row), (row + 1) * blocks);
  const scores = groupedProducts(runtime, query, start, count, rowsUpTo(runtime, key, blocks));
  const over = (held: Tensor, strides: readonly number[]): Tensor => runtime.view(held, scores.shape, strides);
  const held = runtime.upload(tensor(bias, [count, blocks]));
  const seen = operations.elementwise(masked, { scores, bias: over(held, [0, 0, 0, blocks, 1]) }, { uniforms: { 'masked.scale': scale } });
  const largest = operations.reduce(seen, 'max');
  const steps = [keyHeads * group * count, group * count, count, 1, 0];
  const parts = operations.elementwise(exponential, { scores: seen, largest: over(largest, steps) });
  const wholes = operations.reduce(parts, 'sum');
  const weights = operations.elementwise(divided, { part: parts, whole: over(wholes, steps) });
  const matrix = overlapsOf(runtime, overlaps, { blocks, candidates, first: sizes.initial });
  const shares = operations.matmul(weights, matrix);
  const summed = operations.reduce(runtime.view(shares, [1, keyHeads, count, candidates, group], [keyHeads * group * count * candidates, group * count * candidates, candidates, 1, count * candidates]), 'sum');
  for (const made of [scores, held, seen, largest, parts, wholes, weights, matrix, shares]) runtime.release(made);
  return summed;
}

/** The columns first … first + candidates − 1 of the matrix, 0 past its end: [1, 1, 1, blocks, candidates]. */
function overlapsOf(runtime: Runtime, overlaps: Tensor, { blocks, candidates, first }: { readonly blocks: number; readonly candidates: number; readonly first: number }): Tensor {
  const columns = overlaps.shape[1] ?? 0;
  const known = Math.min(candidates, columns - first);
  const view = runtime.view(overlaps, [blocks, known], [columns, 1], first);
  if (known === candidates) return runtime.operations.copy(runtime.view(overlaps, [1, 1, 1, blocks, candidates], [0, 0, 0, columns, 1], first));
  const wide = runtime.upload(tensor(new Float32Array(blocks * candidates), [1, 1, 1, blocks, candidates]));
  runtime.operations.copy(view, { into: runtime.view(wide, [blocks, known], [candidates, 1]) });
  return wide;
}
