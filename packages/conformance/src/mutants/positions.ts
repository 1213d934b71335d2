import type { AttentionInputs, AttentionRequest, Expression, HostTensor } from '@heed/core';
import { encode, rewrite, slice, tensor, toFloat64 } from '@heed/core';
import { changedMasking, changedScoring, onHost, overwrite, withStages, without } from './alter.ts';
import type { Mutant } from './mutant.ts';
import { mutant } from './mutant.ts';

const queryPosition: Expression = { kind: 'input', type: 'i32', name: 'queryPosition' };

function readsOf(node: Expression, name: string): boolean {
  return node.kind === 'input' && node.name === name;
}

/** Wrong positions, windows and head mappings. */
export const positionMutants: readonly Mutant[] = [
  mutant({ name: 'anchor-end', plan: "takes the offset 'start' for 'end'", names: ['L3'], controls: ['golden', 'L4', 'L7'] }, () => ({
    inputs: (inputs) => (inputs.queryOffset === 'start' ? { ...inputs, queryOffset: 'end' } : inputs),
  })),
  mutant({ name: 'anchor-start', plan: "takes the offset 'end' for 'start'", names: ['L3', 'masking'], controls: ['golden', 'L4', 'L7'] }, () => ({
    inputs: (inputs) => (inputs.queryOffset === 'end' ? { ...inputs, queryOffset: 'start' } : inputs),
  })),
  mutant({ name: 'offset-guessed', plan: "takes 'end' where no offset is given", names: ['L3', 'errors'], controls: ['golden', 'L4', 'L10'] }, () => ({
    inputs: (inputs) => (inputs.queryOffset === undefined && inputs.queryPositions === undefined && inputs.packed === undefined ? { ...inputs, queryOffset: 'end' } : inputs),
  })),
  mutant({ name: 'offset-clamped', plan: 'clamps negative offsets to 0', names: ['L3'], controls: ['golden', 'L4', 'L2'] }, () => ({
    inputs: (inputs) => (typeof inputs.queryOffset === 'number' && inputs.queryOffset < 0 ? { ...inputs, queryOffset: 0 } : inputs),
  })),
  mutant({ name: 'offset-of-first', plan: 'uses the offset of the first sequence for all', names: ['L3'], controls: ['golden', 'L4', 'L2'] }, () => ({
    inputs: (inputs) => (typeof inputs.queryOffset === 'object' && inputs.packed === undefined ? { ...inputs, queryOffset: inputs.queryOffset[0] ?? 0 } : inputs),
  })),
  mutant({ name: 'key-offset-ignored', plan: 'counts keys from 0 whatever their offset', names: ['L3', 'golden/rope-scores'], controls: ['L4', 'L6', 'golden/pairs'] }, () => ({ inputs: (inputs) => without(inputs, 'keyOffset') })),
  mutant({ name: 'positions-ignored', plan: 'ignores explicit positions', names: ['L3', 'L16'], controls: ['golden', 'L4', 'L6'] }, () => ({
    inputs: (inputs) => (inputs.queryPositions === undefined && inputs.keyPositions === undefined ? inputs : { ...without(inputs, 'queryPositions', 'keyPositions'), queryOffset: inputs.queryOffset ?? 0 }),
  })),
  mutant({ name: 'positions-sorted', plan: 'assumes that explicit positions ascend', names: ['L3', 'L16'], controls: ['golden', 'L4', 'L6'] }, () => ({
    inputs: (inputs) => ({ ...inputs, ...(inputs.keyPositions === undefined ? {} : { keyPositions: ascending(inputs.keyPositions) }) }),
  })),
  mutant({ name: 'window-too-wide', plan: 'sees one key more on the left of a window', names: ['L4', 'golden'], controls: ['L5', 'L6', 'L7'] }, () => ({ request: (request) => withUniform(request, 'window.left', (left) => left + 1) })),
  mutant({ name: 'window-counts-self', plan: "counts the query's own key in a window", names: ['L4', 'golden'], controls: ['L5', 'L6', 'L7'] }, () => ({ request: (request) => withUniform(request, 'window.left', (left) => Math.max(0, left - 1)) })),
  mutant({ name: 'window-one-sided', plan: 'takes no key to the right of the query, whatever the window says', names: ['L4'], controls: ['golden', 'L5', 'L6'] }, () => ({ request: (request) => withUniform(request, 'window.right', () => 0) })),
  mutant({ name: 'causal-strict', plan: 'a query does not see its own position', names: ['L3', 'golden'], controls: ['L7', 'L8-observed-stages-byte-budget', 'L18'] }, () => ({
    request: (request) =>
      withStages(request, {
        masking: changedMasking(request.variant.masking, {
          allowed: rewrite(request.variant.masking.allowed, (node) => (node.kind === 'operation' && node.operator === 'le' && node.operands.some((operand) => readsOf(operand, 'keyPosition')) && node.operands.some((operand) => readsOf(operand, 'queryPosition')) ? { ...node, operator: 'lt' } : node)),
        }),
      }),
  })),
  mutant({ name: 'index-for-position', plan: 'modifiers read row numbers instead of positions', names: ['L2', 'modifiers', 'packed'], controls: ['L4', 'golden', 'L7'] }, () => ({
    request: (request) =>
      withStages(request, {
        scoring: changedScoring(request.variant.scoring, {
          modifiers: request.variant.scoring.modifiers.map((modifier) => ({ ...modifier, expression: rewrite(modifier.expression, (node) => (readsOf(node, 'queryPosition') ? { ...queryPosition, name: 'queryIndex' } : node)) })),
        }),
      }),
  })),
  mutant({ name: 'heads-tiled', plan: 'query head h reads key head h mod keyHeads', names: ['L6'], controls: ['golden', 'L11', 'L12'] }, () => ({ inputs: tileHeads })),
  mutant({ name: 'heads-first', plan: 'every query head reads key head 0', names: ['L6', 'L7'], controls: ['golden', 'L11', 'L12-recurrence-chunks'] }, () => ({
    inputs: (inputs) => {
      const keyHeads = inputs.key.shape[1] ?? 1;
      return keyHeads > 1 && (inputs.query.shape[1] ?? 1) % keyHeads === 0 ? onlyFirstHead(inputs) : inputs;
    },
  })),
  mutant({ name: 'total-length-ignored', plan: 'divides by the length of the shard instead of the whole sequence', names: ['L13'], controls: ['golden', 'L7', 'L4'] }, () => ({
    kernel: (kernel) => ({ partial: (inputs, options) => kernel.partial(without(inputs, 'totalKeyLengths'), options) }),
  })),
  mutant({ name: 'keys-transformed-twice', plan: 'transforms keys that are transformed already', names: ['keys'], controls: ['golden', 'L3', 'L4'] }, () => ({ inputs: (inputs, request) => (request.variant.scoring.name === 'additive' ? inputs : without(inputs, 'keysTransformed')) })),
  mutant({ name: 'rope-pairing', plan: 'pairs channels as the other kind of rotary positions does', names: ['golden', 'transforms'], controls: ['L4', 'L7', 'L2-order-scale-first'] }, () => ({
    request: (request) => {
      const { scoring } = request.variant;
      const swap = (transforms: typeof scoring.keyTransforms): typeof scoring.keyTransforms => transforms.map((transform) => (transform.kind === 'rope' ? { ...transform, pairing: transform.pairing === 'half' ? 'interleaved' : 'half' } : transform));
      return withStages(request, { scoring: changedScoring(scoring, { queryTransforms: swap(scoring.queryTransforms), keyTransforms: swap(scoring.keyTransforms) }) });
    },
  })),
  mutant({ name: 'layout-ignored', plan: 'reads strided rows as if they were dense', names: ['L16'], controls: ['golden/pairs', 'L4', 'L5'] }, () => ({
    inputs: (inputs) => ({ ...inputs, key: dense(inputs.key) }),
  })),
  mutant({ name: 'last-head-lost', plan: 'leaves the output of the last of more than three heads at zero', names: ['L6', 'normalization'], controls: ['golden', 'L11', 'L12'] }, () => ({
    outputs: (outputs) => {
      const [, heads = 1, length = 1, dim = 1] = outputs.output.shape;
      if (heads > 3) overwrite(outputs.output, (value, index) => (Math.floor(index / (length * dim)) % heads === heads - 1 ? 0 : value));
      return outputs;
    },
  })),
];

