import { AttentionError } from '../errors.ts';
import type { Declarations } from '../expression/declarations.ts';
import { checkUniform } from '../expression/scope.ts';
import { show } from '../show.ts';

type Uniforms = Readonly<Record<string, number>>;

/** Every uniform's default as a number; 'inverseSqrtDim' is 1/√scoreDim. */
export function defaultUniforms(variant: Pick<Declarations, 'uniforms'>, scoreDim: number): Uniforms {
  const resolved = Object.entries(variant.uniforms).map(([name, { value }]) => [name, value === 'inverseSqrtDim' ? 1 / Math.sqrt(scoreDim) : value]);
  return Object.freeze(Object.fromEntries(resolved) as Record<string, number>);
}

/**
 * The defaults with the values that a call gives.
 * @throws AttentionError `unknown-uniform`, `invalid-uniform`
 */
export function bindUniforms(variant: Pick<Declarations, 'uniforms'>, defaults: Uniforms, given: unknown): Uniforms {
  if (given === undefined) return defaults;
  if (typeof given !== 'object' || given === null) throw new AttentionError('invalid-uniform', `uniforms is ${show(given)}.`, 'Pass { name: number }.');
  const bound: Record<string, number> = { ...defaults };
  for (const [name, value] of Object.entries(given) as [string, unknown][]) {
    const declaration = Object.hasOwn(variant.uniforms, name) ? variant.uniforms[name] : undefined;
    if (declaration === undefined) {
      throw new AttentionError('unknown-uniform', `Got a value for uniform ${show(name)}, which the variant does not declare.`, `It declares ${Object.keys(variant.uniforms).join(', ') || 'none'}.`);
    }
    if (typeof value !== 'number') throw new AttentionError('invalid-uniform', `Uniform '${name}' got ${show(value)}.`, 'Expected a number.');
    checkUniform(name, value, declaration);
    bound[name] = value;
  }
  return bound;
}
