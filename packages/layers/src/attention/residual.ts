import type { Tensor } from '@heed/core';
import { overElements } from '../expressions.ts';
import { linear } from '../linear.ts';
import type { Temporaries } from '../temporaries.ts';

/** Gain and shift of a layer norm, [dim] each. */
export interface LayerNormWeights {
  readonly gain: Tensor;
  readonly shift: Tensor;
}

/** A row-wise network of one hidden layer. */
export interface FeedForwardWeights {
  /** [hidden, dim] */
  readonly input: Tensor;
  readonly inputBias?: Tensor | undefined;
  /** [dim, hidden] */
  readonly output: Tensor;
  readonly outputBias?: Tensor | undefined;
  /** [hidden, dim]: activation(gate · x) multiplies input · x (Shazeer 2020, "SwiGLU" and its kin). */
  readonly gate?: Tensor | undefined;
}

/** relu, gelu (by tanh: Hendrycks 2016, section 2), or silu = x σ(x). */
export type Activation = 'relu' | 'gelu' | 'silu';

const sum = overElements(['a', 'b'], ({ a, b }) => a.add(b));

const activations = {
  relu: overElements(['x'], ({ x }) => x.max(0)),
  gelu: overElements(['x'], ({ x }) => x.mul(0.5).mul(x.add(x.mul(x).mul(x).mul(0.044715)).mul(Math.sqrt(2 / Math.PI)).tanh().add(1))),
  silu: overElements(['x'], ({ x }) => x.mul(x.sigmoid())),
} as const;

const gated = {
  relu: overElements(['x', 'gate'], ({ x, gate }) => gate.max(0).mul(x)),
  gelu: overElements(['x', 'gate'], ({ x, gate }) => gate.mul(0.5).mul(gate.add(gate.mul(gate).mul(gate).mul(0.044715)).mul(Math.sqrt(2 / Math.PI)).tanh().add(1)).mul(x)),
  silu: overElements(['x', 'gate'], ({ x, gate }) => gate.mul(gate.sigmoid()).mul(x)),
} as const;

/** a + b; a new tensor. */
export function add({ runtime }: Temporaries, a: Tensor, b: Tensor): Tensor {
  return runtime.operations.elementwise(sum, { a, b });
}

/** A new tensor [… , dim]. */
export function layerNorm({ runtime }: Temporaries, x: Tensor, { gain, shift }: LayerNormWeights, epsilon: number): Tensor {
  return runtime.operations.rowNorm(x, { norm: 'layer', epsilon, gain, shift });
}

/** output · activation(input · x), or output · (activation(gate · x) ⊙ (input · x)); a new tensor. */
export function feedForward(temporaries: Temporaries, x: Tensor, { input, inputBias, output, outputBias, gate }: FeedForwardWeights, activation: Activation): Tensor {
  const { operations } = temporaries.runtime;
  const wide = temporaries.keep(linear(temporaries, x, { weight: input, bias: inputBias }));
  const hidden =
    gate === undefined
      ? operations.elementwise(activations[activation], { x: wide })
      : operations.elementwise(gated[activation], { x: wide, gate: temporaries.keep(linear(temporaries, x, { weight: gate })) });
  return linear(temporaries, temporaries.keep(hidden), { weight: output, bias: outputBias });
}
