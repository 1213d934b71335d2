import type { Declarations } from '../../expression/declarations.ts';
import type { Expression } from '../../expression/node.ts';

/** A change of each query or key row before rows are combined. `kind` says which fields follow. */
export type RowTransform = Projection | RowNorm | Rope | Elementwise | FeatureMap;

/** row ← W · row (+ bias); W [width, dim], or one for each of the row's heads. */
export interface Projection extends Declarations {
  readonly kind: 'projection';
  readonly name: string;
  readonly table: string;
  readonly bias: string | null;
  readonly perHead: boolean;
  /** Width of the result; part of the structure. */
  readonly width: number;
}

/**
 * l2: row / max(‖row‖, ε).  rms: row / √(mean(row²) + ε).  layer: (row − mean) / √(variance + ε).
 * Then times `gain` plus `shift`, expressions in the slot `transform` that do not read `element`.
 */
export interface RowNorm extends Declarations {
  readonly kind: 'norm';
  readonly name: string;
  readonly norm: 'l2' | 'rms' | 'layer';
  readonly epsilon: Expression;
  readonly gain: Expression | null;
  readonly shift: Expression | null;
}

/**
 * Rotary positions (Su 2021): pairs of channels turned by position · frequency. Channels from `width` on are left alone.
 * Frequencies are base^(−2m/width), or a table [width/2]. Angles are to be computed in float64: in float32 they lose the low bits of far positions.
 */
export interface Rope extends Declarations {
  readonly kind: 'rope';
  readonly name: string;
  /** half: channel m with m + width/2; interleaved: 2m with 2m + 1. */
  readonly pairing: 'half' | 'interleaved';
  /** Null: the whole row. */
  readonly width: number | null;
  readonly base: Expression;
  readonly frequencies: string | null;
  /** Factor of the rotated channels, 1 unless a long-context scaling asks for another. */
  readonly magnitude: Expression;
}

/** Each channel on its own, in the slot `transform`: reads `element`. */
export interface Elementwise extends Declarations {
  readonly kind: 'elementwise';
  readonly name: string;
  readonly expression: Expression;
}

/** A map whose result has another width than the row (VARIANTS: kernelised maps). Narrow maps (elu + 1, relu, exp) are elementwise. */
export interface FeatureMap extends Declarations {
  readonly kind: 'featureMap';
  readonly name: string;
  readonly map: FeatureMapRule;
}

export type FeatureMapRule =
  /** [exp(x); exp(−x)], or their softmax over the 2·dim features. */
  | { readonly rule: 'hedgehog'; readonly softmax: boolean }
  /** exp(ω_l · x̃ − ‖x̃‖²/2) / √features with x̃ = x · dim^(−1/4); ω in the table [features, dim]. No stabiliser, so shards and decoding agree. */
  | { readonly rule: 'favor'; readonly table: string; readonly features: number }
  /** [relu(x)·cos(π p / 2M); relu(x)·sin(π p / 2M)] at position p. */
  | { readonly rule: 'cosformer'; readonly horizon: Expression }
  /** [1; x / dim^¼; x_i² / √(2 dim); x_i x_j / √dim for i < j]: 1 + s + s²/2 with s = q·k / √dim. */
  | { readonly rule: 'based' }
  /** r = relu([x; −x]); concatenation of r ⊙ roll(r, n) for n = 1 … order. */
  | { readonly rule: 'dpfp'; readonly order: number };

/** Width of a row after a transform. */
export function transformedWidth(transform: RowTransform, width: number): number {
  if (transform.kind === 'projection') return transform.width;
  if (transform.kind !== 'featureMap') return width;
  switch (transform.map.rule) {
    case 'hedgehog':
    case 'cosformer':
      return 2 * width;
    case 'favor':
      return transform.map.features;
    case 'based':
      return 1 + width + (width * (width + 1)) / 2;
    case 'dpfp':
      return 2 * width * transform.map.order;
  }
}
