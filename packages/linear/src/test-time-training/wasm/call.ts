import type { FastWeightInputName, FastWeightState, HostTensor, Tensor } from '@heed/core';
import { AttentionError, bytesPerElement, isHostTensor, tensor, toFloat64, transformedWidth } from '@heed/core';
import type { BoundFastWeights, BoundFastWeightSequence } from '@heed/core/compute';
import { HostValues } from '@heed/core/compute';
import { CallMemory, recordsOf, tableStrideWord, tableWord, turnWord, uniformWord, WordRecord, type Phase, type Placed, type Program, type WasmRuntime } from '@heed/runtime-wasm';
import { productsOf, type TableSource } from '../plan.ts';
import { type kernelNames, scalarInputs, trainingLayouts, transformFloats, type TrainingLayouts, type TrainingSource } from './program.ts';

/** A value head of one sequence. */
interface LaneOfCall {
  readonly sequence: BoundFastWeightSequence;
  readonly head: number;
  readonly valueHead: number;
}

/** What a call writes. */
export interface TrainingOutputs {
  readonly output: HostTensor;
  readonly state: FastWeightState<HostTensor>;
}

/** Multiplications of one task, so that it takes about a millisecond. */
const taskProducts = 2e7;

/** Writes the records of one call, and says which phases compute it. */
export class TrainingCall {
  readonly #runtime: WasmRuntime;
  readonly #source: TrainingSource;
  readonly #layouts: TrainingLayouts;
  readonly #call: BoundFastWeights;
  readonly #values: HostValues;
  readonly #memory: CallMemory;
  readonly #temporaries: Tensor[] = [];

  constructor(runtime: WasmRuntime, source: TrainingSource, call: BoundFastWeights) {
    this.#runtime = runtime;
    this.#source = source;
    this.#layouts = trainingLayouts(source);
    this.#call = call;
    this.#values = new HostValues({ uniforms: call.uniforms, tables: call.tables, heads: call.heads, keyHeads: call.heads, headOffset: 0 });
    this.#memory = new CallMemory(runtime);
  }

