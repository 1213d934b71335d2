import type { FastWeightInputs, FastWeightRequest, FastWeightState, FastWeightStep, FastWeightVariant, HostTensor } from '@heed/core';
import { encode, fastWeights, recurrentRule, slice, tensor, toFloat64 } from '@heed/core';
import { onHost } from './alter.ts';
import type { Mutant } from './mutant.ts';
import { mutant } from './mutant.ts';

/** Recurrences in the wrong order, chunks that overlap, states that get lost. */
export const recurrenceMutants: readonly Mutant[] = [
  mutant({ name: 'decay-after-read', plan: 'decays the state after it was read', names: ['L12', 'golden/recurrence'], controls: ['golden/pairs', 'L3', 'L7'] }, () => ({ fastRequest: (request) => withSteps(request, (steps) => [...steps.filter(({ step }) => step !== 'decay'), ...steps.filter(({ step }) => step === 'decay')]) })),
  mutant({ name: 'read-before-write', plan: 'reads the state before the token is written', names: ['L12', 'golden/recurrence'], controls: ['golden/pairs', 'L3', 'L7'] }, () => ({ fastRequest: (request) => withSteps(request, (steps) => [...steps.filter(({ step }) => step === 'read'), ...steps.filter(({ step }) => step !== 'read')]) })),
  mutant({ name: 'removes-decayed', plan: 'RWKV-7 recalls from the state after its decay', names: ['L12', 'golden/recurrence'], controls: ['golden/pairs', 'golden/recurrence?rule=delta', 'golden/recurrence?rule=kda'] }, () => ({ fastRequest: (request) => withSteps(request, (steps) => [...steps.filter(({ step }) => step === 'decay'), ...steps.filter(({ step }) => step !== 'decay')]) })),
  mutant({ name: 'recalls-undecayed', plan: 'the delta rules recall from the state before its decay, as RWKV-7 does', names: ['L12', 'golden/recurrence'], controls: ['golden/recurrence?rule=rwkv7', 'golden/recurrence?rule=delta', 'golden/pairs'] }, () => ({ fastRequest: (request) => withSteps(request, (steps) => [...steps.filter(({ step }) => step === 'recall'), ...steps.filter(({ step }) => step !== 'recall')]) })),
  mutant({ name: 'nothing-removed', plan: 'writes without removing what stood at the key', names: ['L12', 'golden/recurrence'], controls: ['golden/recurrence?rule=linear', 'golden/recurrence?rule=gla', 'L3'] }, () => ({ fastRequest: (request) => withSteps(request, (steps) => steps.filter(({ step }) => step !== 'remove' && step !== 'recall')) })),
  mutant({ name: 'chunk-boundary', plan: 'loses the last token of a chunk of 64 at the boundary', names: ['L12'], controls: ['golden', 'L3', 'L12-recurrence-segments'] }, () => ({
    fastKernel: (kernel, request) => ({
      run: async (inputs) => {
        const length = inputs.query.shape[2] ?? 0;
        if (request.variant.rule.kind !== 'recurrent' || length <= 64 || inputs.packed !== undefined) return kernel.run(inputs);
        const first = await kernel.run(tokens(inputs, 0, 64));
        const short = await kernel.run(tokens(inputs, 0, 63));
        const rest = await kernel.run({ ...tokens(inputs, 64, length), state: short.state });
        return { output: joined(onHost(first.output), onHost(rest.output)), state: rest.state };
      },
    }),
  })),
  mutant({ name: 'state-ignored', plan: 'begins anew whatever state is given', names: ['L12'], controls: ['golden', 'L3', 'L12-recurrence-chunks'] }, () => ({ fastInputs: ({ state, ...inputs }, request) => (isRightState(state, request) ? inputs : { ...inputs, ...(state === undefined ? {} : { state }) }) })),
  mutant({ name: 'state-first', plan: 'returns the state that was given instead of the last', names: ['L12'], controls: ['golden/pairs', 'L3', 'L12-recurrence-two-readings'] }, () => ({
    fastKernel: (kernel) => ({ run: (inputs, options) => kernel.run(inputs, options).then((outputs) => (inputs.state === undefined ? outputs : { ...outputs, state: inputs.state })) }),
  })),
  mutant({ name: 'value-heads-tiled', plan: 'value head h reads query head h mod heads', names: ['L12'], controls: ['golden', 'L6', 'L12-recurrence-last-write-wins'] }, () => ({
    fastInputs: (inputs) => {
      const heads = inputs.query.shape[1] ?? 1;
      const valueHeads = inputs.value.shape[1] ?? 1;
      if (heads < 2 || valueHeads % heads !== 0 || valueHeads === heads) return inputs;
      const order = Array.from({ length: valueHeads }, (_, head) => head % heads);
      return { ...inputs, query: reordered(onHost(inputs.query), order), key: reordered(onHost(inputs.key), order) };
    },
  })),
  mutant({ name: 'packed-state', plan: 'carries the state from one packed sequence to the next', names: ['L12', 'L15'], controls: ['golden', 'L3', 'L12-recurrence-chunks'] }, () => ({
    fastKernel: (kernel) => ({
      run: async (inputs, options) => {
        const right = await kernel.run(inputs, options);
        if (inputs.packed === undefined) return right;
        const { packed: _packed, ...whole } = inputs;
        const { output } = await kernel.run(whole, options);
        return { ...right, output };
      },
    }),
  })),
  mutant({ name: 'strength-ignored', plan: 'writes with strength 1', names: ['L12', 'golden/recurrence'], controls: ['golden/pairs', 'golden/recurrence?rule=linear', 'golden/recurrence?rule=rwkv7'] }, () => ({
    fastInputs: (inputs, request) => (inputs.writeStrength === undefined || request.variant.rule.kind !== 'recurrent' ? inputs : { ...inputs, writeStrength: tensor(new Float32Array(toFloat64(onHost(inputs.writeStrength)).length).fill(1), inputs.writeStrength.shape) }),
  })),
  mutant({ name: 'batch-of-gradients', plan: 'takes inner gradients at the current weights instead of the start of the mini-batch', names: ['L12'], controls: ['golden', 'L12-recurrence-two-readings', 'L12-recurrence-chunks'] }, () => ({
    fastRequest: (request) => {
      const { rule } = request.variant;
      return rule.kind === 'gradient' && rule.optimizer.kind === 'momentum' && rule.miniBatch > 1 ? { ...request, variant: withRule(request.variant, { ...rule, miniBatch: 1 }) } : request;
    },
  })),
];

