import type { Runtime, Tensor } from '@heed/core';
import { AttentionError, write } from '@heed/core';
import { chooseBestVisible } from './best-visible.ts';
import { onRuntime } from './pooled-keys.ts';
import { bindRows, groupedProducts, rowsUpTo, type SelectorRows } from './rows.ts';
import { SelectionWriter, type Selection } from './selection.ts';

export interface IndexerRows extends SelectorRows {
  /** Indexer queries [batch, indexHeads, queryLength, indexDim]. */
  readonly query: Tensor;
  /** The one indexer key of each token, [batch, 1, keyLength, indexDim]. */
  readonly key: Tensor;
  /** Signed weights of the indexer's heads, [batch, indexHeads, queryLength]. */
  readonly weights: Tensor;
}

export interface IndexerOptions {
  /** Keys of a query; 2048 in DeepSeek-V3.2. */
  readonly count: number;
}

const weighted = write('transform', 'weighted', ({ table }) => table('products', []).at().max(0).mul(table('weights', []).at())).expression;

/**
 * The lightning indexer of DeepSeek sparse attention (DeepSeek-V3.2, section 2.1, equation 1): I(t, s) = Σ_j w(t, j) · ReLU(q(t, j) · k(s)), and the `count` keys s ≤ t with the largest I. All
 * attention heads share the choice. Ties go to the lower index. Causal. Attend with `listRows(selection)`.
 *
 * @returns key indices [sequences, 1, queryLength, count]
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `foreign-tensor`
 */
export async function selectByIndexer(runtime: Runtime, rows: IndexerRows, { count }: IndexerOptions): Promise<Selection> {
  if (!Number.isSafeInteger(count) || count < 1) throw new AttentionError('invalid-argument', `selectByIndexer got count ${count}.`, 'Expected an integer of 1 or more.');
  const { weights, ...own } = rows;
  const [batch = 0, indexHeads = 0, length = 0] = own.query.shape;
  if (weights.shape.join() !== [batch, indexHeads, length].join() || own.key.shape[1] !== 1) {
    throw new AttentionError('invalid-shape', `Got weights [${weights.shape.join(', ')}] and keys of ${own.key.shape[1] ?? 0} heads.`, `Expected weights [${batch}, ${indexHeads}, ${length}] and one key head.`);
  }
  const bound = bindRows(runtime, own);
  const held = onRuntime(runtime, weights);
  try {
    const writer = new SelectionWriter([bound.sequences.length, 1, bound.longest, count]);
    for (const sequence of bound.sequences) {
      const { index, query, key } = sequence;
      const keyLength = key.shape[2] ?? 0;
      const [stepB = 0, stepH = 0, stepL = 1] = held.strides;
      const first = rows.packed === undefined ? index * stepB : (rows.packed.query[index] ?? 0) * stepL;
      await chooseBestVisible(runtime, sequence, {
        writer,
        planes: 1,
        count,
        visible: (position) => Math.min(keyLength, position + 1),
        scores: (start, own, candidates) => {
          const products = groupedProducts(runtime, query, start, own, rowsUpTo(runtime, key, candidates));
          const spread = runtime.view(held, [1, 1, indexHeads, own, candidates], [0, 0, stepH, stepL, 0], first + start * stepL);
          const parts = runtime.operations.elementwise(weighted, { products, weights: spread });
          runtime.release(products);
          const scores = runtime.operations.reduce(runtime.view(parts, [own, candidates, indexHeads], [candidates, 1, own * candidates]), 'sum');
          runtime.release(parts);
          return scores;
        },
      });
    }
    return writer.finish(1);
  } finally {
    if (held !== weights) runtime.release(held);
    bound.release();
  }
}
