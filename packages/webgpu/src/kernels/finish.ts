import type { AttentionRequest } from '@heed/core';
import type { Plan } from '../plan.ts';
import type { KernelBody } from './module.ts';
import { orEmpty } from './pairwise.ts';

/** What an element of an output row is multiplied by, and when the row is empty. */
export interface RowEnd {
  readonly factor: string | null;
  readonly empty: string;
}

/**
 * What is applied once to a row: the sink, the division, and its statistics. Locals of the row: `queryRow`; `largest` and `total` for softmax, `counted` for the
 * rest, and `total` for sums.
 * @param once which invocation writes the statistics, or null for none
 */
export function writeRowEnd({ writer, lowering, builtins }: KernelBody, { variant }: AttentionRequest, plan: Plan, once: string | null): RowEnd {
  const { rule } = variant.normalization;
  const statistic = (plane: string, value: string): void => {
    if (once !== null) writer.block(`if (${once})`, () => writer.line(`statistics[${plane}queryRow] = ${value};`));
  };
  if (rule.kind === 'softmax') {
    builtins.add('naturalLogarithm');
    writer.line('let empty = largest <= lowest;');
    if (rule.sink === null) {
      writer.line('let scale = 1.0f / max(total, 1.0e-30f);');
      statistic('', orEmpty('largest + naturalLogarithm(total)', '0xff800000u', 'empty'));
    } else {
      writer.line(`let sink = ${lowering().lower(rule.sink)};`, 'let peak = max(largest, sink);', 'let rescale = exp(largest - peak);');
      writer.line('let whole = fma(total, rescale, exp(sink - peak));', 'let scale = rescale / max(whole, 1.0e-30f);');
      statistic('', orEmpty('peak + naturalLogarithm(whole)', '0xff800000u', 'empty && sink <= lowest'));
    }
    return { factor: 'scale', empty: 'empty' };
  }
  if (plan.partial) {
    statistic('', 'bitcast<u32>(f32(counted))');
    if (rule.kind === 'rowSum') statistic('parameters.rowCount + ', 'bitcast<u32>(total)');
  }
  if (plan.partial || rule.kind !== 'rowSum') return { factor: null, empty: 'counted == 0u' };
  writer.line(`let scale = 1.0f / (total + ${lowering().lower(rule.epsilon)});`);
  return { factor: 'scale', empty: 'counted == 0u' };
}
