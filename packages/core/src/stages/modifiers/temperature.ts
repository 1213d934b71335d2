import { positive, requirePositive } from '../arguments.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

/**
 * score / temperature, the uniform `temperature.value` (Hinton 2015). Below 1 sharpens a softmax, above 1 flattens it.
 * @throws AttentionError `invalid-argument` when it is not positive
 */
export function temperature(value: number): Modifier {
  requirePositive('temperature', 'value', value);
  return modifier('temperature', ({ score, uniform }) => score.div(uniform('value', value, 'f32', positive)));
}
