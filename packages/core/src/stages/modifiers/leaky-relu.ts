import type { Operand, Term } from '../../expression/build.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

/** score where it is 0 or more, slope · score below (Maas 2013). Default slope 0.2, as in graph attention. */
export function leakyRelu(options: { readonly slope?: number } = {}): Modifier {
  return modifier('leakyRelu', ({ score, uniform }) => leakyReluOf(score, uniform('slope', options.slope ?? 0.2)));
}

/** The same of any term. */
export function leakyReluOf(x: Term<'f32'>, slope: Operand<'f32'>): Term<'f32'> {
  return x.ge(0).select(x, x.mul(slope));
}
