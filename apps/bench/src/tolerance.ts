import type { Tolerance } from './check.ts';
import type { BenchDtype } from './dtypes.ts';

/**
 * How far a result may be from the float64 reference: float32 sums over float32 storage, and one rounding to the storage type otherwise
 * (LAWS, "Tolerances"; inputs are already rounded to that type).
 */
export const tolerances: Readonly<Record<BenchDtype, Tolerance>> = {
  f32: { atol: 2e-5, rtol: 1e-4 },
  f16: { atol: 2e-3, rtol: 1e-2 },
  bf16: { atol: 2e-3, rtol: 1e-2 },
};
