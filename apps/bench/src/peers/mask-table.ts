import type { Inputs } from '../inputs.ts';
import { visibleKeys, type Workload } from '../workloads.ts';
import { float32 } from './float32.ts';

/** Whether every query sees every key, so that the mask changes nothing: always so for one query at the end. */
export function seesEverything({ layer, queryLength, keyLength, queryOffset }: Workload): boolean {
  return [0, queryLength - 1].every((row) => {
    const { first, last } = visibleKeys(layer.mask, queryOffset + row, keyLength);
    return first === 0 && last === keyLength - 1;
  });
}

/** Whether the mask is causal by position in the row alone, as operators without an offset have it. */
export function isPlainCausal({ layer, queryOffset }: Workload): boolean {
  return layer.mask.kind === 'causal' && queryOffset === 0;
}

/** Whether a workload cannot go without {@link scoreTable}. */
export function needsScoreTable(workload: Workload): boolean {
  return workload.layer.position.kind === 'alibi' || (!seesEverything(workload) && !isPlainCausal(workload));
}

/**
 * What is added to the scores where a system has no operator for it: −∞ where the mask does not allow, else what ALiBi takes off.
 *
 * @returns [heads, queryLength, keyLength] with ALiBi, [1, queryLength, keyLength] without
 */
export function scoreTable(workload: Workload, { parameters }: Pick<Inputs, 'parameters'>): { readonly table: Float32Array; readonly heads: number } {
  const { layer, queryLength, keyLength, queryOffset } = workload;
  const slopes = parameters.slopes === undefined ? null : float32(parameters.slopes);
  const heads = slopes?.length ?? 1;
  const table = new Float32Array(heads * queryLength * keyLength).fill(-Infinity);
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < queryLength; row++) {
      const position = queryOffset + row;
      const { first, last } = visibleKeys(layer.mask, position, keyLength);
      const start = (head * queryLength + row) * keyLength;
      for (let j = first; j <= last; j++) table[start + j] = slopes === null ? 0 : -(slopes[head] ?? 0) * Math.abs(position - j);
    }
  }
  return { table, heads };
}

/** Bytes of {@link scoreTable}. */
export function scoreTableBytes({ layer, queryLength, keyLength }: Workload): number {
  return 4 * (layer.position.kind === 'alibi' ? layer.heads : 1) * queryLength * keyLength;
}

/** Bytes of every score at once, which systems without tiles keep. */
export function allScoresBytes({ layer, batch, queryLength, keyLength }: Workload): number {
  return 4 * batch * layer.heads * queryLength * keyLength;
}
