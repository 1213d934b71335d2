import { l2Norm, layerNorm, rmsNorm, scaledDot, type RowTransform, type ScaleOptions, type Scoring } from '@heed/core';

export interface QueryKeyNormOptions extends ScaleOptions {
  /** rms: over each head's width, with gains in the tables `queryNorm` and `keyNorm` [headDim] (Qwen3). layer: likewise, with shifts `queryNormBias` and `keyNormBias` (ViT-22B). l2: unit rows, without gains (Henry 2020). */
  readonly norm: 'rms' | 'layer' | 'l2';
  /** Default 1e-6. */
  readonly epsilon?: number;
  /** rms: gains are stored less 1 (Qwen3-Next, Gemma 3). Default false. */
  readonly onePlusWeight?: boolean;
  /** What comes after the norm, such as `rope(…)`. */
  readonly then?: readonly RowTransform[];
}

/**
 * Scaled dot products of normed queries and keys, normed before they are rotated: `attention({ scoring: queryKeyNorm({ norm: 'rms', then: [rope({ pairing: 'half' })] }) })`. With
 * l2 the scale is 1/√headDim unless given, which a learned one replaces.
 *
 * @throws AttentionError `invalid-argument`
 */
export function queryKeyNorm({ norm, epsilon = 1e-6, onePlusWeight = false, then = [], ...scale }: QueryKeyNormOptions): Scoring {
  const of = (side: 'query' | 'key'): RowTransform => {
    switch (norm) {
      case 'rms':
        return rmsNorm({ epsilon, weight: `${side}Norm`, onePlusWeight });
      case 'layer':
        return layerNorm({ epsilon, weight: `${side}Norm`, bias: `${side}NormBias` });
      case 'l2':
        return l2Norm({ epsilon });
    }
  };
  return scaledDot(scale).transformQuery(of('query')).transformKey(of('key')).transform(...then);
}