  /** @throws AttentionError `out-of-memory`, `foreign-tensor` */
  phases(functions: Program<(typeof kernelNames)[number]>['functions'], outputs: TrainingOutputs): readonly Phase[] {
    const { plan } = this.#source;
    const lanes = this.#call.sequences.flatMap((sequence) => Array.from({ length: this.#call.valueHeads }, (_, valueHead): LaneOfCall => ({ sequence, valueHead, head: Math.floor((valueHead * this.#call.heads) / this.#call.valueHeads) })));
    const record = this.#callRecord(lanes, outputs);
    const longest = Math.max(0, ...this.#call.sequences.map(({ length }) => length));
    const phase = (name: (typeof kernelNames)[number], first: number, end: number): Phase => {
      record.set('first', first);
      record.set('end', end);
      return { function: functions[name], tasks: lanes.length, arguments: record.integers.slice(), scratchBytes: transformFloats(this.#source) * 8 };
    };
    const pieces = Math.max(1, Math.floor(taskProducts / (productsOf(plan) * plan.block)));
    const segment = pieces * plan.block;
    const phases = [phase('begin', 0, 0)];
    for (let first = 0; first < longest; first += segment) phases.push(phase('advance', first, first + segment));
    phases.push(phase('end', 0, 0));
    return phases;
  }

  /** Gives back what the call holds, once everything submitted so far is over. */
  release(): void {
    this.#memory.release();
    for (const temporary of this.#temporaries.splice(0)) this.#runtime.release(temporary);
  }

  #callRecord(lanes: readonly LaneOfCall[], outputs: TrainingOutputs): WordRecord {
    const record = new WordRecord(this.#layouts.call);
    const { tables, uniforms, request } = this.#call;
    for (const [name, { type }] of Object.entries(request.variant.uniforms)) {
      if (type === 'f32') record.setFloat(uniformWord(name), uniforms[name] ?? Number.NaN);
      else record.set(uniformWord(name), uniforms[name] ?? 0);
    }
    const placed = Object.fromEntries(Object.entries(tables).map(([name, table]) => [name, this.#memory.placeTable(name, table)]));
    for (const [name, { address, strides }] of Object.entries(placed)) {
      record.set(tableWord(name), address);
      strides.forEach((stride, axis) => {
        record.set(tableStrideWord(name, axis), stride);
      });
    }
    record.set('records', this.#memory.write(this.#laneRecords(lanes, placed, outputs)));
    return record;
  }

  #laneRecords(lanes: readonly LaneOfCall[], tables: Readonly<Record<string, { readonly address: number; readonly strides: readonly number[] }>>, { output, state }: TrainingOutputs): Int32Array {
    const { inputs, stateShapes } = this.#call;
    const { plan, dtypes } = this.#source;
    const rows = { query: this.#memory.place(inputs.query), key: this.#memory.place(inputs.key), value: this.#memory.place(inputs.value), output: this.#memory.place(output) };
    const scalars = new Map(scalarInputs.map((name) => [name, this.#placeInput(name)] as const));
    const given = Object.fromEntries(Object.keys(stateShapes).map((name) => [name, inputs.state?.[name] === undefined ? null : this.#placeFloats(inputs.state[name])]));
    const memory = this.#memory.allocate(Math.max(4, lanes.length * plan.size * 4));
    const sequences = this.#sequences();
    const rate = plan.rate === null ? 0 : this.#values.scalar(plan.rate) / plan.rateDivisor;
    const epsilon = plan.epsilon === null ? 0 : this.#values.scalar(plan.epsilon);
    const tableWords = (record: WordRecord, name: string, { table, perHead, rowAxis, columnAxis }: TableSource, valueHead: number, suffix: string): void => {
      const { address, strides } = tables[table] ?? { address: 0, strides: [] };
      record.set(name + suffix, address + (perHead ? valueHead * (strides[0] ?? 0) : 0));
      record.set(`${name}.rowStep`, rowAxis === null ? 0 : (strides[rowAxis] ?? 0));
      record.set(`${name}.columnStep`, strides[columnAxis] ?? 0);
    };
    return recordsOf(this.#layouts.lane, lanes, (record, { sequence, head, valueHead }, index) => {
      record.set('memory', memory + index * plan.size * 4);
      record.set('sequence', sequences.get(sequence) ?? 0);
      record.set('head', head);
      record.set('length', sequence.length);
      record.setFloat('rate', rate);
      record.setFloat('epsilon', epsilon);
      for (const [name, { address, strides }] of Object.entries(rows)) {
        const bytes = bytesPerElement[dtypes[name as keyof typeof rows]];
        const [batch = 0, heads = 0, row = 0, channel = 0] = strides;
        const ofHead = name === 'query' || name === 'key' ? head : valueHead;
        record.set(name, address + bytes * (sequence.tensorBatch * batch + ofHead * heads + sequence.start * row));
        record.set(`${name}.row`, row * bytes);
        record.set(`${name}.channel`, channel * bytes);
      }
      for (const [name, placed] of scalars) {
        if (placed === null) continue;
        const [batch = 0, heads = 0, row = 0] = placed.strides.map((stride, axis) => (placed.tensor.shape[axis] === 1 ? 0 : stride * 4));
        record.set(name, placed.address + sequence.tensorBatch * batch + valueHead * heads + sequence.start * row);
        record.set(`${name}.step`, row);
      }
      for (const { matrix, source } of plan.tables) tableWords(record, matrix.name, source, valueHead, '');
      for (const part of plan.state) {
        const before = given[part.state] ?? null;
        const count = part.rows * part.columns;
        const kept = state[part.state];
        const isFirst = part.of === 'valueHead' || valueHead === 0 || Math.floor(((valueHead - 1) * this.#call.heads) / this.#call.valueHeads) !== head;
        const lane = part.of === 'valueHead' ? sequence.index * this.#call.valueHeads + valueHead : sequence.index * this.#call.heads + head;
        if (kept !== undefined && isFirst) record.set(part.state, this.#runtime.addressOf(kept) + lane * count * 4);
        if (before !== null) {
          record.set(`${part.state}.from`, before.address + lane * count * 4);
          record.set(`${part.state}.rowStep`, part.columns * 4);
          record.set(`${part.state}.columnStep`, 4);
        } else if (part.source !== null) tableWords(record, part.state, part.source, valueHead, '.from');
      }
      const { filled } = state;
      if (given['filled'] !== null && given['filled'] !== undefined) record.set('filled.from', given['filled'].address + sequence.index * 4);
      if (filled !== undefined && valueHead === 0) record.set('filled', this.#runtime.addressOf(filled) + sequence.index * 4);
    });
  }

  /** Records of the sequences: their number, position of row 0, and cosines and sines. */
  #sequences(): ReadonlyMap<BoundFastWeightSequence, number> {
    const { queryTransforms, keyTransforms, positionPeriod, dim } = this.#source;
    return new Map(this.#call.sequences.map((sequence) => {
      const record = new WordRecord(this.#layouts.sequence);
      record.set('batch', sequence.index);
      record.set('position', sequence.offset);
      const positions = Array.from({ length: sequence.length }, (_, index) => {
        const position = sequence.offset + index;
        return positionPeriod === null ? position : position - positionPeriod * Math.floor(position / positionPeriod);
      });
      for (const [side, transforms] of [['query', queryTransforms], ['key', keyTransforms]] as const) {
        let width = dim;
        transforms.forEach((transform, index) => {
          const turns = this.#values.turns(transform, width, positions);
          if (turns !== null) record.set(turnWord(side, index), this.#memory.write(turns));
          width = transformedWidth(transform, width);
        });
      }
      return [sequence, this.#memory.write(record.integers)] as const;
    }));
  }

  #placeInput(name: FastWeightInputName): Placed | null {
    const given = this.#call.inputs[name];
    return given === undefined ? null : this.#placeFloats(given);
  }

  /** Float32 in linear memory, dense where it had to be converted. */
  #placeFloats(given: Tensor): Placed {
    if (given.dtype === 'f32') return this.#memory.place(given);
    if (given.runtime === null) {
      if (!isHostTensor(given)) throw new AttentionError('foreign-tensor', 'A tensor has no memory of the host.', 'Pass a tensor of the host or of this runtime.');
      return this.#memory.place(tensor(Float32Array.from(toFloat64(given)), given.shape));
    }
    const copy = this.#runtime.operations.copy(given, { dtype: 'f32' });
    this.#temporaries.push(copy);
    return this.#memory.place(copy);
  }
}
