import type { Declarations } from './expression/declarations.ts';

/** A variant whose memory is a state that the sequence rewrites, not rows of weights. Frozen plain data. */
export interface FastWeightVariant extends Declarations {
  readonly kind: 'fastWeights';
  readonly rule: FastWeightRule;
  /** The variant as text without the values of its uniforms: equal text, equal kernel. */
  readonly structure: string;
}

/** The rules; `kind` says which fields follow. */
export type FastWeightRule = { readonly kind: 'recurrent' };
