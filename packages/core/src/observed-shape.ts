import type { BoundCall } from './bind.ts';

/** Which heads and rows are looked at, and the shapes of what is seen (L8). */
export interface ObservedShape {
  readonly heads: readonly number[];
  readonly rows: readonly number[];
  /** [batch, observed heads, observed rows, keyLength] */
  readonly stage: readonly number[];
  /** [batch, observed heads, keyLength] */
  readonly mass: readonly number[];
}

/** All heads and rows, unless the call says which. */
export function observedShapeOf(call: BoundCall): ObservedShape {
  const heads = [...(call.inputs.observe?.heads ?? Array.from({ length: call.heads }, (_, head) => head))];
  const rows = [...(call.inputs.observe?.rows ?? Array.from({ length: call.queryRows }, (_, row) => row))];
  const batch = call.outputShape[0] ?? 0;
  return { heads, rows, stage: [batch, heads.length, rows.length, call.keyRows], mass: [batch, heads.length, call.keyRows] };
}
