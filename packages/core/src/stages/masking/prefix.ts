import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

export interface PrefixOptions {
  /** Name of the i32 table [batch] of prefix lengths. Default 'prefixLengths'. */
  readonly table?: string;
}

/** Positions below the sequence's prefix length see each other, both ways. A prefix language model is `causal().or(prefix())` (Raffel 2020, section 3.2.1). */
export function prefix(options: PrefixOptions = {}): Masking {
  return mask('prefix', ({ batch, queryPosition, keyPosition, table }) => {
    const length = table(options.table ?? 'prefixLengths', ['batch'], 'i32').at(batch);
    return queryPosition.lt(length).and(keyPosition.lt(length));
  });
}
