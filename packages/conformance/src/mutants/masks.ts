import type { AttentionInputs, AttentionRequest, Expression, Modifier } from '@heed/core';
import { AttentionError, constant, full, isHostTensor, operation, rewrite, toFloat64 } from '@heed/core';
import { changedMasking, onHost, overwrite, withStages, without } from './alter.ts';
import type { Mutant } from './mutant.ts';
import { mutant } from './mutant.ts';

const score: Expression = { kind: 'input', type: 'f32', name: 'score' };

/** Masks that leak, and rows without keys. */
export const maskMutants: readonly Mutant[] = [
  mutant({ name: 'mask-polarity', plan: 'a boolean table says true for what is hidden', names: ['L10', 'L17'], controls: ['golden', 'L3', 'L7'] }, () => ({
    request: (request) =>
      withStages(request, {
        masking: changedMasking(request.variant.masking, { allowed: rewrite(request.variant.masking.allowed, (node) => (node.kind === 'table' && node.type === 'bool' ? operation('not', [node]) : node)) }),
      }),
  })),
  mutant({ name: 'softcap-after-mask', plan: 'caps the scores after masking, so that −∞ becomes −cap', names: ['L2', 'L15'], controls: ['golden/pairs?variant=causal', 'L4', 'L7'] }, () => ({
    request: (request) => (request.variant.scoring.modifiers.some((modifier) => modifier.name === 'softcap') ? maskByScore(request, -1.5) : request),
  })),
  mutant({ name: 'mean-of-values', plan: 'masks with −10000 instead of −∞, so that a row without keys is the mean of the values', names: ['L1'], controls: ['golden', 'L7'] }, () => ({
    request: (request) => (request.variant.normalization.rule.kind === 'softmax' ? maskByScore(request, -10_000) : request),
  })),
  mutant({ name: 'empty-row-nan', plan: 'divides by the sum of no weights: NaN', names: ['L1'], controls: ['golden', 'L4-window?left=0,right=0,lq=17', 'L6'] }, () => ({
    outputs: (outputs, inputs) => {
      if (outputs.logSumExp === undefined || (inputs.key.shape[2] ?? 0) === 0) return outputs;
      const logs = toFloat64(onHost(outputs.logSumExp));
      const dim = outputs.output.shape[3] ?? 1;
      overwrite(outputs.output, (value, index) => (logs[Math.floor(index / dim)] === -Infinity ? Number.NaN : value));
      return outputs;
    },
  })),
  mutant({ name: 'empty-row-log', plan: 'reports logSumExp +∞ for a row without keys', names: ['L1', 'L5'], controls: ['golden', 'L6', 'L2'] }, () => ({
    outputs: (outputs) => {
      overwrite(outputs.logSumExp, (value) => (value === -Infinity ? Infinity : value));
      return outputs;
    },
  })),
  mutant({ name: 'nan-leak', plan: 'multiplies hidden values by a weight of 0, so that NaN gets through', names: ['L10', 'L15'], controls: ['golden', 'L3', 'L4'] }, () => ({
    outputs: (outputs, inputs) => {
      const values = toFloat64(onHost(inputs.value));
      const [, keyHeads = 1, length = 0, dim = 1] = inputs.value.shape;
      const [, heads = 1, rows = 1] = outputs.output.shape;
      const isPoisoned = (lane: number): boolean => {
        const part = values.subarray(lane * length * dim, (lane + 1) * length * dim);
        return part.some((value) => !Number.isFinite(value));
      };
      overwrite(outputs.output, (value, index) => {
        const lane = Math.floor(index / (rows * dim));
        const keyHead = Math.floor(((lane % heads) * keyHeads) / heads);
        return isPoisoned(Math.floor(lane / heads) * keyHeads + keyHead) ? Number.NaN : value;
      });
      return outputs;
    },
  })),
  mutant({ name: 'key-lengths-ignored', plan: 'sees the padding after the keys', names: ['L1', 'L10', 'L15'], controls: ['golden', 'L4', 'L6'] }, () => ({ inputs: (inputs) => without(inputs, 'keyLengths') })),
  mutant({ name: 'query-lengths-ignored', plan: 'computes the padding after the queries', names: ['L1'], controls: ['golden', 'L4', 'L6'] }, () => ({ inputs: (inputs) => without(inputs, 'queryLengths') })),
  mutant({ name: 'packed-leak', plan: 'lets packed sequences see each other', names: ['packed', 'L14', 'L15'], controls: ['golden', 'L3', 'L4'] }, () => ({
    inputs: (inputs) => (isGoodPacking(inputs) ? { ...without(inputs, 'packed', 'queryOffset', 'keyOffset'), queryOffset: 0 } : inputs),
  })),
  mutant({ name: 'nan-swallowed', plan: 'treats NaN at an allowed position as hidden', names: ['L1'], controls: ['golden', 'L3', 'L10'] }, () => ({
    outputs: (outputs) => {
      overwrite(outputs.output, (value) => (Number.isNaN(value) ? 0 : value));
      return outputs;
    },
  })),
  mutant({ name: 'minus-infinity-nan', plan: 'subtracts −∞ from −∞ in a row of scores that are all −∞', names: ['L1'], controls: ['golden', 'L4', 'L10-masks-select?'] }, () => ({
    outputs: (outputs, inputs, request) => {
      const bias = inputs.tables?.['bias'];
      if (bias === undefined || !isHostTensor(bias) || !toFloat64(bias).includes(-Infinity) || outputs.logSumExp === undefined || request.variant.normalization.rule.kind !== 'softmax') return outputs;
      const logs = toFloat64(onHost(outputs.logSumExp));
      const dim = outputs.output.shape[3] ?? 1;
      overwrite(outputs.output, (value, index) => (logs[Math.floor(index / dim)] === -Infinity ? Number.NaN : value));
      return outputs;
    },
  })),
  mutant({ name: 'no-keys-nan', plan: 'divides 0 by 0 where there are no keys', names: ['L11', 'L1'], controls: ['golden', 'L3', 'L4'] }, () => ({
    outputs: (outputs, inputs) => {
      if (inputs.key.shape[2] === 0) overwrite(outputs.output, () => Number.NaN);
      return outputs;
    },
  })),
  mutant({ name: 'nothing-refused', plan: 'refuses calls without queries or sequences', names: ['L11'], controls: ['golden', 'L3', 'L4'] }, () => ({
    kernel: (kernel) => ({
      run: (inputs, options) => (inputs.query.shape.includes(0) ? Promise.reject(new AttentionError('invalid-shape', 'The query is empty.', 'Pass at least one row.')) : kernel.run(inputs, options)),
    }),
  })),
  mutant({ name: 'blocks-ignored', plan: 'computes every tile, listed or not', names: ['blocks'], controls: ['golden', 'L3', 'L17'] }, () => ({ inputs: (inputs) => (inputs.blocks === undefined || inputs.blocks.indices.shape[3] === 1 ? inputs : without(inputs, 'blocks')) })),
  mutant({ name: 'edges-ignored', plan: 'computes every pair although edges are given', names: ['L17'], controls: ['golden', 'L3', 'blocks'] }, () => ({ inputs: (inputs) => without(inputs, 'edges') })),
];

/** A mask that gives hidden pairs a finite score instead of leaving them out. */
function maskByScore(request: AttentionRequest, hidden: number): AttentionRequest {
  const { scoring, masking } = request.variant;
  const blind: Modifier = {
    name: 'blind',
    expression: operation('select', [masking.allowed, score, constant(hidden).node]),
    uniforms: masking.uniforms,
    tables: masking.tables,
  };
  return withStages(request, { scoring: scoring.modify(blind), masking: full() });
}

/** Offsets that a right backend would take: broken ones must still be refused. */
function isGoodPacking({ packed, query, key }: AttentionInputs): boolean {
  if (packed === undefined || query.shape[0] !== 1) return false;
  const good = (starts: ArrayLike<number>, rows: number | undefined): boolean => starts[0] === 0 && starts[starts.length - 1] === rows && Array.from(starts).every((start, index) => index === 0 || start >= (starts[index - 1] ?? 0));
  return good(packed.query, query.shape[2]) && good(packed.key, key.shape[2]);
}
