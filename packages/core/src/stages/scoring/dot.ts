import type { ScaleOptions, Scoring } from './stage.ts';
import { scoring } from './stage.ts';

/** scale · q'·k' with `scale` 1 unless given (Luong 2015, section 3.1, "dot"). */
export function dot(options: ScaleOptions = {}): Scoring {
  return scoring('dot', ({ queryElement, keyElement }) => queryElement.mul(keyElement), { scale: options.scale ?? 1 });
}
