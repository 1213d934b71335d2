import type { FastWeightStep, RecurrentRule } from '../../fast-weights/rule.ts';
import type { Steps } from '../attention/slices.ts';
import { addTo, dot, Matrix } from './matrix.ts';
import type { Lane, Operands, States } from './operands.ts';
import { laneState, lanes, scalarOf } from './operands.ts';
import { Rows } from './rows.ts';

/** What the steps of one token read; gradients of a token have the same form. Rows that the rule does not read are empty. */
export interface Token {
  readonly query: Float64Array;
  readonly key: Float64Array;
  readonly value: Float64Array;
  /** One number, or one for each channel of the key. */
  readonly logDecay: Float64Array;
  /** One number. */
  readonly writeStrength: Float64Array;
  readonly removalKey: Float64Array;
  readonly removalWeight: Float64Array;
}

const none = new Float64Array(0);
const one = Float64Array.of(1);

/** Output [batch, valueHeads, length, valueDim]; the states become the final ones. Yields after each token. */
export function* computeRecurrent(operands: Operands, rule: RecurrentRule, states: States): Steps<Rows> {
  const { call } = operands;
  const output = new Rows(call.outputShape);
  for (const lane of lanes(call)) {
    const memory = memoryOf(operands, states, lane);
    const normalizer = normalizerOf(operands, states, lane);
    for (let index = 0; index < lane.sequence.length; index++) {
      const token = tokenAt(operands, lane, index);
      const numerator = advance(rule.steps, memory, token);
      const denominator = normalizer === null ? null : advance(rule.steps, normalizer, { ...token, value: one });
      outputRow(output, lane, index).set(finishRead(operands, numerator, denominator));
      yield;
    }
  }
  return output;
}

/** scale · Gᵀq, or scale · Gᵀq / (scale · zᵀq + ε). */
export function finishRead(operands: Operands, numerator: Float64Array, denominator: Float64Array | null): Float64Array {
  const { scale, epsilon } = readFactors(operands);
  const divisor = denominator === null ? 1 : scale * (denominator[0] ?? 0) + epsilon;
  return numerator.map((element) => (scale * element) / divisor);
}

/** Values of the uniforms that a read takes. */
export function readFactors(operands: Operands): { readonly scale: number; readonly epsilon: number } {
  const { scale, rowSum } = operands.call.request.variant;
  return { scale: scale === null ? 1 : scalarOf(operands, scale), epsilon: rowSum === null ? 0 : scalarOf(operands, rowSum.epsilon) };
}

/** G of one lane: a view of the state. */
export function memoryOf({ call }: Operands, states: States, { sequence, valueHead }: Lane): Matrix {
  return new Matrix(call.width, call.request.valueDim, laneState(call, states, 'memory', sequence.index, valueHead));
}

/** z of one lane, a matrix of one column: what G would be for values of 1. */
export function normalizerOf({ call }: Operands, states: States, { sequence, valueHead }: Lane): Matrix | null {
  return call.request.variant.rowSum === null ? null : new Matrix(call.width, 1, laneState(call, states, 'normalizer', sequence.index, valueHead));
}

export function tokenAt({ query, key, value, inputs }: Operands, { sequence, valueHead, head }: Lane, index: number): Token {
  const at = (rows: Rows | undefined, rowHead: number): Float64Array => rows?.row(sequence.tensorBatch, rowHead, sequence.start + index) ?? none;
  return {
    query: at(query, head),
    key: at(key, head),
    value: at(value, valueHead),
    logDecay: at(inputs.logDecay, valueHead),
    writeStrength: at(inputs.writeStrength, valueHead),
    removalKey: at(inputs.removalKey, valueHead),
    removalWeight: at(inputs.removalWeight, valueHead),
  };
}

export function outputRow(output: Rows, { sequence, valueHead }: Lane, index: number): Float64Array {
  return output.row(sequence.tensorBatch, valueHead, sequence.start + index);
}

/** All steps of one token: changes the memory, returns Gᵀq where the rule reads. */
export function advance(steps: readonly FastWeightStep[], memory: Matrix, token: Token): Float64Array {
  let recalled: Float64Array = none;
  let output: Float64Array = none;
  for (const step of steps) {
    const result = apply(step, memory, token, recalled);
    if (step.step === 'recall') recalled = result;
    if (step.step === 'read') output = result;
  }
  return output;
}

