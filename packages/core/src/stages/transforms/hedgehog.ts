import { noDeclarations } from '../../expression/declarations.ts';
import type { FeatureMap } from './transform.ts';

export interface HedgehogOptions {
  /** Takes the softmax over the 2 · dim features, so that they sum to 1. Default false: exponentials. */
  readonly softmax?: boolean;
}

/** [e^x; e^(−x)] (Zhang 2024), usually after a learned projection with the width of the row: `projection(…)` comes first. */
export function hedgehog(options: HedgehogOptions = {}): FeatureMap {
  return Object.freeze({ ...noDeclarations, kind: 'featureMap', name: 'hedgehog', map: Object.freeze({ rule: 'hedgehog', softmax: options.softmax ?? false }) });
}
