import { parametersOf } from '../../fast-weights/inner-model.ts';
import type { Activation, GradientRule, InnerModel } from '../../fast-weights/rule.ts';
import { addTo, dot, Matrix } from './matrix.ts';

/** Weights of an inner model by name; a bias is a matrix of one row. */
export type Weights = ReadonlyMap<string, Matrix>;

/** Layer norm of what the model returns. */
export interface Norm {
  readonly gain: Float64Array;
  readonly shift: Float64Array;
  readonly epsilon: number;
}

/** One row through the model: before and after its activation, and out. A linear model has no hidden row. */
interface Pass {
  readonly before: Float64Array;
  readonly hidden: Float64Array;
  readonly output: Float64Array;
}

/** f(x), then the norm if there is one. */
export function predict(model: InnerModel, weights: Weights, norm: Norm | null, x: Float64Array): Float64Array {
  const { output } = run(model, weights, x);
  if (norm === null) return output;
  return standardize(output, norm.epsilon).unit.map((element, channel) => (norm.gain[channel] ?? 1) * element + (norm.shift[channel] ?? 0));
}

/** Gradients, by every weight, of ½‖norm(f(key)) − target‖². */
export function lossGradients(rule: GradientRule, weights: Weights, norm: Norm | null, key: Float64Array, value: Float64Array): Weights {
  const { model } = rule;
  const pass = run(model, weights, key);
  const target = rule.target === 'value' ? value : value.map((element, channel) => element - (key[channel] ?? 0));
  const byOutput = norm === null ? pass.output.map((element, channel) => element - (target[channel] ?? 0)) : normGradient(pass.output, target, norm);
  const result = new Map<string, Matrix>();
  const layer = (suffix: string, input: Float64Array, outer: Float64Array): void => {
    const weight = new Matrix(input.length, outer.length);
    weight.addOuter(input, outer, 1);
    result.set(`weight${suffix}`, weight);
    if (model.bias) result.set(`bias${suffix}`, new Matrix(1, outer.length, outer.slice()));
  };
  if (model.layers === 1) layer('', key, byOutput);
  else {
    layer('2', pass.hidden, byOutput);
    const byHidden = get(weights, 'weight2').times(byOutput);
    const slope = slopes[model.activation ?? 'silu'];
    layer('1', key, byHidden.map((element, channel) => element * slope(pass.before[channel] ?? 0)));
  }
  return result;
}

/** u = (D·h − Σh − x̂ Σ(h ⊙ x̂)) / (D·std) with h = gain ⊙ (norm(z) − target): the gradient of ½‖norm(z) − target‖² by z. */
function normGradient(z: Float64Array, target: Float64Array, { gain, shift, epsilon }: Norm): Float64Array {
  const { unit, deviation } = standardize(z, epsilon);
  const h = unit.map((element, channel) => (gain[channel] ?? 1) * ((gain[channel] ?? 1) * element + (shift[channel] ?? 0) - (target[channel] ?? 0)));
  const sum = h.reduce((total, element) => total + element, 0);
  const along = dot(h, unit);
  return h.map((element, channel) => (z.length * element - sum - (unit[channel] ?? 0) * along) / (z.length * deviation));
}

function standardize(z: Float64Array, epsilon: number): { readonly unit: Float64Array; readonly deviation: number } {
  const mean = z.reduce((sum, element) => sum + element, 0) / z.length;
  const variance = z.reduce((sum, element) => sum + (element - mean) ** 2, 0) / z.length;
  const deviation = Math.sqrt(variance + epsilon);
  return { unit: z.map((element) => (element - mean) / deviation), deviation };
}

function run(model: InnerModel, weights: Weights, x: Float64Array): Pass {
  if (model.layers === 1) return { before: new Float64Array(0), hidden: new Float64Array(0), output: affine(weights, '', x) };
  const before = affine(weights, '1', x);
  const hidden = before.map(activations[model.activation ?? 'silu']);
  return { before, hidden, output: affine(weights, '2', hidden) };
}

function affine(weights: Weights, suffix: string, x: Float64Array): Float64Array {
  const result = get(weights, `weight${suffix}`).transposeTimes(x);
  const bias = weights.get(`bias${suffix}`);
  if (bias !== undefined) addTo(result, bias.data, 1);
  return result;
}

function get(weights: Weights, name: string): Matrix {
  return weights.get(name) ?? new Matrix(0, 0);
}

/** A copy of every weight. */
export function copyWeights(model: InnerModel, weights: Weights): Weights {
  return new Map(parametersOf(model).map(({ name }) => [name, get(weights, name).copy()]));
}

const geluScale = Math.sqrt(2 / Math.PI);
const geluInner = (x: number): number => Math.tanh(geluScale * (x + 0.044715 * x ** 3));
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

const activations: Readonly<Record<Activation, (x: number) => number>> = {
  geluTanh: (x) => 0.5 * x * (1 + geluInner(x)),
  silu: (x) => x * sigmoid(x),
};

const slopes: Readonly<Record<Activation, (x: number) => number>> = {
  geluTanh: (x) => 0.5 * (1 + geluInner(x)) + 0.5 * x * (1 - geluInner(x) ** 2) * geluScale * (1 + 3 * 0.044715 * x ** 2),
  silu: (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x))),
};
