import type { Runtime, Tensor } from '@heed/core';
import { bring, onRuntime } from './on-runtime.ts';
import { overElements } from './expressions.ts';
import { linearRows } from './linear.ts';
import { checkWeights, Parameters } from './parameters.ts';

/** Rows of the weights: update gate, reset gate, candidate, one after another. */
export interface GatedRecurrentUnitWeights {
  /** [3 · width, inputs] */
  readonly input: Tensor;
  /** [3 · width, width] */
  readonly state: Tensor;
  /** [3 · width] */
  readonly bias?: Tensor | undefined;
}

const gate = overElements(['a', 'b'], ({ a, b }) => a.add(b).sigmoid());
const product = overElements(['a', 'b'], ({ a, b }) => a.mul(b));
const next = overElements(['update', 'state', 'a', 'b'], ({ update, state, a, b }) => state.add(update.mul(a.add(b).tanh().sub(state))));

/**
 * One step of the gated hidden unit (Cho 2014; Bahdanau 2014, appendix A.1.1), which resets the state before its product:
 *
 *     z = σ(W_z x + U_z s),  r = σ(W_r x + U_r s),  s' = (1 − z) s + z tanh(W x + U (r s) + b)
 *
 * @throws AttentionError `invalid-shape`
 */
export function createGatedRecurrentUnit(runtime: Runtime, weights: GatedRecurrentUnitWeights): GatedRecurrentUnit {
  const width = weights.state.shape[1] ?? 0;
  checkWeights('the recurrent unit', { input: [weights.input, [3 * width, 'inputs']], state: [weights.state, [3 * width, width]], bias: [weights.bias, [3 * width]] });
  return new GatedRecurrentUnit(runtime, weights, width);
}

/** See {@link createGatedRecurrentUnit}. */
export class GatedRecurrentUnit {
  readonly width: number;
  readonly #parameters: Parameters;
  readonly #weights: GatedRecurrentUnitWeights;
  /** [2 · width, width] of the gates, and [width, width] of the candidate. */
  readonly #gates: Tensor;
  readonly #candidate: Tensor;

  /** @internal use {@link createGatedRecurrentUnit} */
  constructor(runtime: Runtime, weights: GatedRecurrentUnitWeights, width: number) {
    this.width = width;
    this.#parameters = new Parameters(runtime);
    this.#weights = this.#parameters.placeAll(weights);
    const { state } = this.#weights;
    this.#gates = runtime.view(state, [2 * width, width], state.strides);
    this.#candidate = runtime.view(state, [width, width], state.strides, 2 * width * (state.strides[0] ?? 0));
  }

  /** x [batch, 1, inputs] and state [batch, 1, width] → the next state [batch, 1, width], where x lives. */
  async step(x: Tensor, state: Tensor): Promise<Tensor> {
    const { width } = this;
    return onRuntime(this.#parameters.runtime, x, async (temporaries, here) => {
      const { runtime } = temporaries;
      const { operations } = runtime;
      const before = bring(temporaries, state);
      const [batch = 0] = before.shape;
      const fromInput = temporaries.keep(linearRows(temporaries, here, { weight: this.#weights.input, bias: this.#weights.bias }));
      const fromState = temporaries.keep(linearRows(temporaries, before, { weight: this.#gates }));
      const part = (rows: Tensor, of: number, from: number, count: number): Tensor => runtime.view(rows, [batch, count * width], [of * width, 1], batch === 0 ? 0 : from * width);
      const gates = temporaries.keep(operations.elementwise(gate, { a: part(fromInput, 3, 0, 2), b: fromState }));
      const flat = runtime.view(before, [batch, width]);
      const reset = temporaries.keep(operations.elementwise(product, { a: part(gates, 2, 1, 1), b: flat }));
      const candidate = temporaries.keep(linearRows(temporaries, reset, { weight: this.#candidate }));
      const made = temporaries.keep(operations.elementwise(next, { update: part(gates, 2, 0, 1), state: flat, a: part(fromInput, 3, 2, 1), b: candidate }));
      return operations.copy(runtime.view(made, [batch, 1, width]));
    });
  }

  dispose(): void {
    this.#parameters.release();
  }
}
