import { hiddenDimOf } from '../../fast-weights/state.ts';
import { parametersOf } from '../../fast-weights/inner-model.ts';
import type { GradientRule, InnerOptimizer } from '../../fast-weights/rule.ts';
import type { Steps } from '../attention/slices.ts';
import type { Norm, Weights } from './inner-model.ts';
import { copyWeights, lossGradients, predict } from './inner-model.ts';
import { Matrix } from './matrix.ts';
import type { Lane, Operands, States } from './operands.ts';
import { laneState, lanes, scalarOf } from './operands.ts';
import { outputRow } from './recurrent.ts';
import { Rows } from './rows.ts';

/** Output [batch, valueHeads, length, valueDim]; the states become the final ones. Yields after each token. */
export function* computeGradientRule(operands: Operands, rule: GradientRule, states: States): Steps<Rows> {
  const { call } = operands;
  const output = new Rows(call.outputShape);
  const filledBefore = call.sequences.map(({ index }) => states['filled']?.[index] ?? 0);
  for (const lane of lanes(call)) {
    const { sequence, valueHead, head } = lane;
    const norm = normOf(operands, rule, valueHead);
    const optimizer = rule.optimizer.kind === 'accumulate' ? new Accumulate(operands, rule, rule.optimizer, states, lane) : new Momentum(operands, rule, states, lane);
    for (let index = 0; index < sequence.length; index++) {
      const at = (rows: Rows | undefined, rowHead: number): Float64Array => rows?.row(sequence.tensorBatch, rowHead, sequence.start + index) ?? new Float64Array(0);
      const inBatch = ((filledBefore[sequence.index] ?? 0) + index) % rule.miniBatch;
      const query = at(operands.query, head);
      const gradients = lossGradients(rule, optimizer.start, norm, at(operands.key, head), at(operands.value, valueHead));
      const weights = optimizer.step(gradients, inBatch, {
        writeStrength: at(operands.inputs.writeStrength, valueHead)[0] ?? Number.NaN,
        momentum: at(operands.inputs.momentum, valueHead)[0] ?? Number.NaN,
        logDecay: at(operands.inputs.logDecay, valueHead)[0] ?? Number.NaN,
      });
      const read = predict(rule.model, weights, norm, query);
      outputRow(output, lane, index).set(rule.residual ? read.map((element, channel) => element + (query[channel] ?? 0)) : read);
      if (inBatch === rule.miniBatch - 1) optimizer.endBatch(weights);
      yield;
    }
  }
  for (const { index, length } of call.sequences) states['filled']?.fill(((filledBefore[index] ?? 0) + length) % rule.miniBatch, index, index + 1);
  return output;
}

function normOf(operands: Operands, rule: GradientRule, valueHead: number): Norm | null {
  if (rule.norm === null) return null;
  const { call, tables } = operands;
  const row = (name: string): Float64Array => Float64Array.from({ length: call.request.valueDim }, (_, channel) => tables.get(name)?.at([valueHead, channel]) ?? Number.NaN);
  return { gain: row('normGain'), shift: row('normShift'), epsilon: scalarOf(operands, rule.norm.epsilon) };
}

/** What one token brings to the optimizer. */
interface Rates {
  readonly writeStrength: number;
  readonly momentum: number;
  readonly logDecay: number;
}

interface Optimizer {
  /** The weights at which gradients are taken: those at the start of the mini-batch. */
  readonly start: Weights;
  /** The weights after the token at place `inBatch` (from 0) of its mini-batch. */
  step(gradients: Weights, inBatch: number, rates: Rates): Weights;
  /** After the last token of a mini-batch. */
  endBatch(weights: Weights): void;
}

/** Wᵢ = W − rate/width · max(1/i + tokenRateᵢ, 0) · Σ writeStrengthⱼ ∇ⱼ. */
class Accumulate implements Optimizer {
  readonly start: Weights;
  readonly #sums: Weights;
  readonly #operands: Operands;
  readonly #rule: GradientRule;
  readonly #optimizer: Extract<InnerOptimizer, { readonly kind: 'accumulate' }>;

