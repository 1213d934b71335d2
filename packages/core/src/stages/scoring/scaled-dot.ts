import { noDeclarations } from '../../expression/declarations.ts';
import type { UniformValue } from '../../expression/declarations.ts';
import { write } from '../../expression/scope.ts';
import { Scoring } from './stage.ts';

/** What every scoring by a product takes. */
export interface ScaleOptions {
  /** Factor of q'·k'. Default 1/√(width of the rows that are combined) (L18). */
  readonly scale?: UniformValue;
}

/** scale · q'·k' (Vaswani 2017, equation 1). */
export function scaledDot(options: ScaleOptions = {}): Scoring {
  const combine = write('combine', 'scaledDot', ({ queryElement, keyElement }) => queryElement.mul(keyElement));
  const scale = write('combine', '', ({ uniform }) => uniform('scale', options.scale ?? 'inverseSqrtDim'));
  return new Scoring({ ...noDeclarations, name: 'scaledDot', queryTransforms: [], keyTransforms: [], combine: combine.expression, scale: scale.expression, modifiers: [], uniforms: scale.uniforms });
}
