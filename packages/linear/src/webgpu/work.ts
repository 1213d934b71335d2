import type { Declarations, FastWeightState, Tensor } from '@heed/core';
import type { BoundCall, BoundFastWeights, BoundTable } from '@heed/core/compute';
import { HostValues } from '@heed/core/compute';
import { keysOfRows } from '../pairs.ts';
import type { LinearReading } from '../recognise.ts';
import { inputPlace, rowPlaces, type InputPlace, type RowPlace } from '../gpu/places.ts';
import { inputsOfPlan, type GpuPlan, type RuleInput } from './gpu-plan.ts';

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
  /** Some rows of the output are read by no lane: padding, which is 0. */
  readonly hasEmptyRows: boolean;
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
    heads, keyHeads: heads, queryRows: rows, keyRows: rows, lanes, hasEmptyRows: false, outputShape: call.outputShape, stateShapes: call.stateShapes, before: inputs.state,
  };
}

/** A call of a pairwise variant that was recognised as linear: rows read what the keys that they see have written. */
export function pairWork(call: BoundCall, reading: LinearReading): Work {
  const { inputs, heads, keyHeads, sequences, request, queryRows, keyRows } = call;
  const values = new HostValues(call);
  const places = (side: 'query' | 'key'): readonly RowPlace[] =>
    sequences.flatMap(({ tensorBatch, batch, queryStart, queryLength, queryOffset, keyStart, keyLength, keyOffset }) => {
      const [start, length, offset] = side === 'query' ? [queryStart, queryLength, queryOffset] : [keyStart, keyLength, keyOffset];
      return Array.from({ length }, (_, index): RowPlace => ({ tensorBatch, row: start + index, batch, index, position: offset + index }));
    });
  const lanes = sequences.flatMap((sequence) => {
    const { tensorBatch, queryStart, queryLength, keyStart } = sequence;
    const { keyLength, shift } = keysOfRows(sequence, reading, values);
    return Array.from({ length: heads }, (_, head): LaneWork => {
      const keyRow = (tensorBatch * keyHeads + Math.floor((head * keyHeads) / heads)) * keyRows + keyStart;
      const queryRow = (tensorBatch * heads + head) * queryRows + queryStart;
      // A row that sees all keys may as well come right behind the last; one that sees none, before the first.
      return { queryRow, outputRow: queryRow, keyRow, valueRow: keyRow, queryCount: queryLength, keyCount: keyLength, shift: reading.causal ? Math.max(-queryLength, Math.min(shift, keyLength)) : keyLength, inputs: {} };
    });
  });
  return {
    query: inputs.query, key: inputs.key, value: inputs.value, inputs: {}, declarations: request.variant, tables: call.tables, uniforms: call.uniforms, heads, keyHeads,
    queryRows: places('query'), keyRows: places('key'), lanes, hasEmptyRows: sequences.some(({ queryLength, queryRows: rows }) => queryLength < rows), outputShape: call.outputShape, stateShapes: {}, before: undefined,
  };
}