  constructor(operands: Operands, rule: GradientRule, optimizer: Extract<InnerOptimizer, { readonly kind: 'accumulate' }>, states: States, lane: Lane) {
    this.start = weightsOf(operands, rule, states, lane, '');
    this.#sums = rule.miniBatch > 1 ? weightsOf(operands, rule, states, lane, 'Gradient') : zeroed(copyWeights(rule.model, this.start));
    this.#operands = operands;
    this.#rule = rule;
    this.#optimizer = optimizer;
  }

  step(gradients: Weights, inBatch: number, { writeStrength }: Rates): Weights {
    const { call, tables } = this.#operands;
    const { rate, tokenRate } = this.#optimizer;
    const added = tokenRate === null ? 0 : (tables.get(tokenRate)?.at([inBatch]) ?? Number.NaN);
    const factor = (scalarOf(this.#operands, rate) / call.width) * Math.max(1 / (inBatch + 1) + added, 0);
    const weights = copyWeights(this.#rule.model, this.start);
    for (const [name, sum] of this.#sums) {
      const gradient = gradients.get(name);
      if (gradient !== undefined) sum.add(gradient, writeStrength);
      weights.get(name)?.add(sum, -factor);
    }
    return weights;
  }

  endBatch(weights: Weights): void {
    assign(this.start, weights);
    zeroed(this.#sums);
  }
}

/** S ← momentum · S − writeStrength · ∇;  W ← exp(logDecay) · W + S. */
class Momentum implements Optimizer {
  readonly start: Weights;
  readonly #weights: Weights;
  readonly #momentum: Weights;
  readonly #rule: GradientRule;

  constructor(operands: Operands, rule: GradientRule, states: States, lane: Lane) {
    this.#weights = weightsOf(operands, rule, states, lane, '');
    this.#momentum = weightsOf(operands, rule, states, lane, 'Momentum');
    this.start = rule.miniBatch > 1 ? weightsOf(operands, rule, states, lane, 'Start') : this.#weights;
    this.#rule = rule;
  }

  step(gradients: Weights, _inBatch: number, { writeStrength, momentum, logDecay }: Rates): Weights {
    for (const { name } of parametersOf(this.#rule.model)) {
      const gradient = gradients.get(name);
      const step = this.#momentum.get(name);
      const weight = this.#weights.get(name);
      if (gradient === undefined || step === undefined || weight === undefined) continue;
      step.scale(momentum);
      step.add(gradient, -writeStrength);
      weight.scale(Math.exp(logDecay));
      weight.add(step, 1);
    }
    return this.#weights;
  }

  endBatch(weights: Weights): void {
    assign(this.start, weights);
  }
}

/** The weights of one lane, `suffix` saying which of the tensors beside them: views of the state. */
function weightsOf({ call }: Operands, rule: GradientRule, states: States, { sequence, valueHead }: Lane, suffix: string): Weights {
  const extents = { scoreDim: call.width, hiddenDim: hiddenDimOf(call.request), valueDim: call.request.valueDim };
  return new Map(parametersOf(rule.model).map(({ name, axes }) => {
    const sizes = axes.map((axis) => extents[axis]);
    const [rows, columns] = sizes.length === 2 ? sizes : [1, ...sizes];
    return [name, new Matrix(rows ?? 1, columns ?? 1, laneState(call, states, name + suffix, sequence.index, valueHead))];
  }));
}

function assign(target: Weights, source: Weights): void {
  for (const [name, matrix] of target) {
    const from = source.get(name);
    if (from !== undefined) matrix.set(from);
  }
}

function zeroed(weights: Weights): Weights {
  for (const matrix of weights.values()) matrix.data.fill(0);
  return weights;
}
