import type { ScaleOptions, Scoring } from './stage.ts';
import { scoring } from './stage.ts';

/** −scale · ‖q' − k'‖² (Kim 2021, "The Lipschitz constant of self-attention", with tied projections). `scale` is 1/√scoreDim unless given. */
export function distance(options: ScaleOptions = {}): Scoring {
  return scoring('distance', ({ queryElement, keyElement }) => {
    const difference = queryElement.sub(keyElement);
    return difference.mul(difference).neg();
  }, options);
}
