import { additive, attention, type AttentionKernel, type Backend, type Integers, type Tensor } from '@heed/core';
import { checkWeights, Parameters } from '../parameters.ts';
import { withTemporaries } from '../temporaries.ts';
import { rememberAnnotations, type Memory } from './memory.ts';
import { bring, bringHere, onRuntime } from '../on-runtime.ts';

/** The alignment model: e_tj = vᵀ tanh(W s_(t−1) + U h_j + b). */
export interface BahdanauWeights {
  /** W [width, state width] */
  readonly query: Tensor;
  /** U [width, memory width] */
  readonly key: Tensor;
  /** v [width] */
  readonly vector: Tensor;
  /** b [width] */
  readonly bias?: Tensor | undefined;
}

export interface BahdanauOptions {
  readonly backend: Backend;
  readonly weights: BahdanauWeights;
  /** `attend` returns the weights too. Default false. */
  readonly observeWeights?: boolean;
}

/** What a state takes from the memory. */
export interface Attended {
  /** [batch, steps, memory width] */
  readonly context: Tensor;
  /** [batch, steps, memory length]; only where weights are observed. */
  readonly weights?: Tensor;
}

/** What steps a decoder's state: a recurrent unit, or any function of rows [batch, 1, inputs] and a state [batch, 1, width]. */
export interface RecurrentUnit {
  step(x: Tensor, state: Tensor): Promise<Tensor>;
}

/**
 * Attention of an encoder–decoder (Bahdanau 2014, section 3.1 and appendix A.1.2): the *previous* state is compared with every annotation of the encoder, and the context that comes
 * of it enters the step that makes the next state. `remember` computes U h_j once.
 *
 * @throws AttentionError `invalid-shape`, `unsupported`
 */
export async function createBahdanauAttention(options: BahdanauOptions): Promise<BahdanauAttention> {
  const { backend, weights, observeWeights = false } = options;
  const [width = 0, queryDim = 0] = weights.query.shape;
  const keyDim = weights.key.shape[1] ?? 0;
  checkWeights('the alignment model', { query: [weights.query, [width, 'state width']], key: [weights.key, [width, keyDim]], vector: [weights.vector, [width]], bias: [weights.bias, [width]] });
  const variant = attention({ scoring: additive({ width, bias: weights.bias !== undefined }) });
  const kernel = await backend.prepare({ variant, queryDim, keyDim, valueDim: keyDim, ...(observeWeights ? { observe: { stages: ['weights'] } } : {}) });
  return new BahdanauAttention(options, kernel);
}

/** See {@link createBahdanauAttention}. */
export class BahdanauAttention {
  readonly #kernel: AttentionKernel;
  readonly #parameters: Parameters;
  readonly #tables: Readonly<Record<string, Tensor>>;

  /** @internal use {@link createBahdanauAttention} */
  constructor({ backend, weights }: BahdanauOptions, kernel: AttentionKernel) {
    this.#kernel = kernel;
    this.#parameters = new Parameters(backend.runtime);
    const { query, key, vector, bias } = weights;
    this.#tables = this.#parameters.placeAll({ queryProjection: query, keyProjection: key, vector, queryProjectionBias: bias }) as Readonly<Record<string, Tensor>>;
  }

  /** The annotations [batch, length, memory width] with their projections, for all steps of a decoder. */
  async remember(annotations: Tensor, options: { readonly lengths?: Integers | undefined } = {}): Promise<Memory> {
    return rememberAnnotations(this.#parameters.runtime, this.#kernel, annotations, this.#tables, options.lengths);
  }

  /** State [batch, steps, state width] → context, where the state lives. Several steps are those of a decoder whose states are known. */
  async attend(state: Tensor, memory: Memory): Promise<Attended> {
    const { runtime } = this.#parameters;
    return withTemporaries(runtime, async (temporaries) => {
      const here = bringHere(temporaries, state);
      const [batch = 0, steps = 0, width = 0] = here.shape;
      const { output, logSumExp, observed } = this.#kernel.enqueue({ ...memory.read(), keysTransformed: true, tables: this.#tables, query: runtime.view(here, [batch, 1, steps, width]) });
      if (logSumExp !== undefined) temporaries.keep(logSumExp);
      const settle = async (made: Tensor): Promise<Tensor> => {
        const rows = runtime.view(temporaries.keep(made), [batch, steps, made.shape[3] ?? 0]);
        return state.runtime === runtime ? runtime.operations.copy(rows) : runtime.read(rows);
      };
      const weights = observed?.weights;
      return { context: await settle(output), ...(weights === undefined ? {} : { weights: await settle(weights) }) };
    });
  }

  /**
   * One step of a decoder: the state attends, and the unit steps on [input; context].
   *
   * @param input what the decoder reads besides, such as the last word's embedding: [batch, 1, inputs]
   * @param state s_(t−1) [batch, 1, state width]
   * @returns s_t, the context, and the weights where they are observed
   */
  async step(unit: RecurrentUnit, { input, state, memory }: { readonly input: Tensor; readonly state: Tensor; readonly memory: Memory }): Promise<Attended & { readonly state: Tensor }> {
    const attended = await this.attend(state, memory);
    const { runtime } = this.#parameters;
    const next = await onRuntime(runtime, state, async (temporaries, here) => {
      const [batch = 0] = here.shape;
      const parts = [bringHere(temporaries, input), bring(temporaries, attended.context)];
      const width = parts.reduce((sum, { shape }) => sum + (shape[2] ?? 0), 0);
      const joined = temporaries.keep(runtime.tensor([batch, 1, width], 'f32'));
      let start = 0;
      for (const part of parts) {
        const own = part.shape[2] ?? 0;
        runtime.operations.copy(part, { into: runtime.view(joined, [batch, 1, own], [width, width, 1], batch * own === 0 ? 0 : start) });
        start += own;
      }
      return unit.step(joined, here);
    });
    return { ...attended, state: next };
  }

  /** Waits for the last use. */
  async dispose(): Promise<void> {
    await this.#kernel.dispose();
    this.#parameters.release();
  }
}
