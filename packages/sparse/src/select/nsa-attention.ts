import type { AttentionKernel, Backend, HostTensor, Runtime, Tensor } from '@heed/core';
import { attention, AttentionError, causal, tensor, window, write } from '@heed/core';
import { listRows } from './gather.ts';
import { nsaSizes, type NsaOptions, type NsaSizes } from './nsa-options.ts';
import { selectNsa } from './nsa.ts';
import { onRuntime } from './pooled-keys.ts';
import { repeatHeads, type Selection } from './selection.ts';

/** Keys and values of one branch. */
export interface NsaBranch {
  readonly key: Tensor;
  readonly value: Tensor;
}

export interface NsaInputs {
  /** [batch, heads, queryLength, dim] */
  readonly query: Tensor;
  /** Compressed: [batch, keyHeads, blocks, dim], as `compressBlocks` makes them. */
  readonly compression: NsaBranch;
  /** [batch, keyHeads, keyLength, dim], of projections of their own. */
  readonly selection: NsaBranch;
  readonly window: NsaBranch;
  /** Gates of the three branches in this order, after their sigmoid: [batch, heads, queryLength, 3]. */
  readonly gates: Tensor;
  /** Position of query row 0. Default 0. */
  readonly queryOffset?: number;
  /** A choice of an earlier call, given back. Default: selected here. */
  readonly choice?: Selection;
}

/** Prepared kernels of one layer of native sparse attention. */
export interface NsaAttention {
  /** @returns output [batch, heads, queryLength, valueDim], where the query lives, and the blocks that were selected */
  readonly run: (inputs: NsaInputs) => Promise<{ readonly output: Tensor; readonly choice: Selection }>;
  readonly dispose: () => Promise<void>;
}

const gated = write('transform', 'gated', ({ table }) =>
  ['compression', 'selection', 'window'].map((name) => table(`${name}Gate`, []).at().mul(table(name, []).at())).reduce((sum, term) => sum.add(term))).expression;

/**
 * Native sparse attention (Yuan 2025, equation 5): Σ gate · attention over compressed blocks, over selected blocks, and over a window. A compressed block is seen once its last key stands at or before
 * the query; a query before the first one has nothing from that branch.
 *
 * @param backend takes block lists
 * @throws AttentionError those of `prepare`; `invalid-argument` for sizes
 */
export async function prepareNsa(backend: Backend, dims: { readonly queryDim: number; readonly keyDim: number; readonly valueDim: number }, options: NsaOptions = {}): Promise<NsaAttention> {
  const sizes = nsaSizes(options);
  const ordered = await backend.prepare({ variant: attention({ masking: causal() }), ...dims });
  const near = await backend.prepare({ variant: attention({ masking: causal().and(window({ left: sizes.window - 1, right: 0 })) }), ...dims });
  return Object.freeze({
    run: (inputs: NsaInputs) => run(backend.runtime, { ordered, near }, inputs, sizes),
    dispose: async () => {
      await Promise.all([ordered.dispose(), near.dispose()]);
    },
  });
}

async function run(runtime: Runtime, { ordered, near }: { readonly ordered: AttentionKernel; readonly near: AttentionKernel }, inputs: NsaInputs, sizes: NsaSizes): Promise<{ readonly output: Tensor; readonly choice: Selection }> {
  const { queryOffset = 0, gates } = inputs;
  const [batch = 0, heads = 0, length = 0] = inputs.query.shape;
  if (gates.shape.join() !== [batch, heads, length, 3].join()) throw new AttentionError('invalid-shape', `gates has shape [${gates.shape.join(', ')}].`, `Expected [${batch}, ${heads}, ${length}, 3].`);
  const held: Tensor[] = [];
  const here = (given: Tensor): Tensor => {
    const own = onRuntime(runtime, given);
    if (own !== given) held.push(own);
    return own;
  };
  const branch = ({ key, value }: NsaBranch): NsaBranch => ({ key: here(key), value: here(value) });
  try {
    const query = here(inputs.query);
    const [compression, selection, local] = [branch(inputs.compression), branch(inputs.selection), branch(inputs.window)];
    const outputOf = async (kernel: AttentionKernel, given: Parameters<AttentionKernel['run']>[0]): Promise<Tensor> => {
      const { output, logSumExp } = await kernel.run(given);
      held.push(output, ...(logSumExp === undefined ? [] : [logSumExp]));
      return output;
    };
    const blocks = compression.key.shape[2] ?? 0;
    const ends = positions(blocks, (block) => block * sizes.stride + sizes.compressBlock - 1);
    const choice = inputs.choice ?? (await selectNsa(runtime, { query, key: compression.key, queryOffset }, sizes));
    const keyHeads = selection.key.shape[1] ?? 1;
    const outputs = {
      compression: await outputOf(ordered, { query, ...compression, queryPositions: positions(length, (row) => queryOffset + row), keyPositions: ends }),
      selection: await outputOf(ordered, { query, ...selection, queryOffset, blocks: listRows(repeatHeads(choice, heads / keyHeads)) }),
      window: await outputOf(near, { query, ...local, queryOffset }),
    };
    const shape = outputs.window.shape;
    const weights = here(gates);
    const [stepB = 0, stepH = 0, stepL = 0, step = 0] = weights.strides;
    const gate = (index: number): Tensor => runtime.view(weights, shape, [stepB, stepH, stepL, 0], index * step);
    const output = runtime.operations.elementwise(gated, { ...outputs, compressionGate: gate(0), selectionGate: gate(1), windowGate: gate(2) }, { dtype: outputs.window.dtype });
    if (inputs.query.runtime !== null) return { output, choice };
    held.push(output);
    return { output: await runtime.read(output), choice };
  } finally {
    for (const made of held) runtime.release(made);
  }
}

function positions(count: number, at: (index: number) => number): HostTensor {
  return tensor(Int32Array.from({ length: count }, (_, index) => at(index)), [1, count]);
}
