import type { HostTensor } from '@heed/core';
import { AttentionError, causal, documents, tensor } from '@heed/core';
import { patternOf, type Pattern } from './pattern.ts';

export interface BlockDiagonalOptions {
  /** Also causal. Default false. */
  readonly causal?: boolean;
}

/** Documents one after another in a row, each seeing itself alone: the list has a block for each on its diagonal. Its tables are {@link documentTables}. */
export function blockDiagonal({ causal: ordered = false }: BlockDiagonalOptions = {}): Pattern {
  return patternOf(ordered ? causal().and(documents()) : documents(), 'blockDiagonal');
}

/**
 * The tables of documents of these lengths: i32 [1, total], the number of each row's document.
 * @throws AttentionError `invalid-argument` for a length that is no integer of 0 or more
 */
export function documentTables(lengths: readonly number[]): { readonly queryDocuments: HostTensor; readonly keyDocuments: HostTensor } {
  for (const length of lengths) if (!Number.isSafeInteger(length) || length < 0) throw new AttentionError('invalid-argument', `A document has ${length} rows.`, 'Expected integers of 0 or more.');
  const numbers = new Int32Array(lengths.reduce((sum, length) => sum + length, 0));
  let end = 0;
  for (const [document, length] of lengths.entries()) numbers.fill(document, end, (end += length));
  const table = tensor(numbers, [1, numbers.length]);
  return { queryDocuments: table, keyDocuments: table };
}
