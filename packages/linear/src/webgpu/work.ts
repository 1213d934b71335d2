import type { Declarations, FastWeightState, Tensor } from '@heed/core';
import { contiguousStrides } from '@heed/core';
import type { BoundFastWeights, BoundTable } from '@heed/core/compute';
import { inputsOfPlan, type GpuPlan, type RuleInput } from './gpu-plan.ts';

/** A row of queries or keys: where it stands in its tensor, and what transforms read of it. */
export interface RowPlace {
  readonly tensorBatch: number;
  readonly row: number;
  readonly batch: number;
  readonly index: number;
  readonly position: number;
}

/** Where an input of the rule is read at a step: its number of step 0, counted in the tensor, and what a step adds. */
export interface InputPlace {
  readonly at: number;
  readonly step: number;
}

/** One head of one sequence, with a G of its own. Rows count over batch, heads and rows of their tensors. */
export interface LaneWork {
  readonly queryRow: number;
  readonly keyRow: number;
  readonly valueRow: number;
  readonly outputRow: number;
  readonly queryCount: number;
  readonly keyCount: number;
  /** Query i is read after key i + shift was written. */
  readonly shift: number;
  readonly inputs: Readonly<Partial<Record<RuleInput, InputPlace>>>;
}

/** What a call of either kind asks of the kernels. */
export interface Work {
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
  readonly inputs: Readonly<Partial<Record<RuleInput, Tensor>>>;
  readonly declarations: Declarations;
  readonly tables: Readonly<Record<string, BoundTable>>;
  readonly uniforms: Readonly<Record<string, number>>;
  readonly heads: number;
  readonly keyHeads: number;
  readonly queryRows: readonly RowPlace[];
  readonly keyRows: readonly RowPlace[];
  readonly lanes: readonly LaneWork[];
  readonly outputShape: readonly number[];
  /** Shapes of the state by name; what a call begins with. */
  readonly stateShapes: Readonly<Record<string, readonly number[]>>;
  readonly before: FastWeightState | undefined;
}

/** A call of a rule: every token of a sequence writes, then reads. */
export function fastWork(plan: GpuPlan, call: BoundFastWeights): Work {
  const { inputs, heads, valueHeads, length, sequences, request } = call;
  const rows = rowPlaces(call, plan.positionPeriod);
  const names = inputsOfPlan(plan);
  const lanes = sequences.flatMap(({ tensorBatch, start, length: count }) =>
    Array.from({ length: valueHeads }, (_, valueHead): LaneWork => {
      const head = Math.floor((valueHead * heads) / valueHeads);
      const row = (headCount: number, at: number): number => (tensorBatch * headCount + at) * length + start;
      return {
        queryRow: row(heads, head), keyRow: row(heads, head), valueRow: row(valueHeads, valueHead), outputRow: row(valueHeads, valueHead),
        queryCount: count, keyCount: count, shift: 0,
        inputs: Object.fromEntries(names.map((name) => [name, inputPlace(inputs[name], tensorBatch, valueHead, start)])),
      };
    }),
  );
  return {
    query: inputs.query, key: inputs.key, value: inputs.value, inputs: Object.fromEntries(names.map((name) => [name, inputs[name]])),
    declarations: { tables: request.variant.tables, uniforms: request.variant.uniforms }, tables: call.tables, uniforms: call.uniforms,
    heads, keyHeads: heads, queryRows: rows, keyRows: rows, lanes, outputShape: call.outputShape, stateShapes: call.stateShapes, before: inputs.state,
  };
}

/** Rows of queries, and of keys, of every sequence; positions are taken modulo the period. */
export function rowPlaces({ sequences }: BoundFastWeights, period: number | null): readonly RowPlace[] {
  return sequences.flatMap(({ index: batch, tensorBatch, start, length, offset }) =>
    Array.from({ length }, (_, index): RowPlace => {
      const position = offset + index;
      return { tensorBatch, row: start + index, batch, index, position: period === null ? position : position - period * Math.floor(position / period) };
    }),
  );
}

/** In the dense tensor; axes of size 1 repeat. */
export function inputPlace(tensor: Tensor | undefined, batch: number, head: number, row: number): InputPlace {
  if (tensor === undefined) return { at: 0, step: 0 };
  const steps = contiguousStrides(tensor.shape).map((stride, axis) => (tensor.shape[axis] === 1 ? 0 : stride));
  const [batchStep = 0, headStep = 0, rowStep = 0] = steps;
  return { at: batch * batchStep + head * headStep + row * rowStep, step: rowStep };
}
