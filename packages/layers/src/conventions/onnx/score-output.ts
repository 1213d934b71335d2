import { encodeInto, toFloat64, write, zeros, type ObservedStage, type Tensor } from '@heed/core';
import { unsupported } from '@heed/core/compute';
import { hostOf } from '../axes.ts';
import type { AttentionRules } from './releases.ts';
import type { OnnxStages } from './variant.ts';

/** The stage that an output mode shows, and the cap that still bends it. */
export interface ScoreOutput {
  readonly stage: ObservedStage;
  readonly cap: number | null;
}

/**
 * What qk_matmul_output shows in a mode (L8).
 * @throws AttentionError `unsupported` for scores between a bias and a softcap behind it
 */
export function stageOf(mode: 0 | 1 | 2 | 3, { softcap }: OnnxStages, rules: AttentionRules): ScoreOutput {
  if (mode === 0) return { stage: 'scores', cap: null };
  if (mode === 3) return { stage: 'weights', cap: null };
  const showsSoftcap = (mode === 1) === rules.softcapIsMode1;
  if (softcap === null) return { stage: showsSoftcap && rules.softcapFirst ? 'scores' : 'masked', cap: null };
  if (softcap.isFirst) return showsSoftcap ? { stage: 'scores', cap: softcap.cap } : { stage: 'masked', cap: null };
  if (showsSoftcap) return { stage: 'masked', cap: null };
  throw unsupported([{ stage: 'observe', reason: `qk_matmul_output_mode ${mode} shows scores between bias and softcap, which is no stage where softcap comes last`, remedy: 'Ask for the mode behind the softcap, or leave the softcap out.' }]);
}

/** The stage as observed, bent by the cap where the mode shows that. */
export function qkMatmulOutputOf(seen: Tensor, { cap }: ScoreOutput): Tensor {
  if (cap === null) return seen;
  if (seen.runtime !== null) {
    const { expression } = write('modify', '', ({ table, uniform }) => {
      const limit = uniform('cap', cap);
      return limit.mul(table('scores', []).at().div(limit).tanh());
    });
    return seen.runtime.operations.elementwise(expression, { scores: seen }, { uniforms: { cap } });
  }
  const bent = zeros(seen.shape);
  encodeInto(toFloat64(hostOf(seen)).map((score) => cap * Math.tanh(score / cap)), bent);
  return bent;
}
