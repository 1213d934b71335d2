import type { Formula } from '../../expression/scope.ts';
import { given, positive, requirePositive } from '../arguments.ts';
import { reweighing } from './reweighing.ts';

export interface PositionWeightOptions {
  /** Width σ of the bell in positions; the uniform `positionWeight.deviation`. The paper takes half of the window's half-width. */
  readonly deviation: number;
  /** Name of the table of centres [batch, head, queryLength], real positions; any axis may be 1, which repeats. Default 'centers'. */
  readonly table?: string;
}

/**
 * weight · e^(−(keyPosition − center)² / 2σ²), not normalized again: local attention with predicted alignment (Luong 2015, equation 10).
 * @throws AttentionError `invalid-argument` when the deviation is not positive
 */
export function positionWeight(options: PositionWeightOptions): Formula {
  const { deviation, table: name = 'centers' } = given(options);
  requirePositive('positionWeight', 'deviation', deviation);
  return reweighing('positionWeight', ({ weight, batch, head, queryIndex, keyPosition, table, uniform }) => {
    const center = table(name, ['batch', 'head', 'queryLength']).at(batch, head, queryIndex);
    const distance = keyPosition.toF32().sub(center).div(uniform('deviation', deviation, 'f32', positive));
    return weight.mul(distance.mul(distance).mul(-0.5).exp());
  });
}
