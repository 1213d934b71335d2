import { atLeast, requireInteger } from '../arguments.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

export interface TemperatureTuningOptions {
  /** Default 0.1; the uniform `temperatureTuning.strength`. */
  readonly strength?: number;
  /** Positions between two steps of the factor. Default 8192; the uniform `temperatureTuning.step`. */
  readonly step?: number;
}

/**
 * score · (1 + strength · ln(1 + ⌊(queryPosition + 1) / step⌋)): the factor of the queries in Llama 4's layers without rotary positions (2025).
 * @throws AttentionError `invalid-argument` when step is no positive integer
 */
export function temperatureTuning(options: TemperatureTuningOptions = {}): Modifier {
  const { strength = 0.1, step = 8192 } = options;
  requireInteger('temperatureTuning', 'step', step, 1);
  return modifier('temperatureTuning', ({ score, queryPosition, uniform }) => {
    const steps = queryPosition.add(1).floorDiv(uniform('step', step, 'i32', atLeast(1))).max(0);
    return score.mul(uniform('strength', strength).mul(steps.add(1).toF32().log()).add(1));
  });
}
