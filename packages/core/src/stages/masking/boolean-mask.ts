import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

export interface BooleanMaskOptions {
  /** Name of the bool table [batch, head, queryLength, keyLength], 1 = may attend; any axis may be 1, which repeats. Default 'mask'. */
  readonly table?: string;
}

/** A tensor that says it for each pair, by rows and not by position. It is the only mask that takes queryLength · keyLength bytes. */
export function booleanMask(options: BooleanMaskOptions = {}): Masking {
  return mask('booleanMask', ({ batch, head, queryIndex, keyIndex, table }) =>
    table(options.table ?? 'mask', ['batch', 'head', 'queryLength', 'keyLength'], 'bool').at(batch, head, queryIndex, keyIndex));
}