/** One step. Returns what it read, if it reads. */
function apply(step: FastWeightStep, memory: Matrix, token: Token, recalled: Float64Array): Float64Array {
  switch (step.step) {
    case 'decay':
      memory.scaleRows((channel) => Math.exp(decayAt(token.logDecay, channel)));
      return none;
    case 'recall':
      return memory.transposeTimes(token[step.by]);
    case 'remove':
      memory.addOuter(token[step.along].map((element, channel) => strengthAt(step.strength, token, channel) * element), recalled, -1);
      return none;
    case 'write':
      memory.addOuter(token.key, token.value, strengthAt(step.strength, token, 0));
      return none;
    case 'read':
      return memory.transposeTimes(token.query);
  }
}

function decayAt(logDecay: Float64Array, channel: number): number {
  return logDecay[logDecay.length === 1 ? 0 : channel] ?? Number.NaN;
}

function strengthAt(strength: 'writeStrength' | 'removalWeight' | null, token: Token, channel: number): number {
  if (strength === null) return 1;
  return token[strength][strength === 'writeStrength' ? 0 : channel] ?? Number.NaN;
}

/**
 * The adjoint of one token: goes back through its steps from last to first.
 *
 * @param before    the memory before the token
 * @param outer     gradient of what `advance` returned
 * @param gradient  gradient of the memory after the token; becomes that of the memory before it
 * @param sums      receives the gradients of the token's rows, added
 */
export function retreat(steps: readonly FastWeightStep[], before: Matrix, token: Token, outer: Float64Array, gradient: Matrix, sums: Token): void {
  // The memory before each step, and what the recall read.
  const memory = before.copy();
  let recalled: Float64Array = none;
  const seen = steps.map((step) => {
    const here = memory.copy();
    const result = apply(step, memory, token, recalled);
    if (step.step === 'recall') recalled = result;
    return here;
  });
  let recalledGradient: Float64Array = new Float64Array(before.columns);
  for (let index = steps.length - 1; index >= 0; index--) {
    const step = steps[index];
    const here = seen[index];
    if (step === undefined || here === undefined) continue;
    switch (step.step) {
      case 'read':
        addTo(sums.query, here.times(outer), 1);
        gradient.addOuter(token.query, outer, 1);
        break;
      case 'write': {
        const strength = strengthAt(step.strength, token, 0);
        const byKey = gradient.times(token.value);
        addTo(sums.value, gradient.transposeTimes(token.key), strength);
        addTo(sums.key, byKey, strength);
        if (step.strength !== null) addTo(sums[step.strength], Float64Array.of(dot(token.key, byKey)), 1);
        break;
      }
      case 'remove': {
        const along = token[step.along];
        const strengths = along.map((_, channel) => strengthAt(step.strength, token, channel));
        const weighted = along.map((element, channel) => element * (strengths[channel] ?? 0));
        const byWeighted = gradient.times(recalled);
        addTo(recalledGradient, gradient.transposeTimes(weighted), -1);
        addTo(sums[step.along], byWeighted.map((element, channel) => element * (strengths[channel] ?? 0)), -1);
        const byStrength = byWeighted.map((element, channel) => element * (along[channel] ?? 0));
        if (step.strength === 'writeStrength') addTo(sums.writeStrength, Float64Array.of(byStrength.reduce((sum, element) => sum + element, 0)), -1);
        if (step.strength === 'removalWeight') addTo(sums.removalWeight, byStrength, -1);
        break;
      }
      case 'recall':
        addTo(sums[step.by], here.times(recalledGradient), 1);
        gradient.addOuter(token[step.by], recalledGradient, 1);
        recalledGradient = new Float64Array(before.columns);
        break;
      case 'decay': {
        gradient.scaleRows((channel) => Math.exp(decayAt(token.logDecay, channel)));
        const byChannel = Float64Array.from({ length: here.rows }, (_, channel) => dot(gradient.row(channel), here.row(channel)));
        addTo(sums.logDecay, sums.logDecay.length === 1 ? Float64Array.of(byChannel.reduce((sum, element) => sum + element, 0)) : byChannel, 1);
        break;
      }
    }
  }
}
