import type { FastWeightGradientName, FastWeightState, Gradients } from '../../backend.ts';
import { AttentionError } from '../../errors.ts';
import type { FastWeightInputName, RecurrentRule } from '../../fast-weights/rule.ts';
import { onHost } from '../../place.ts';
import type { RowTransform } from '../../stages/transforms/transform.ts';
import type { HostTensor, Tensor } from '../../tensor.ts';
import { elementCount, toFloat64 } from '../../tensor.ts';
import { denseTensor } from '../../dense-tensor.ts';
import type { Steps } from '../attention/slices.ts';
import { TableGradients } from '../attention/table-gradients.ts';
import { transformRowBackward } from '../attention/transforms-backward.ts';
import { transformRow } from '../attention/transforms.ts';
import { dot } from './matrix.ts';
import type { Operands, States } from './operands.ts';
import { initialStates, lanes, visitRows } from './operands.ts';
import type { Token } from './recurrent.ts';
import { advance, finishRead, memoryOf, normalizerOf, outputRow, readFactors, retreat, tokenAt } from './recurrent.ts';
import { Rows } from './rows.ts';

const one = Float64Array.of(1);

/** The adjoint of the recurrence, token by token from last to first; the memory before each token is computed again and kept. Yields after each token. */
export function* computeRecurrentGradients(
  operands: Operands,
  rule: RecurrentRule,
  outer: { readonly output: Tensor; readonly state?: FastWeightState },
  names: readonly FastWeightGradientName[],
): Steps<Gradients<HostTensor>> {
  const { call } = operands;
  const outputGradient = Rows.read('output', outer.output);
  const states = initialStates(operands);
  const stateGradients = finalStateGradients(operands, outer.state);
  const zerosLike = (rows: Rows): Rows => new Rows(rows.shape);
  const inputs: Partial<Record<FastWeightInputName, Rows>> = Object.fromEntries(Object.entries(operands.inputs).map(([name, rows]) => [name, zerosLike(rows)]));
  const sums: Operands = { ...operands, query: zerosLike(operands.query), key: zerosLike(operands.key), value: zerosLike(operands.value), inputs };

  for (const lane of lanes(call)) {
    const memory = memoryOf(operands, states, lane);
    const normalizer = normalizerOf(operands, states, lane);
    const trace = Array.from({ length: lane.sequence.length }, (_, index) => {
      const before = { memory: memory.copy(), normalizer: normalizer?.copy() ?? null };
      const token = tokenAt(operands, lane, index);
      const numerator = advance(rule.steps, memory, token);
      const denominator = normalizer === null ? null : advance(rule.steps, normalizer, { ...token, value: one });
      return { before, token, numerator, denominator };
    });
    const memoryGradient = memoryOf(operands, stateGradients, lane);
    const normalizerGradient = normalizerOf(operands, stateGradients, lane);
    for (const [index, { before, token, numerator, denominator }] of [...trace.entries()].reverse()) {
      const tokenSums = tokenAt(sums, lane, index);
      const { byNumerator, byDenominator } = readBackward(operands, numerator, denominator, outputRow(outputGradient, lane, index));
      retreat(rule.steps, before.memory, token, byNumerator, memoryGradient, tokenSums);
      if (before.normalizer !== null && normalizerGradient !== null) {
        // The value of the normalizer is the constant 1: its gradient goes nowhere.
        const onesSums: Token = { ...tokenSums, value: new Float64Array(1) };
        retreat(rule.steps, before.normalizer, { ...token, value: one }, byDenominator, normalizerGradient, onesSums);
      }
      yield;
    }
  }
  const { variant } = call.request;
  const rows: Readonly<Record<string, Rows | undefined>> = {
    ...inputs,
    query: transformsBackward(operands, variant.queryTransforms, call.inputs.query, sums.query),
    key: transformsBackward(operands, variant.keyTransforms, call.inputs.key, sums.key),
    value: sums.value,
  };
  return Object.fromEntries(names.map((name) => [name, gradientTensor(name, rows, operands, stateGradients)]));
}

/** Gradients of Gᵀq and zᵀq from that of what `finishRead` made of them. */
function readBackward(operands: Operands, numerator: Float64Array, denominator: Float64Array | null, outer: Float64Array): { readonly byNumerator: Float64Array; readonly byDenominator: Float64Array } {
  const { scale, epsilon } = readFactors(operands);
  const divisor = denominator === null ? 1 : scale * (denominator[0] ?? 0) + epsilon;
  const output = finishRead(operands, numerator, denominator);
  return { byNumerator: outer.map((element) => (scale * element) / divisor), byDenominator: Float64Array.of((-scale * dot(outer, output)) / divisor) };
}

function finalStateGradients({ call }: Operands, given: FastWeightState | undefined): States {
  return Object.fromEntries(Object.entries(call.stateShapes).map(([name, shape]) => {
    const gradient = given?.[name];
    if (gradient === undefined) return [name, new Float64Array(elementCount(shape))];
    if (gradient.shape.join() !== shape.join()) {
      throw new AttentionError('invalid-shape', `The gradient of state '${name}' has shape [${gradient.shape.join(', ')}].`, `Expected [${shape.join(', ')}].`);
    }
    return [name, toFloat64(onHost(name, gradient))];
  }));
}

/** Gradients of rows before their transforms. */
function transformsBackward({ call, tables }: Operands, transforms: readonly RowTransform[], source: Tensor, gradient: Rows): Rows {
  if (transforms.length === 0) return gradient;
  const rows = Rows.read('rows', source);
  const result = new Rows(rows.shape);
  const tableGradients = new TableGradients({ call, tables });
  visitRows(call, tables, (place, batch, head, index) => {
    const forward = transformRow(transforms, rows.row(batch, head, index), place);
    result.row(batch, head, index).set(transformRowBackward(transforms, forward, gradient.row(batch, head, index), place, tableGradients));
  });
  return result;
}

function gradientTensor(name: FastWeightGradientName, rows: Readonly<Record<string, Rows | undefined>>, { call }: Operands, stateGradients: States): HostTensor {
  if (!name.startsWith('state.')) return (rows[name] ?? new Rows([0])).toTensor('f64');
  const state = name.slice('state.'.length);
  return denseTensor(stateGradients[state] ?? new Float64Array(0), call.stateShapes[state] ?? [0], 'f64');
}
