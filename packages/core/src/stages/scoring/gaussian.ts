import { given, requirePositive } from '../arguments.ts';
import { distance } from './distance.ts';
import type { Scoring } from './stage.ts';

export interface GaussianOptions {
  /** Width h of the kernel. */
  readonly bandwidth: number;
}

/**
 * −‖q' − k'‖² / (2h²): softmax of it is kernel regression (Nadaraya 1964, Watson 1964). It is {@link distance} with the scale 1/(2h²), so another
 * bandwidth at run time is the uniform `scale`.
 *
 * @throws AttentionError `invalid-argument` when the bandwidth is not positive
 */
export function gaussian(options: GaussianOptions): Scoring {
  const { bandwidth } = given(options);
  requirePositive('gaussian', 'bandwidth', bandwidth);
  return distance({ scale: 1 / (2 * bandwidth ** 2) });
}