function withUniform(request: AttentionRequest, name: string, change: (value: number) => number): AttentionRequest {
  const { masking } = request.variant;
  const declared = masking.uniforms[name];
  if (typeof declared?.value !== 'number') return request;
  return withStages(request, { masking: changedMasking(masking, { uniforms: { ...masking.uniforms, [name]: { ...declared, value: change(declared.value) } } }) });
}

function ascending(positions: NonNullable<AttentionInputs['keyPositions']>): NonNullable<AttentionInputs['keyPositions']> {
  const host = onHost(positions);
  const length = host.shape[1] ?? 0;
  const sorted = Int32Array.from(host.view());
  for (let start = 0; start < sorted.length; start += length) sorted.subarray(start, start + length).sort();
  return tensor(sorted, host.shape);
}

/** Key heads repeated as a tiling would: a view whose heads are h mod keyHeads cannot be strided, so the rows are copied. */
function tileHeads(inputs: AttentionInputs): AttentionInputs {
  const heads = inputs.query.shape[1] ?? 1;
  const keyHeads = inputs.key.shape[1] ?? 1;
  if (keyHeads === 0 || heads % keyHeads !== 0 || keyHeads === heads || keyHeads === 1) return inputs;
  const copy = (source: AttentionInputs['key']): AttentionInputs['key'] => gathered(onHost(source), Array.from({ length: heads }, (_, head) => head % keyHeads));
  return { ...inputs, key: copy(inputs.key), value: copy(inputs.value) };
}

function onlyFirstHead(inputs: AttentionInputs): AttentionInputs {
  const first = (source: AttentionInputs['key']): AttentionInputs['key'] => slice(onHost(source), 1, 0, 1);
  return { ...inputs, key: first(inputs.key), value: first(inputs.value) };
}

/** The heads of a tensor in another order, copied. */
function gathered(source: HostTensor, order: readonly number[]): HostTensor {
  const [batch = 0, heads = 1, length = 0, dim = 0] = source.shape;
  const values = toFloat64(source);
  const rows = length * dim;
  const copy = new Float64Array(batch * order.length * rows);
  for (let sequence = 0; sequence < batch; sequence++) {
    for (const [place, head] of order.entries()) copy.set(values.subarray((sequence * heads + head) * rows, (sequence * heads + head + 1) * rows), (sequence * order.length + place) * rows);
  }
  return tensor(encode(copy, source.dtype), [batch, order.length, length, dim], { dtype: source.dtype });
}

/** The same memory as if it were dense. */
function dense(source: AttentionInputs['key']): AttentionInputs['key'] {
  const [, heads = 1, length = 1, dim = 1] = source.shape;
  return Object.freeze({ ...source, strides: [heads * length * dim, length * dim, dim, 1] });
}
