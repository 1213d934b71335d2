import type { AttentionInputs, AttentionOutputs, AttentionRequest, DType } from '@heed/core';
import { encode, reader, toFloat64 } from '@heed/core';
import { onHost, overwrite } from './alter.ts';
import type { Mutant } from './mutant.ts';
import { mutant } from './mutant.ts';

/** Too narrow arithmetic, and bits that change. */
export const precisionMutants: readonly Mutant[] = [
  mutant({ name: 'weights-rounded', plan: 'rounds weights to the storage type before they meet the values', names: ['L9'], controls: ['golden', 'L3', 'L7'] }, () => ({
    kernel: (kernel, request, backend) => {
      const narrow = narrowOf(request);
      if (narrow === null || request.variant.aggregation.name !== 'weightedSum') return {};
      return {
        run: async (inputs, options) => {
          const outputs = await kernel.run(inputs, options);
          const observing = await backend.prepare({ ...request, observe: { stages: ['weights'] } });
          const weights = toFloat64(onHost((await observing.run(inputs)).observed?.weights));
          aggregate(outputs, inputs, (row, key, keys) => rounded(weights[row * keys + key] ?? 0, narrow));
          return outputs;
        },
      };
    },
  })),
  mutant({ name: 'narrow-sums', plan: 'keeps running sums in the storage type', names: ['L9'], controls: ['golden', 'L3', 'L7'] }, () => ({
    outputs: (outputs, inputs, request) => {
      const narrow = narrowOf(request);
      const keys = inputs.key.shape[2] ?? 1;
      if (narrow === null || keys < 2) return outputs;
      // As if each of the equal steps were lost once the sum is 2^bits times as large.
      const most = narrow === 'f16' ? 2 ** 11 : 2 ** 8;
      overwrite(outputs.output, (value) => value * Math.min(1, most / keys));
      return outputs;
    },
  })),
  mutant({ name: 'overflow-clamped', plan: 'clamps what overflows the storage type to its largest number', names: ['L9'], controls: ['golden', 'L3', 'L7'] }, () => ({
    outputs: (outputs) => {
      if (outputs.output.dtype === 'f16') overwrite(outputs.output, (value) => Math.max(-65504, Math.min(65504, value)));
      return outputs;
    },
  })),
  mutant({ name: 'log-narrow', plan: 'rounds logSumExp to the storage type', names: ['L5', 'L9'], controls: ['golden', 'L3', 'L7'] }, () => ({
    outputs: (outputs, _inputs, request) => {
      const narrow = narrowOf(request);
      if (narrow !== null) overwrite(outputs.logSumExp, (value) => rounded(value, narrow));
      return outputs;
    },
  })),
  mutant({ name: 'truncated-output', plan: 'cuts off low bits of narrow outputs instead of rounding to nearest', names: ['L9'], controls: ['golden', 'L3', 'L7'] }, () => ({
    outputs: (outputs) => {
      if (outputs.output.dtype === 'f16' || outputs.output.dtype === 'bf16') overwrite(outputs.output, (value) => value * (outputs.output.dtype === 'f16' ? 1 - 2 ** -9 : 1 - 2 ** -6));
      return outputs;
    },
  })),
  mutant({ name: 'no-maximum', plan: 'does not subtract the largest score: exponentials overflow', names: ['L9', 'L5-logSumExp-large'], controls: ['golden', 'L3', 'L6'] }, () => ({
    outputs: (outputs, _inputs, request) => {
      if (request.variant.normalization.rule.kind !== 'softmax' || outputs.logSumExp === undefined) return outputs;
      const logs = toFloat64(onHost(outputs.logSumExp));
      const dim = outputs.output.shape[3] ?? 1;
      overwrite(outputs.output, (value, index) => ((logs[Math.floor(index / dim)] ?? 0) > 88.7 ? Number.NaN : value));
      overwrite(outputs.logSumExp, (value) => (value > 88.7 ? Infinity : value));
      return outputs;
    },
  })),
  mutant({ name: 'denormals-flushed', plan: 'turns values below the normal range to 0 and then divides by their size', names: ['L9'], controls: ['golden', 'L3', 'L7'] }, () => ({
    outputs: (outputs, inputs) => {
      const values = toFloat64(onHost(inputs.value));
      if (values.length > 0 && values.every((value) => Math.abs(value) < 2 ** -126)) overwrite(outputs.output, () => Number.NaN);
      return outputs;
    },
  })),
  mutant({ name: 'nondeterministic', plan: 'the last bits depend on how many calls were made', names: ['L14'], controls: ['golden', 'L3', 'L6'] }, () => {
    let calls = 0;
    return {
      outputs: (outputs) => {
        calls++;
        overwrite(outputs.output, (value) => value * (1 + (calls % 3) * 2 ** -22));
        return outputs;
      },
    };
  }),
  mutant({ name: 'batch-dependent', plan: 'the last bits depend on how many sequences are in the batch', names: ['L14'], controls: ['golden', 'L3', 'L6'] }, () => ({
    outputs: (outputs, inputs) => {
      if ((inputs.query.shape[0] ?? 1) > 1) overwrite(outputs.output, (value) => value * (1 + 2 ** -22));
      return outputs;
    },
  })),
  mutant({ name: 'shape-dependent-decode', plan: 'a kernel of its own for one query adds 10⁻³ of the last value', names: ['L3', 'normalization'], controls: ['golden/pairs', 'L4', 'L7'] }, () => ({
    outputs: (outputs, inputs) => {
      if (inputs.query.shape[2] === 1 && (inputs.key.shape[2] ?? 0) > 1) overwrite(outputs.output, (value) => value + 1e-3);
      return outputs;
    },
  })),
  mutant({ name: 'kernel-dependent', plan: 'the last bits depend on whether the kernel came from a cache', names: ['L14'], controls: ['golden', 'L3', 'L6'] }, () => {
    const seen = new Set<string>();
    return {
      kernel: (kernel, request) => {
        const isCached = seen.has(request.variant.structure);
        seen.add(request.variant.structure);
        return {
          run: (inputs, options) =>
            kernel.run(inputs, options).then((outputs) => {
              if (isCached) overwrite(outputs.output, (value) => value * (1 + 2 ** -22));
              return outputs;
            }),
        };
      },
    };
  }),
  mutant({ name: 'part-unwritten', plan: 'does not write the last row of an odd number of 63 rows or more', names: ['lifecycle/whole-output'], controls: ['golden', 'L3', 'L6'] }, () => ({
    kernel: (kernel) => ({
      enqueue: (inputs, options) => {
        const rows = inputs.query.shape[2] ?? 0;
        const before = options?.into?.output === undefined ? null : toFloat64(onHost(options.into.output));
        const outputs = kernel.enqueue(inputs, options);
        const [, , length = 1, dim = 1] = outputs.output.shape;
        if (rows >= 63 && rows % 2 === 1) overwrite(outputs.output, (value, index) => (Math.floor(index / dim) % length === length - 1 ? (before?.[index] ?? 0) : value));
        return outputs;
      },
    }),
  })),
  mutant({ name: 'accumulates-into', plan: 'adds to the tensor given instead of overwriting it', names: ['lifecycle/into'], controls: ['golden', 'L3', 'L6'] }, () => ({
    kernel: (kernel) => ({
      enqueue: (inputs, options) => {
        const before = options?.into?.output === undefined ? null : toFloat64(onHost(options.into.output));
        const outputs = kernel.enqueue(inputs, options);
        if (before !== null) overwrite(outputs.output, (value, index) => value + (before[index] ?? 0));
        return outputs;
      },
    }),
  })),
  mutant({ name: 'inputs-scaled', plan: 'scales the query in place', names: ['L14', 'lifecycle'], controls: ['golden/row', 'L11', 'L12-recurrence-chunks'] }, () => ({
    outputs: (outputs, inputs) => {
      overwrite(inputs.query, (value) => value * 0.5);
      return outputs;
    },
  })),
];

function narrowOf(request: AttentionRequest): 'f16' | 'bf16' | null {
  const storage: DType = request.dtypes?.value ?? 'f32';
  return storage === 'f16' || storage === 'bf16' ? storage : null;
}

function rounded(value: number, dtype: DType): number {
  return reader(dtype, encode([value], dtype))(0);
}

/** Writes Σ weight · value over the output. */
function aggregate(outputs: AttentionOutputs, inputs: AttentionInputs, weight: (row: number, key: number, keys: number) => number): void {
  const values = toFloat64(onHost(inputs.value));
  const [, keyHeads = 1, keys = 1, dim = 1] = inputs.value.shape;
  const [, heads = 1, rows = 1] = outputs.output.shape;
  overwrite(outputs.output, (_value, index) => {
    const row = Math.floor(index / dim);
    const lane = Math.floor(row / rows);
    const source = Math.floor(lane / heads) * keyHeads + Math.floor(((lane % heads) * keyHeads) / heads);
    let sum = 0;
    for (let key = 0; key < keys; key++) sum += weight(row, key, keys) * (values[(source * keys + key) * dim + (index % dim)] ?? 0);
    return sum;
  });
}
