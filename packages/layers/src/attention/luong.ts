import { additive, attention, AttentionError, bilinear, dot, positionWeight, reader, softmax, tensor, window, type AttentionInputs, type AttentionKernel, type AttentionStages, type Backend, type Integers, type Scoring, type Tensor } from '@heed/core';
import { overElements } from '../expressions.ts';
import { linear, linearRows } from '../linear.ts';
import { checkCount, checkWeights, Parameters } from '../parameters.ts';
import { withTemporaries, type Temporaries } from '../temporaries.ts';
import type { Attended } from './bahdanau.ts';
import { rememberAnnotations, type Memory } from './memory.ts';
import { bringHere } from '../on-runtime.ts';

/** How a state s and an annotation h are compared (Luong 2015, section 3.1). */
export type LuongScore =
  /** s·h */
  | { readonly kind: 'dot' }
  /** sᵀ W h, W [state width, memory width] */
  | { readonly kind: 'general'; readonly weight: Tensor }
  /** vᵀ tanh(W [s; h]), W [width, state width + memory width], v [width] */
  | { readonly kind: 'concat'; readonly weight: Tensor; readonly vector: Tensor };

/** Local attention around a predicted position p_t = S · σ(vᵀ tanh(W s)) (section 3.2, "local-p"). */
export interface LuongLocal {
  /** D: keys within D of p_t are seen, and weights are multiplied by e^(−(j − p_t)² / 2(D/2)²), not normalized again. */
  readonly halfWidth: number;
  /** W [width, state width] */
  readonly weight: Tensor;
  /** v [width] */
  readonly vector: Tensor;
}

export interface LuongOptions {
  readonly backend: Backend;
  readonly stateDim: number;
  readonly memoryDim: number;
  readonly score: LuongScore;
  /** Default: all keys are seen ("global"). */
  readonly local?: LuongLocal;
  /** W_c [attentional width, memory width + state width] of h̃ = tanh(W_c [c; s]). */
  readonly output: Tensor;
  readonly observeWeights?: boolean;
}

/** What a state becomes. */
export interface LuongAttended extends Attended {
  /** h̃ = tanh(W_c [context; state]), [batch, steps, attentional width] */
  readonly attentional: Tensor;
}

/**
 * Attention of an encoder–decoder by the *current* state (Luong 2015), whose outcome is joined with the state after the step and not before it as Bahdanau's.
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `unsupported`
 */
export async function createLuongAttention(options: LuongOptions): Promise<LuongAttention> {
  const { backend, stateDim, memoryDim, score, local, output, observeWeights = false } = options;
  const [width = 0] = score.kind === 'concat' ? score.weight.shape : [];
  checkWeights('Luong attention', {
    output: [output, ['outputs', memoryDim + stateDim]],
    ...(score.kind === 'general' ? { 'score.weight': [score.weight, [stateDim, memoryDim]] } : {}),
    ...(score.kind === 'concat' ? { 'score.weight': [score.weight, [width, stateDim + memoryDim]], 'score.vector': [score.vector, [width]] } : {}),
    ...(local === undefined ? {} : { 'local.weight': [local.weight, [local.vector.shape[0] ?? 0, stateDim]] }),
  });
  if (score.kind === 'dot' && stateDim !== memoryDim) throw new AttentionError('invalid-shape', `A dot product of states of ${stateDim} channels and a memory of ${memoryDim}.`, 'Use the general score.');
  const variant = attention({
    scoring: scoringOf(score, width, stateDim),
    ...(local === undefined ? {} : localStages(checkCount('local.halfWidth', local.halfWidth, 1))),
  });
  const kernel = await backend.prepare({ variant, queryDim: stateDim, keyDim: memoryDim, valueDim: memoryDim, ...(observeWeights ? { observe: { stages: ['weights'] } } : {}) });
  return new LuongAttention(options, kernel);
}

function scoringOf(score: LuongScore, width: number, stateDim: number): Scoring {
  switch (score.kind) {
    case 'dot':
      return dot();
    case 'general':
      return bilinear({ width: stateDim });
    case 'concat':
      return additive({ width });
  }
}

/** The mask is around the whole number next to p_t, where the query is said to stand; the bell around p_t itself. */
function localStages(halfWidth: number): Pick<AttentionStages, 'masking' | 'normalization'> {
  return { masking: window({ left: halfWidth, right: halfWidth }), normalization: softmax().reweighBy(positionWeight({ deviation: halfWidth / 2 })) };
}

const hyperbolic = overElements(['x'], ({ x }) => x.tanh());
const logistic = overElements(['x'], ({ x }) => x.sigmoid());

/** See {@link createLuongAttention}. */
export class LuongAttention {
  readonly #kernel: AttentionKernel;
  readonly #parameters: Parameters;
  readonly #tables: Readonly<Record<string, Tensor>>;
  readonly #output: Tensor;
  readonly #local: { readonly weight: Tensor; readonly vector: Tensor } | null;

