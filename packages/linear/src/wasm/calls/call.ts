import type { HostTensor, Tensor } from '@heed/core';
import { bytesPerElement, isHostTensor, tensor, toFloat64, transformedWidth } from '@heed/core';
import type { BoundTable } from '@heed/core/compute';
import { HostValues } from '@heed/core/compute';
import type { CallMemory, Phase, Placed, Program, WasmRuntime, WordRecord } from '@heed/runtime-wasm';
import { recordsOf, tableStrideWord, tableWord, turnWord, uniformWord, WordRecord as Words } from '@heed/runtime-wasm';
import { ruleInputs, type Layouts, type RuleInput } from '../plan/layouts.ts';
import type { WasmPlan } from '../plan/machine-plan.ts';
import { scratchOf } from '../plan/scratch.ts';

/** One sequence of a call, however the request said it. */
export interface LinearSequence {
  /** `batch` in expressions and tables, and the index of its state. */
  readonly index: number;
  /** Index on axis 0 of the tensors. */
  readonly tensorBatch: number;
  readonly queryStart: number;
  /** Rows that the output holds for it; those behind queryLength are padding. */
  readonly queryRows: number;
  readonly queryLength: number;
  readonly keyStart: number;
  readonly keyLength: number;
  /** Row i reads keys up to i + shift; rows before `emptyRows` read none. */
  readonly shift: number;
  readonly emptyRows: number;
  /** Keys that every row reads, taken in before the first. */
  readonly prefix: number;
  /** Positions of row 0, as row transforms read them. */
  readonly queryPosition: number;
  readonly keyPosition: number;
}

/** What the kernels of one call read, with every default resolved. */
export interface LinearCall {
  readonly sequences: readonly LinearSequence[];
  readonly heads: number;
  readonly keyHeads: number;
  /** Heads of the output, each with a state of its own. */
  readonly valueHeads: number;
  readonly uniforms: Readonly<Record<string, number>>;
  readonly tables: Readonly<Record<string, BoundTable>>;
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
  readonly inputs: Readonly<Partial<Record<RuleInput, Tensor>>>;
}

/** Addresses of G and z, where they begin and where they are kept. */
export interface StateAddresses {
  readonly memoryFrom: number;
  readonly memory: number;
  readonly normalizerFrom: number;
  readonly normalizer: number;
}

export interface Prepared {
  readonly phases: readonly Phase[];
  /** Guess of the time on one thread. */
  readonly microseconds: number;
}

/** Writes what the kernels of a call read, and says which functions run over how many tasks. */
export class CallWriter {
  readonly #plan: WasmPlan;
  readonly #layouts: Layouts;
  readonly #functions: Program['functions'];
  readonly #scratchBytes: number;

  constructor(plan: WasmPlan, layouts: Layouts, functions: Program['functions']) {
    this.#plan = plan;
    this.#layouts = layouts;
    this.#functions = functions;
    this.#scratchBytes = scratchOf(plan).bytes;
  }

