import type { Runtime } from '@heed/core';
import { AttentionError } from '@heed/core';
import { chooseBestVisible } from './best-visible.ts';
import { bindRows, groupedProducts, rowsUpTo, type SelectorRows } from './rows.ts';
import { SelectionWriter, type Selection } from './selection.ts';

export interface TopKeysOptions {
  /** Keys of a query; all that it may see where there are no more. */
  readonly count: number;
  /** Only keys up to the query's position. Default true. */
  readonly causal?: boolean;
}

/**
 * The keys with the largest products, for each query and head (top-k attention, Gupta 2021). Ties go to the lower index. Every product is computed, a chunk of rows at a time; what is saved is the
 * attention. Attend with `listRows(selection)`, or `gatherQueries(selection)`.
 *
 * @returns key indices [sequences, heads, queryLength, count]
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `foreign-tensor`
 */
export async function selectTopKeys(runtime: Runtime, rows: SelectorRows, { count, causal = true }: TopKeysOptions): Promise<Selection> {
  if (!Number.isSafeInteger(count) || count < 1) throw new AttentionError('invalid-argument', `selectTopKeys got count ${count}.`, 'Expected an integer of 1 or more.');
  const bound = bindRows(runtime, rows);
  try {
    const writer = new SelectionWriter([bound.sequences.length, bound.heads, bound.longest, count]);
    for (const sequence of bound.sequences) {
      const { query, key } = sequence;
      const keyLength = key.shape[2] ?? 0;
      await chooseBestVisible(runtime, sequence, {
        writer,
        planes: bound.heads,
        count,
        visible: (position) => (causal ? Math.min(keyLength, position + 1) : keyLength),
        scores: (start, length, candidates) => groupedProducts(runtime, query, start, length, rowsUpTo(runtime, key, candidates)),
      });
    }
    return writer.finish(1);
  } finally {
    bound.release();
  }
}
