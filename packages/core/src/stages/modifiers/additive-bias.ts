import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

export interface AdditiveBiasOptions {
  /** Name of the table [batch, head, queryLength, keyLength]; any axis may be 1, which repeats. Default 'bias'. */
  readonly table?: string;
}

/** score + bias, one number for each pair, by rows of the tensors and not by position. An additive mask is such a bias; −∞ in it gives weight 0 (L1). */
export function additiveBias(options: AdditiveBiasOptions = {}): Modifier {
  return modifier('additiveBias', ({ score, batch, head, queryIndex, keyIndex, table }) =>
    score.add(table(options.table ?? 'bias', ['batch', 'head', 'queryLength', 'keyLength']).at(batch, head, queryIndex, keyIndex)));
}