  phases(call: LinearCall, memory: CallMemory, runtime: WasmRuntime, output: HostTensor, state: StateAddresses): Prepared {
    const { record, tasks } = this.record(call, memory, runtime, state, runtime.threads);
    strided(record, 'output', { address: output.view().byteOffset, strides: output.strides }, bytesPerElement[this.#plan.dtypes.output]);
    return this.#walk(call, record, tasks);
  }

  /** The call's record without what it writes, and how many tasks each phase has. @param threads that share the columns of few heads; 0: heads stay whole */
  record(call: LinearCall, memory: CallMemory, runtime: WasmRuntime, state: StateAddresses, threads: number): { readonly record: WordRecord; readonly tasks: number } {
    const record = new Words(this.#layouts.call);
    const values = new HostValues({ uniforms: call.uniforms, tables: call.tables, heads: call.heads, keyHeads: call.keyHeads, headOffset: 0 });
    this.#tensors(record, call, memory, runtime);
    this.#parameters(record, call, memory, values);
    for (const [name, address] of Object.entries({ 'memory.from': state.memoryFrom, memory: state.memory, 'normalizer.from': state.normalizerFrom, normalizer: state.normalizer })) record.set(name, address);
    record.set('sequences', memory.write(this.#sequences(call, memory, values)));
    const tasks = tasksOf(call, this.#plan, threads);
    record.set('tasks', memory.write(recordsOf(this.#layouts.task, tasks, (one, task) => {
      for (const [name, value] of Object.entries<number>({ ...task })) one.set(name, value);
    })));
    return { record, tasks: tasks.length };
  }

  /** Keys that all rows read first, then the rows: one phase for each segment, so that threads meet and a call can be stopped in between. */
  #walk({ sequences, valueHeads }: LinearCall, record: WordRecord, tasks: number): Prepared {
    const plan = this.#plan;
    const longest = (length: (sequence: LinearSequence) => number): number => sequences.reduce((most, sequence) => Math.max(most, length(sequence)), 0);
    const [rows, prefix] = [longest(({ queryRows }) => queryRows), longest((sequence) => sequence.prefix)];
    const isRecurrent = plan.reading === 'fastWeights' && (plan.chunk === null || rows <= plan.fewTokens);
    const phases: Phase[] = [];
    const add = (name: string, from: number, to: number): void => {
      record.set('first', from);
      record.set('end', to);
      record.set('isFirst', Number(phases.length === 0));
      const found = this.#functions[name];
      if (found === undefined) throw new RangeError(`the program has no function '${name}'`);
      phases.push({ function: found, tasks, scratchBytes: this.#scratchBytes, arguments: record.integers.slice() });
    };
    const segment = segmentOf(plan, Math.max(rows, prefix));
    for (let first = 0; first < prefix; first += segment) add('absorb', first, Math.min(first + segment, prefix));
    const name = isRecurrent ? 'recurrent' : 'chunked';
    // A sequence of no tokens hands its state on.
    for (let first = 0; first < rows || phases.length === 0; first += segment) add(name, first, Math.min(first + segment, rows));
    const tokens = sequences.reduce((sum, { queryRows, prefix: keys }) => sum + queryRows + keys, 0) * valueHeads;
    return { phases, microseconds: (tokens * (plan.recall === null ? 6 : 10) * plan.width * plan.valueDim) / 25_000 + tasks };
  }

  #tensors(record: WordRecord, call: LinearCall, memory: CallMemory, runtime: WasmRuntime): void {
    const { dtypes } = this.#plan;
    strided(record, 'query', memory.place(call.query), bytesPerElement[dtypes.query]);
    strided(record, 'key', memory.place(call.key), bytesPerElement[dtypes.key]);
    strided(record, 'value', memory.place(call.value), bytesPerElement[dtypes.value]);
    for (const name of ruleInputs) {
      const given = call.inputs[name];
      if (given === undefined) continue;
      const { address, strides } = memory.place(asFloat32(runtime, given));
      strided(record, name, { address, strides: strides.map((stride, axis) => (given.shape[axis] === 1 ? 0 : stride)) }, 4);
    }
  }

  #parameters(record: WordRecord, call: LinearCall, memory: CallMemory, values: HostValues): void {
    record.setFloat('scale', values.scalar(this.#plan.scale));
    if (this.#plan.epsilon !== null) record.setFloat('epsilon', values.scalar(this.#plan.epsilon));
    for (const [name, value] of Object.entries(call.uniforms)) record.setFloat(uniformWord(name), value);
    for (const [name, table] of Object.entries(call.tables)) {
      const { address, strides } = memory.placeTable(name, table);
      record.set(tableWord(name), address);
      strides.forEach((stride, axis) => {
        record.set(tableStrideWord(name, axis), stride);
      });
    }
  }

  #sequences({ sequences }: LinearCall, memory: CallMemory, values: HostValues): Int32Array {
    const plan = this.#plan;
    return recordsOf(this.#layouts.sequence, sequences, (record, sequence) => {
      const { index, queryRows, keyLength, queryPosition, keyPosition, ...words } = sequence;
      record.set('batch', index);
      record.set('queryRows', queryRows);
      record.set('keyLength', keyLength);
      record.set('queryPosition', queryPosition);
      record.set('keyPosition', keyPosition);
      for (const [name, value] of Object.entries(words)) record.set(name, value);
      for (const [side, transforms, dim, first, rows] of [['query', plan.queryTransforms, plan.queryDim, queryPosition, queryRows], ['key', plan.keyTransforms, plan.keyDim, keyPosition, keyLength]] as const) {
        let width = dim;
        transforms.forEach((transform, place) => {
          if (transform.kind === 'rope' || transform.kind === 'featureMap') {
            const made = values.turns(transform, width, positionsOf(first, rows, plan.positionPeriod));
            if (made !== null) record.set(turnWord(side, place), memory.write(made));
          }
          width = transformedWidth(transform, width);
        });
      }
    });
  }
}

/** Phases that a walk over the tokens has at most: a job has room for not many more. */
const mostPhases = 100;

/** Tokens of one phase: the plan's, or more where the sequence is so long that there would be too many; whole chunks. */
function segmentOf({ segment, chunk, rows }: WasmPlan, tokens: number): number {
  const whole = chunk ?? rows;
  return Math.max(segment, Math.ceil(tokens / mostPhases / whole) * whole);
}

interface Task {
  readonly sequence: number;
  readonly queryHead: number;
  readonly keyHead: number;
  readonly valueHead: number;
  readonly lane: number;
  readonly firstColumn: number;
  readonly columns: number;
}

/** Each value head of each sequence; where these are few, cut by columns, which changes no bit of any of them. */
function tasksOf({ sequences, heads, keyHeads, valueHeads }: LinearCall, { reading, valueDim, epsilon, tile }: WasmPlan, threads: number): readonly Task[] {
  const lanes = sequences.length * valueHeads;
  const cuts = epsilon !== null ? 1 : Math.max(1, Math.min(Math.ceil((2 * threads) / Math.max(1, lanes)), Math.floor(valueDim / (2 * tile.columns))));
  const each = Math.ceil(valueDim / cuts / tile.columns) * tile.columns;
  const tasks: Task[] = [];
  for (const { index } of sequences) {
    for (let valueHead = 0; valueHead < valueHeads; valueHead += 1) {
      const queryHead = Math.floor((valueHead * heads) / valueHeads);
      const keyHead = reading === 'pairs' ? Math.floor((valueHead * keyHeads) / valueHeads) : queryHead;
      for (let firstColumn = 0; firstColumn < valueDim; firstColumn += each) {
        tasks.push({ sequence: index, queryHead, keyHead, valueHead, lane: index * valueHeads + valueHead, firstColumn, columns: Math.min(each, valueDim - firstColumn) });
      }
    }
  }
  return tasks;
}

function positionsOf(first: number, rows: number, period: number | null): Int32Array {
  return Int32Array.from({ length: rows }, (_, row) => (period === null ? first + row : (first + row) - period * Math.floor((first + row) / period)));
}

/** Address and byte strides of a tensor, side by side in the record; axes that it lacks have stride 0. */
export function strided(record: WordRecord, name: string, { address, strides }: Pick<Placed, 'address' | 'strides'>, bytes: number): void {
  const at = record.place(name);
  record.integers[at] = address | 0;
  for (let axis = 0; axis < 4; axis += 1) record.integers[at + 1 + axis] = (strides[axis] ?? 0) * bytes;
}

/** A float tensor as float32: itself, converted on the host, or by an operation of the runtime that is queued before the call. */
export function asFloat32(runtime: WasmRuntime, given: Tensor): Tensor {
  if (given.dtype === 'f32') return given;
  if (given.runtime === null && isHostTensor(given)) return tensor(Float32Array.from(toFloat64(given)), given.shape);
  return runtime.operations.copy(given, { dtype: 'f32' });
}
