import { toFloat64 } from '@heed/core';
import { oneOperatorModel } from '../peers/onnxruntime/model.ts';
import type { HostInputs } from './inputs.ts';
import type { LinearWorkload } from './workloads.ts';

/** ONNX Runtime's LinearAttention on its CPU provider, ready to be called. */
export interface OnnxLinearAttention {
  /** Outputs [heads, length, dim] of one call. */
  readonly output: () => Promise<Float64Array>;
  readonly run: () => Promise<void>;
  readonly close: () => Promise<void>;
}

/** Its rule of a workload, where it has the same function; null where it does not. */
function ruleOf({ variant, phase }: LinearWorkload): 'gated' | 'gated_delta' | null {
  const { rule } = variant;
  if (phase !== 'prefill' || rule.kind !== 'recurrent' || variant.rowSum !== null) return null;
  const decay = rule.steps.find((step) => step.step === 'decay')?.by;
  const removes = rule.steps.some((step) => step.step === 'remove' && step.along === 'key');
  if (rule.name === 'decay' && decay === 'head') return 'gated';
  return removes && decay === 'step' ? 'gated_delta' : null;
}

/**
 * Its rows are packed [batch, length, heads · dim], and its keys come with unit length already, which spares it the norm. Null where it has no such rule.
 */
export async function onnxLinearAttention(workload: LinearWorkload, inputs: HostInputs, threads: number): Promise<OnnxLinearAttention | null> {
  const rule = ruleOf(workload);
  if (rule === null) return null;
  const { heads, length, dim } = workload;
  const { default: library } = await import('onnxruntime-node');
  const names = ['query', 'key', 'value', null, 'decay', ...(rule === 'gated_delta' ? ['beta'] : [])];
  const model = oneOperatorModel({
    operator: 'LinearAttention',
    domain: 'com.microsoft',
    inputs: names.map((name) => (name === null ? null : { name, type: 'float32' })),
    outputs: [{ name: 'output', type: 'float32' }, { name: 'present', type: 'float32' }],
    attributes: { update_rule: { text: rule }, q_num_heads: { int: heads }, kv_num_heads: { int: heads }, scale: { float: 1 / Math.sqrt(dim) } },
  });
  const session = await library.InferenceSession.create(model, { executionProviders: ['cpu'], intraOpNumThreads: threads, interOpNumThreads: 1, logSeverityLevel: 4, extra: { session: { force_spinning_stop: '1' } } });
  const numbers = (one: HostInputs['query']): Float64Array => toFloat64(one);
  const packed = (source: Float64Array): Float32Array => Float32Array.from({ length: source.length }, (_, at) => {
    const [token, head, channel] = [Math.floor(at / (heads * dim)), Math.floor(at / dim) % heads, at % dim];
    return source[(head * length + token) * dim + channel] ?? 0;
  });
  const byToken = (source: Float64Array): Float32Array => Float32Array.from({ length: length * heads }, (_, at) => source[source.length === heads ? at % heads : (at % heads) * length + Math.floor(at / heads)] ?? 0);
  const keys = numbers(inputs.key);
  const unit = rule === 'gated' ? keys : keys.map((element, at) => element / Math.hypot(...keys.subarray(at - (at % dim), at - (at % dim) + dim)));
  const feeds: Record<string, InstanceType<typeof library.Tensor>> = {};
  const feed = (name: string, data: Float32Array, width: number): void => {
    feeds[name] = new library.Tensor('float32', data, [1, length, width]);
  };
  feed('query', packed(numbers(inputs.query)), heads * dim);
  feed('key', packed(unit), heads * dim);
  feed('value', packed(numbers(inputs.value)), heads * dim);
  if (inputs.logDecay !== undefined) feed('decay', byToken(numbers(inputs.logDecay as HostInputs['query'])), heads);
  if (inputs.writeStrength !== undefined) feed('beta', byToken(numbers(inputs.writeStrength as HostInputs['query'])), heads);
  const run = async (): Promise<Float32Array> => (await session.run(feeds))['output']?.data as Float32Array;
  return {
    output: async () => {
      const rows = await run();
      return Float64Array.from({ length: rows.length }, (_, at) => {
        const [head, token, channel] = [Math.floor(at / (length * dim)), Math.floor(at / dim) % length, at % dim];
        return rows[(token * heads + head) * dim + channel] ?? Number.NaN;
      });
    },
    run: async () => {
      await run();
    },
    close: async () => session.release(),
  };
}
