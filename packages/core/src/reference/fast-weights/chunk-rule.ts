import type { ChunkRule } from '../../fast-weights/rule.ts';
import type { HostTable } from '../../place.ts';
import type { Steps } from '../attention/slices.ts';
import { Matrix } from './matrix.ts';
import type { Lane, Operands, States } from './operands.ts';
import { laneState, lanes, scalarOf } from './operands.ts';
import { outputRow } from './recurrent.ts';
import { Rows } from './rows.ts';

/** A token that waits for its chunk to fill. */
interface Waiting {
  readonly key: Float64Array;
  readonly value: Float64Array;
}

/** Output [batch, valueHeads, length, valueDim]; the states become the final ones. Yields after each token. */
export function* computeChunkRule(operands: Operands, rule: ChunkRule, states: States): Steps<Rows> {
  const { call } = operands;
  const output = new Rows(call.outputShape);
  const filledBefore = call.sequences.map(({ index }) => states['filled']?.[index] ?? 0);
  const before: States = { keys: states['keys']?.slice() ?? new Float64Array(0), values: states['values']?.slice() ?? new Float64Array(0) };
  for (const lane of lanes(call)) {
    const { sequence, valueHead, head } = lane;
    const memory = new Matrix(call.width, call.request.valueDim, laneState(call, states, 'weight', sequence.index, valueHead));
    let waiting = waitingBefore(operands, rule, before, lane, filledBefore[sequence.index] ?? 0);
    for (let index = 0; index < sequence.length; index++) {
      const at = (rows: Rows, rowHead: number): Float64Array => rows.row(sequence.tensorBatch, rowHead, sequence.start + index);
      outputRow(output, lane, index).set(memory.transposeTimes(at(operands.query, head)));
      waiting.push({ key: at(operands.key, head), value: at(operands.value, valueHead) });
      if (waiting.length === rule.chunk) {
        writeChunk(operands, rule, memory, waiting, valueHead);
        waiting = [];
      }
      yield;
    }
    keepWaiting(operands, rule, states, lane, waiting);
    states['filled']?.fill(waiting.length, sequence.index, sequence.index + 1);
  }
  return output;
}

/** G ← G + rate · Σ key (x̂ P)ᵀ over the chunk. */
function writeChunk(operands: Operands, rule: ChunkRule, memory: Matrix, chunk: readonly Waiting[], valueHead: number): void {
  const { tables } = operands;
  const rate = scalarOf(operands, rule.rate);
  const targets = project(tables.get('projection'), convolve(tables.get('convolution'), rule.taps, chunk.map(({ value }) => value)), valueHead);
  chunk.forEach(({ key }, index) => {
    memory.addOuter(key, targets[index] ?? new Float64Array(0), rate);
  });
}

/** x̂_t[c] = Σ_n convolution[c, n] · x_{t + n − (taps − 1)/2}[c], zeros outside the chunk. */
function convolve(table: HostTable | undefined, taps: number | null, rows: readonly Float64Array[]): readonly Float64Array[] {
  if (table === undefined || taps === null) return rows;
  const centre = (taps - 1) / 2;
  return rows.map((row, index) => row.map((_, channel) => {
    let sum = 0;
    for (let tap = 0; tap < taps; tap++) sum += table.at([channel, tap]) * (rows[index + tap - centre]?.[channel] ?? 0);
    return sum;
  }));
}

/** x̂ P, rows times the matrix. */
function project(table: HostTable | undefined, rows: readonly Float64Array[], valueHead: number): readonly Float64Array[] {
  if (table === undefined) return rows;
  return rows.map((row) => row.map((_, to) => row.reduce((sum, element, from) => sum + element * table.at([valueHead, from, to]), 0)));
}

function waitingBefore({ call }: Operands, rule: ChunkRule, states: States, { sequence, valueHead, head }: Lane, filled: number): Waiting[] {
  const keys = new Matrix(rule.chunk, call.width, laneState(call, states, 'keys', sequence.index, head));
  const values = new Matrix(rule.chunk, call.request.valueDim, laneState(call, states, 'values', sequence.index, valueHead));
  return Array.from({ length: filled }, (_, index) => ({ key: keys.row(index), value: values.row(index) }));
}

function keepWaiting({ call }: Operands, rule: ChunkRule, states: States, { sequence, valueHead, head }: Lane, waiting: readonly Waiting[]): void {
  const keys = new Matrix(rule.chunk, call.width, laneState(call, states, 'keys', sequence.index, head));
  const values = new Matrix(rule.chunk, call.request.valueDim, laneState(call, states, 'values', sequence.index, valueHead));
  keys.data.fill(0);
  values.data.fill(0);
  waiting.forEach(({ key, value }, index) => {
    keys.row(index).set(key);
    values.row(index).set(value);
  });
}
