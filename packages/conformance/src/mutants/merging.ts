import { toFloat64 } from '@heed/core';
import type { Changes } from './alter.ts';
import { onHost, overwrite, without } from './alter.ts';
import type { Mutant } from './mutant.ts';
import { mutant } from './mutant.ts';

/** Wrong partial results, observed stages, random numbers and gradients. */
export const mergingMutants: readonly Mutant[] = [
  mutant({ name: 'merge-without-rescaling', plan: 'gives every shard the same weight: its logSumExp is 0', names: ['L13', 'golden/merge'], controls: ['golden/pairs', 'L3', 'L5'] }, () => ({
    kernel: (kernel) => ({
      partial: (inputs, options) =>
        kernel.partial(inputs, options).then((partial) => {
          overwrite(partial.statistics.logSumExp, (value) => (value === -Infinity ? value : 0));
          return partial;
        }),
    }),
  })),
  mutant({ name: 'sink-counted-twice', plan: 'counts the sink in every shard', names: ['L7', 'L13'], controls: ['golden', 'L3', 'L5'] }, () => ({
    kernel: (kernel, request) => {
      const { rule } = request.variant.normalization;
      if (rule.kind !== 'softmax' || rule.sink === null || request.variant.aggregation.reduction !== 'sum') return {};
      return {
        partial: async (inputs, options) => {
          const partial = await kernel.partial(inputs, options);
          const whole = await kernel.run(inputs, options);
          const output = toFloat64(onHost(whole.output));
          const logs = whole.logSumExp === undefined ? null : toFloat64(onHost(whole.logSumExp));
          overwrite(partial.accumulator, (_value, index) => output[index] ?? 0);
          overwrite(partial.statistics.logSumExp, (value, index) => logs?.[index] ?? value);
          return partial;
        },
      };
    },
  })),
  mutant({ name: 'shard-forgotten', plan: 'an empty shard claims a logSumExp of 0', names: ['L13'], controls: ['golden', 'L3', 'L5'] }, () => ({
    kernel: (kernel) => ({
      partial: (inputs, options) =>
        kernel.partial(inputs, options).then((partial) => {
          overwrite(partial.statistics.logSumExp, (value) => (value === -Infinity ? 0 : value));
          overwrite(partial.statistics.count, () => 1);
          return partial;
        }),
    }),
  })),
  mutant({ name: 'shard-positions', plan: 'counts the keys of a shard from 0', names: ['L13', 'partial'], controls: ['golden', 'L3', 'L5'] }, () => ({ kernel: (kernel) => ({ partial: (inputs, options) => kernel.partial(without(inputs, 'keyOffset'), options) }) })),
  mutant({ name: 'merge-not-refused', plan: 'gives partial results of variants that need the whole row', names: ['L13', 'L20'], controls: ['golden', 'L3', 'L5'] }, () => ({
    kernel: (kernel) => ({
      partial: async (inputs, options) => {
        if (kernel.mergeClass !== null) return kernel.partial(inputs, options);
        const { output } = await kernel.run(inputs, options);
        return { mergeClass: 'sum', accumulator: output, statistics: { count: output } };
      },
    }),
  })),
  mutant({ name: 'merge-class', plan: 'names the class of softmax for every variant that merges', names: ['L13'], controls: ['golden', 'L3', 'L5'] }, () => ({ kernel: (kernel) => ({ mergeClass: kernel.mergeClass === null ? null : 'logSumExp' }) })),
  mutant({ name: 'random-by-row', plan: 'keys random numbers by row number instead of position', names: ['L14'], controls: ['golden', 'L3', 'L4'] }, () => ({
    inputs: (inputs, request) => (isRandom(request.variant.structure) ? { ...without(inputs, 'queryOffset', 'keyOffset'), queryOffset: 0 } : inputs),
  })),
  mutant({ name: 'random-by-batch', plan: 'keys random numbers by the place in the batch instead of the sequence id', names: ['L14'], controls: ['golden', 'L3', 'L4'] }, () => ({ inputs: (inputs) => without(inputs, 'sequenceIds') })),
  mutant({ name: 'random-by-shard', plan: 'keys random numbers by the head of the shard instead of the layer', names: ['L14'], controls: ['golden', 'L3', 'L4'] }, () => ({ inputs: (inputs) => (Number.isSafeInteger(inputs.headOffset) ? without(inputs, 'headOffset') : inputs) })),
  mutant({ name: 'stages-swapped', plan: "shows 'masked' as 'modified'", names: ['L8'], controls: ['golden', 'L3', 'L7'] }, () => ({
    kernel: (kernel, request, backend) => {
      if (request.observe?.stages.includes('modified') !== true) return {};
      return {
        run: async (inputs, options) => {
          const other = await backend.prepare({ ...request, observe: { ...request.observe, stages: ['masked'] } });
          const outputs = await kernel.run(inputs, options);
          const masked = (await other.run(inputs)).observed?.masked;
          return { ...outputs, observed: { ...outputs.observed, ...(masked === undefined ? {} : { modified: masked }) } };
        },
      };
    },
  })),
  mutant({ name: 'observed-before-scale', plan: "shows 'scores' before they are scaled", names: ['L8'], controls: ['golden', 'L3', 'L7'] }, () => ({
    outputs: (outputs, _inputs, request) => {
      overwrite(outputs.observed?.scores, (value) => value * Math.sqrt(request.queryDim));
      return outputs;
    },
  })),
  mutant({ name: 'observed-rows', plan: 'sorts the rows that are to be looked at', names: ['L8'], controls: ['golden', 'L3', 'L7'] }, () => ({
    inputs: (inputs) => (inputs.observe?.rows === undefined || inputs.observe.rows.length < 2 ? inputs : { ...inputs, observe: { ...inputs.observe, rows: Array.from(inputs.observe.rows).sort((a, b) => a - b) } }),
  })),
  mutant({ name: 'mass-of-all-rows', plan: 'sums the mass of keys over all rows, not those looked at', names: ['L8'], controls: ['golden', 'L3', 'L7'] }, () => ({
    inputs: (inputs, request) => (request.observe?.keyMass === true ? without(inputs, 'observe') : inputs),
  })),
  mutant({ name: 'sink-gradient-sign', plan: 'gives the gradient of the sink the wrong sign', names: ['L19'], controls: ['golden', 'L7', 'L5'] }, () => gradientChange((name, value) => (name === 'tables.sink' ? -value : value))),
  mutant({ name: 'group-gradient', plan: 'takes the mean instead of the sum over the query heads of a group', names: ['L19'], controls: ['golden', 'L6', 'L5'] }, () => gradientChange((name, value, group) => (name === 'key' || name === 'value' ? value / group : value))),
  mutant({ name: 'gradient-not-scaled', plan: 'leaves the scale out of the gradient of the query', names: ['L19', 'golden/gradient'], controls: ['golden/pairs', 'L18', 'L5'] }, () => gradientChange((name, value) => (name === 'query' ? value * 2 : value))),
  mutant({ name: 'log-gradient-ignored', plan: 'ignores the gradient of logSumExp', names: ['L19'], controls: ['golden', 'L5', 'L7'] }, () => ({ kernel: (kernel) => ({ backward: (inputs, saved, { output }) => kernel.backward(inputs, saved, { output }) }) })),
  mutant({ name: 'support-gradient', plan: 'lets a gradient through outside the support of a sparse normalization', names: ['L19'], controls: ['golden', 'L5', 'L7'] }, () => ({
    kernel: (kernel, request) => ({
      backward: (inputs, saved, gradients) =>
        kernel.backward(inputs, saved, gradients).then((result) => {
          if (request.variant.normalization.rule.kind === 'threshold') overwrite(result['key'], (value) => (value === 0 ? 1e-3 : value));
          return result;
        }),
    }),
  })),
  mutant({ name: 'gradient-of-padding', plan: 'lets a gradient through to padding keys', names: ['L19'], controls: ['golden', 'L5', 'L10'] }, () => ({
    kernel: (kernel) => ({
      backward: (inputs, saved, gradients) =>
        kernel.backward(inputs, saved, gradients).then((result) => {
          if (inputs.keyLengths !== undefined) overwrite(result['value'], (value) => (value === 0 ? 1e-3 : value));
          return result;
        }),
    }),
  })),
  mutant({ name: 'fast-gradient-decay', plan: 'leaves out the gradient of the decay', names: ['L19'], controls: ['golden', 'L12'] }, () => ({
    fastKernel: (kernel) => ({
      backward: (inputs, saved, gradients) =>
        kernel.backward(inputs, saved, gradients).then((result) => {
          overwrite(result['logDecay'], () => 0);
          return result;
        }),
    }),
  })),
];

function isRandom(structure: string): boolean {
  return structure.includes('random');
}

function gradientChange(change: (name: string, value: number, group: number) => number): Changes {
  return {
    kernel: (kernel) => ({
      backward: (inputs, saved, gradients) =>
        kernel.backward(inputs, saved, gradients).then((result) => {
          const group = (inputs.query.shape[1] ?? 1) / (inputs.key.shape[1] ?? 1);
          for (const [name, gradient] of Object.entries(result)) overwrite(gradient, (value) => change(name, value, group));
          return result;
        }),
    }),
  };
}
