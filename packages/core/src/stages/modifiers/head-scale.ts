import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

/** score · factor_head, from the table `headScale` [head] or another name: the learned gain of normalised queries and keys (Henry 2020; Swin v2 2022). */
export function headScale(options: { readonly table?: string } = {}): Modifier {
  return modifier('headScale', ({ score, head, table }) => score.mul(table(options.table ?? 'headScale', ['head']).at(head)));
}
