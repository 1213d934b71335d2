import type { Runtime, Tensor } from '@heed/core';
import { AttentionError, tensor, write } from '@heed/core';
import type { SequenceRows } from './rows.ts';
import type { SelectionWriter } from './selection.ts';

/** Numbers of scores held at once, a bound on the memory of a selector. */
const heldScores = 2 ** 22;

const biased = write('transform', 'biased', ({ table }) => table('scores', []).at().add(table('bias', []).at())).expression;

/** Ways to choose among scored candidates. */
export interface BestVisible {
  readonly writer: SelectionWriter;
  /** Planes of scores for one query row, as `scores` returns them. */
  readonly planes: number;
  /** Most candidates of a row. */
  readonly count: number;
  /** Candidates that a query at a position may choose: the first so many. */
  readonly visible: (position: number) => number;
  /** What a query at a position has besides: its own indices, and what is added to those of candidates. Default: nothing. */
  readonly forced?: { readonly of: (position: number) => readonly number[]; readonly first: number };
  /**
   * Scores of rows start … start + rows − 1 for the first `candidates`, [… , rows, candidates] with `planes` leading entries; given back by this function. Rows of one query
   * stand one under another for all planes.
   */
  readonly scores: (start: number, rows: number, candidates: number) => Tensor;
}

/**
 * The `count` best candidates that each query may choose, lower index on ties; all of them where there are no more. Rows are scored a chunk at a time, so memory does not grow with
 * queries × candidates.
 */
export async function chooseBestVisible(runtime: Runtime, { index, query, offset }: SequenceRows, { writer, planes, count, visible, scores, forced }: BestVisible): Promise<void> {
  const [, , length = 0] = query.shape;
  for (let row = 0; forced !== undefined && row < length; row++) for (let plane = 0; plane < planes; plane++) for (const own of forced.of(offset + row)) writer.add(index, plane, row, own);
  for (let start = 0; start < length;) {
    const most = Math.max(1, visible(offset + length - 1));
    const rows = Math.min(length - start, Math.max(1, Math.floor(heldScores / (planes * most))));
    const candidates = visible(offset + start + rows - 1);
    const best = Math.min(count, candidates);
    if (best > 0) {
      const given = scores(start, rows, candidates);
      const masked = mask(runtime, given, rows, candidates, (row) => visible(offset + start + row));
      const { values, indices } = runtime.operations.topK(masked, best);
      for (const made of new Set([given, masked, values])) runtime.release(made);
      const chosen = await runtime.read(indices);
      runtime.release(indices);
      const view = chosen.view();
      if (!(view instanceof Int32Array)) throw new AttentionError('invalid-dtype', `topK gave indices of ${chosen.dtype}.`, 'Expected i32.');
      for (let plane = 0; plane < planes; plane++) {
        for (let row = 0; row < rows; row++) {
          const from = (plane * rows + row) * best;
          // Candidates that are not visible come last, so as many as are visible are at the front.
          const chosen = view.subarray(from, from + Math.min(best, visible(offset + start + row)));
          if (forced === undefined) writer.fill(index, plane, start + row, chosen);
          else for (const candidate of chosen) writer.add(index, plane, start + row, forced.first + candidate);
        }
      }
    }
    start += rows;
  }
}

/** −∞ where a row may not choose; the scores themselves where all rows may choose all. */
function mask(runtime: Runtime, scores: Tensor, rows: number, candidates: number, visible: (row: number) => number): Tensor {
  const bias = new Float32Array(rows * candidates);
  let any = false;
  for (let row = 0; row < rows; row++) {
    const end = visible(row);
    if (end >= candidates) continue;
    any = true;
    bias.fill(-Infinity, row * candidates + end, (row + 1) * candidates);
  }
  if (!any) return scores;
  const held = runtime.upload(tensor(bias, [rows, candidates]));
  const spread = runtime.view(held, scores.shape, [...scores.shape.slice(0, -2).map(() => 0), candidates, 1]);
  const masked = runtime.operations.elementwise(biased, { scores, bias: spread });
  runtime.release(held);
  return masked;
}