  /** @internal use {@link createLuongAttention} */
  constructor({ backend, score, local, output, stateDim, memoryDim }: LuongOptions, kernel: AttentionKernel) {
    const { runtime } = backend;
    const parameters = new Parameters(runtime);
    this.#kernel = kernel;
    this.#parameters = parameters;
    this.#output = parameters.place('output', output);
    this.#local = local === undefined ? null : { weight: parameters.place('local.weight', local.weight), vector: parameters.place('local.vector', local.vector) };
    switch (score.kind) {
      case 'dot':
        this.#tables = {};
        break;
      case 'general':
        this.#tables = { bilinear: parameters.place('score.weight', score.weight) };
        break;
      case 'concat': {
        const weight = parameters.place('score.weight', score.weight);
        const [width = 0] = weight.shape;
        const [rowStep = 0, step = 1] = weight.strides;
        const part = (dim: number, start: number): Tensor => parameters.own(runtime.operations.copy(runtime.view(weight, [width, dim], [rowStep, step], start * step)));
        this.#tables = { queryProjection: part(stateDim, 0), keyProjection: part(memoryDim, stateDim), vector: parameters.place('score.vector', score.vector) };
      }
    }
  }

  /** The annotations [batch, length, memory width], projected once where the score projects them. */
  async remember(annotations: Tensor, options: { readonly lengths?: Integers | undefined } = {}): Promise<Memory> {
    return rememberAnnotations(this.#parameters.runtime, this.#kernel, annotations, this.#tables, options.lengths);
  }

  /** State [batch, steps, state width] → context and attentional state, where the state lives. */
  async attend(state: Tensor, memory: Memory): Promise<LuongAttended> {
    const { runtime } = this.#parameters;
    return withTemporaries(runtime, async (temporaries) => {
      const { operations } = runtime;
      const here = bringHere(temporaries, state);
      const [batch = 0, steps = 0, width = 0] = here.shape;
      const query = runtime.view(here, [batch, 1, steps, width]);
      const place = await this.#place(temporaries, here, memory);
      const { output, logSumExp, observed } = this.#kernel.enqueue({ ...memory.read(), ...place, keysTransformed: true, query, tables: { ...this.#tables, ...place.tables } });
      temporaries.keep(output);
      if (logSumExp !== undefined) temporaries.keep(logSumExp);
      const memoryDim = output.shape[3] ?? 0;
      const joined = temporaries.keep(runtime.tensor([batch, steps, memoryDim + width], 'f32'));
      const strides = [steps * (memoryDim + width), memoryDim + width, 1];
      const context = runtime.view(output, [batch, steps, memoryDim]);
      operations.copy(context, { into: runtime.view(joined, [batch, steps, memoryDim], strides) });
      operations.copy(here, { into: runtime.view(joined, [batch, steps, width], strides, batch * steps === 0 ? 0 : memoryDim) });
      const attentional = operations.elementwise(hyperbolic, { x: temporaries.keep(linear(temporaries, joined, { weight: this.#output })) });
      const isHere = state.runtime === runtime;
      const weights = observed?.weights === undefined ? undefined : runtime.view(temporaries.keep(observed.weights), [batch, steps, observed.weights.shape[3] ?? 0]);
      const settle = async (made: Tensor): Promise<Tensor> => (isHere ? operations.copy(made) : runtime.read(made));
      return {
        attentional: isHere ? attentional : await runtime.read(temporaries.keep(attentional)),
        context: await settle(context),
        ...(weights === undefined ? {} : { weights: await settle(weights) }),
      };
    });
  }

  /** Waits for the last use. */
  async dispose(): Promise<void> {
    await this.#kernel.dispose();
    this.#parameters.release();
  }

  /** Where each query stands: p_t for the bell, and the whole number next to it for the mask, which the host must know. */
  async #place(temporaries: Temporaries, state: Tensor, { key, lengths }: Memory): Promise<Pick<AttentionInputs, 'queryPositions' | 'tables'>> {
    if (this.#local === null) return {};
    const { runtime } = temporaries;
    const { operations } = runtime;
    const [batch = 0, steps = 0] = state.shape;
    const hidden = temporaries.keep(operations.elementwise(hyperbolic, { x: temporaries.keep(linearRows(temporaries, state, { weight: this.#local.weight })) }));
    const score = temporaries.keep(linearRows(temporaries, hidden, { weight: runtime.view(this.#local.vector, [1, this.#local.vector.shape[0] ?? 0]) }));
    const shares = await runtime.read(temporaries.keep(operations.elementwise(logistic, { x: score })));
    const share = reader(shares.dtype, shares.view());
    const centers = Float32Array.from({ length: batch * steps }, (_, row) => share(row) * (lengths?.[Math.floor(row / Math.max(1, steps))] ?? key.shape[2] ?? 0));
    return { queryPositions: tensor(Int32Array.from(centers, (center) => Math.round(center)), [batch, steps]), tables: { centers: tensor(centers, [batch, 1, steps]) } };
  }
}
