import type { ScaleOptions, Scoring } from './stage.ts';
import { scoring } from './stage.ts';

/** scale · q'·k' (Vaswani 2017, equation 1). `scale` is 1/√scoreDim unless given (L18). */
export function scaledDot(options: ScaleOptions = {}): Scoring {
  return scoring('scaledDot', ({ queryElement, keyElement }) => queryElement.mul(keyElement), options);
}