function withSteps(request: FastWeightRequest, change: (steps: readonly FastWeightStep[]) => readonly FastWeightStep[]): FastWeightRequest {
  const { rule } = request.variant;
  return rule.kind === 'recurrent' ? { ...request, variant: withRule(request.variant, recurrentRule(rule.name, change(rule.steps))) } : request;
}

function withRule(variant: FastWeightVariant, rule: FastWeightVariant['rule']): FastWeightVariant {
  const scale = variant.uniforms['scale']?.value;
  const epsilon = variant.uniforms['rowSum.epsilon']?.value;
  return fastWeights({
    rule,
    transformQuery: variant.queryTransforms,
    transformKey: variant.keyTransforms,
    ...(rule.kind === 'recurrent' && scale !== undefined ? { scale } : {}),
    ...(variant.rowSum === null ? {} : { rowSum: typeof epsilon === 'number' ? { epsilon } : true }),
  });
}

/** A state that a right backend would take; a broken one must still be refused. */
function isRightState(state: FastWeightState | undefined, request: FastWeightRequest): boolean {
  const memory = state?.['memory'];
  return memory?.shape[3] === request.valueDim;
}

function tokens(inputs: FastWeightInputs, start: number, end: number): FastWeightInputs {
  const cut = Object.entries(inputs).map(([name, part]: [string, unknown]) => {
    if (!['query', 'key', 'value', 'logDecay', 'writeStrength', 'removalKey', 'removalWeight', 'momentum'].includes(name)) return [name, part] as const;
    const host = onHost(part as HostTensor);
    return [name, host.shape[2] === 1 ? host : slice(host, 2, start, end)] as const;
  });
  return Object.fromEntries(cut) as unknown as FastWeightInputs;
}

/** Rows of the second after those of the first. */
function joined(first: HostTensor, second: HostTensor): HostTensor {
  const [batch = 0, heads = 0, before = 0, dim = 0] = first.shape;
  const after = second.shape[2] ?? 0;
  const [a, b] = [toFloat64(first), toFloat64(second)];
  const data = new Float64Array(a.length + b.length);
  for (let lane = 0; lane < batch * heads; lane++) {
    data.set(a.subarray(lane * before * dim, (lane + 1) * before * dim), lane * (before + after) * dim);
    data.set(b.subarray(lane * after * dim, (lane + 1) * after * dim), (lane * (before + after) + before) * dim);
  }
  return tensor(encode(data, first.dtype), [batch, heads, before + after, dim], { dtype: first.dtype });
}

function reordered(source: HostTensor, order: readonly number[]): HostTensor {
  const [batch = 0, heads = 1, length = 0, dim = 0] = source.shape;
  const values = toFloat64(source);
  const rows = length * dim;
  const data = new Float64Array(batch * order.length * rows);
  for (let sequence = 0; sequence < batch; sequence++) for (const [place, head] of order.entries()) data.set(values.subarray((sequence * heads + head) * rows, (sequence * heads + head + 1) * rows), (sequence * order.length + place) * rows);
  return tensor(encode(data, source.dtype), [batch, order.length, length, dim], { dtype: source.dtype });
}
