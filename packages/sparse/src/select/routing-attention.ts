import type { AttentionKernel, Backend, HostTensor, Runtime, Tensor } from '@heed/core';
import { attention, AttentionError, causal, tensor, toFloat64 } from '@heed/core';
import { onRuntime } from './pooled-keys.ts';
import type { RoutingChoice } from './routing.ts';

export interface RoutingInputs {
  /** [batch, heads, length, dim] */
  readonly query: Tensor;
  readonly key: Tensor;
  /** [batch, heads, length, valueDim] */
  readonly value: Tensor;
  /** Of `selectRouting`, over these rows. */
  readonly choice: RoutingChoice;
}

/** A prepared kernel of routing attention. */
export interface RoutingAttention {
  /** @returns output [batch, heads, length, valueDim], where the query lives */
  readonly run: (inputs: RoutingInputs) => Promise<Tensor>;
  readonly dispose: () => Promise<void>;
}

/**
 * Attention within clusters (Roy 2021): queries and keys after a layer norm without gain, keys up to the query's position. A row in several clusters has the sum of their outputs; a row in none has 0.
 * @throws AttentionError those of `prepare`
 */
export async function prepareRouting(backend: Backend, { dim, valueDim }: { readonly dim: number; readonly valueDim: number }): Promise<RoutingAttention> {
  const kernel = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: dim, keyDim: dim, valueDim });
  return Object.freeze({ run: (inputs: RoutingInputs) => run(backend.runtime, kernel, inputs), dispose: () => kernel.dispose() });
}

async function run(runtime: Runtime, kernel: AttentionKernel, { query, key, value, choice }: RoutingInputs): Promise<Tensor> {
  const [batch = 0, heads = 0, length = 0] = query.shape;
  const valueDim = value.shape[3] ?? 0;
  const [, , clusters = 0, members = 0] = choice.queries.shape;
  for (const [name, own] of [['queries', choice.queries], ['keys', choice.keys]] as const) {
    if (own.shape.join() !== [batch, heads, clusters, members].join()) throw new AttentionError('invalid-argument', `The choice has ${name} [${own.shape.join(', ')}].`, `Expected [${batch}, ${heads}, ${clusters}, ${members}].`);
  }
  const { operations } = runtime;
  const planes = batch * heads * clusters;
  const held: Tensor[] = [];
  const keep = (made: Tensor, given?: Tensor): Tensor => {
    if (made !== given) held.push(made);
    return made;
  };
  /** The rows of each cluster as a sequence of its own. */
  const gathered = (rows: Tensor, own: HostTensor, normed: boolean): Tensor => {
    const here = keep(onRuntime(runtime, rows), rows);
    const source = normed ? keep(operations.rowNorm(here, { norm: 'layer', epsilon: 1e-5 })) : here;
    const indices = keep(runtime.upload(tensor(own.view(), [batch, heads, clusters * members])));
    return runtime.view(keep(operations.gather(source, indices)), [planes, 1, members, rows.shape[3] ?? 0]);
  };
  const positions = (own: HostTensor): HostTensor => tensor(own.view(), [planes, members]);
  try {
    const { output, logSumExp } = await kernel.run({
      query: gathered(query, choice.queries, true),
      key: gathered(key, choice.keys, true),
      value: gathered(value, choice.keys, false),
      queryPositions: positions(choice.queries),
      keyPositions: positions(choice.keys),
    });
    held.push(output, ...(logSumExp === undefined ? [] : [logSumExp]));
    const made = toFloat64(await runtime.read(output));
    const sum = new Float32Array(batch * heads * length * valueDim);
    const rows = toFloat64(choice.queries);
    for (const [at, row] of rows.entries()) {
      const target = (Math.floor(at / (clusters * members)) * length + row) * valueDim;
      for (let channel = 0; channel < valueDim; channel++) sum[target + channel] = (sum[target + channel] ?? 0) + (made[at * valueDim + channel] ?? 0);
    }
    const result = tensor(sum, [batch, heads, length, valueDim]);
    return query.runtime === null ? result : runtime.upload(result);
  } finally {
    for (const tensorHeld of held) runtime.release(tensorHeld);
  }
}
