import type { AttentionOutputs, HostTensor, ObservedStage, RowTransform } from '@heed/core';
import type { BoundCall, BoundKeys, CallValues } from '@heed/core/compute';
import { bytesPerElement, transformedWidth } from '@heed/core';
import { HostValues } from '@heed/core/compute';
import type { CallMemory, Phase, Placed, Program } from '@heed/runtime-wasm';
import { queryTableRowsWord, recordsOf, tableStrideWord, tableWord, turnWord, uniformWord, WordRecord } from '@heed/runtime-wasm';
import { panelBytes, scratchOf, valueRowBytes } from './emit/context.ts';
import { workspaceBytes } from './emit/merge-parts.ts';
import { stageWord, type Layouts } from './layouts.ts';
import type { Plan } from './plan.ts';
import { roundUp } from './plan.ts';
import { scheduleOf, type BlockTask, type KeyTile, type PartTask } from './schedule.ts';

/** The functions of a program, by name. */
export type ProgramFunctions = Program['functions'];

/** Keys of a packing task, a multiple of every panel's columns. */
const packingRows = 128;

/** Query, key and value in linear memory. */
export interface Operands {
  readonly query: Placed;
  readonly key: Placed;
  readonly value: Placed;
}

/** A task with the number of the one that the same thread runs after it, −1 for none, and where it writes what is looked at. */
export interface LinkedTask extends BlockTask {
  readonly next: number;
  /** Bytes from the start of each stage to its first row, first key of the sequence. */
  readonly observed: number;
  /** Address of the weights of its head's keys. */
  readonly mass: number;
  /** Bytes from the workspace's start to where a part of the keys leaves statistics and sums, and how many parts there are. */
  readonly workspace?: number;
  readonly parts?: number;
}

export interface Prepared {
  readonly phases: readonly Phase[];
  /** Guess of the time on one thread. */
  readonly microseconds: number;
}

/**
 * What the kernels of a call read that does not depend on where its tensors lie: the same for every call with the same shapes, positions and uniforms.
 * It lives in the memory that it was written with.
 */
export interface Records {
  /** The call's record, without the words of tensors and of the workspace. */
  readonly words: Int32Array;
  readonly phases: readonly Omit<Phase, 'arguments'>[];
  readonly microseconds: number;
  /** Bytes that each call needs of its own: packed keys and values, or statistics and sums of parts. */
  readonly workspaceBytes: number;
}

/** What one call brings to its records. */
export interface Tensors {
  readonly operands: Operands;
  readonly outputs: AttentionOutputs<HostTensor>;
  readonly statistics?: { readonly count?: HostTensor; readonly denominator?: HostTensor };
  /** Addresses of the stages that are looked at. */
  readonly stages?: ReadonlyMap<ObservedStage, number>;
}

/** Writes everything that the kernels of one call read, and says which functions run over how many tasks. */
export class CallWriter {
  readonly #plan: Plan;
  readonly #layouts: Layouts;
  readonly #functions: ProgramFunctions;

  constructor(plan: Plan, layouts: Layouts, functions: ProgramFunctions) {
    this.#plan = plan;
    this.#layouts = layouts;
    this.#functions = functions;
  }

  /** A whole call: pack keys and values, then every block of queries. */
  blocks(call: BoundCall, memory: CallMemory): Records {
    return this.#blocks(call, memory, scheduleOf(call, this.#plan).map((task) => ({ ...task, next: -1, observed: 0, mass: 0 })), false);
  }

  /** A call with few queries: parts of the keys, read where they lie, then merged. */
  parts(call: BoundCall, memory: CallMemory, parts: readonly PartTask[]): Records {
    const plan = this.#plan;
    const { record, values } = this.#record(call);
    const { addresses } = this.#sequences(memory, call, values, { keys: [], values: [] }, call.sequences.map(({ keyLength }) => keyLength));
    const placed = parts.map((task, index) => ({ ...task, next: -1, observed: 0, mass: 0, workspace: index * workspaceBytes(plan) }));
    record.set('tasks', this.#tasks(memory, placed, addresses));
    const heads = placed.filter(({ part }) => part === 0);
    record.set('merges', heads.length === placed.length ? record.get('tasks') : this.#tasks(memory, heads, addresses));
    const pairs = parts.reduce((sum, { rows, tiles }) => sum + rows.length * tiles.reduce((keys, { first, end }) => keys + end - first, 0), 0) * (call.heads / call.keyHeads);
    return {
      words: record.integers,
      workspaceBytes: placed.length * workspaceBytes(plan),
      microseconds: (pairs * 2 * (plan.scoreDim + plan.valueDim + 60)) / 25_000 + parts.length,
      phases: [
        this.#phase('decode', parts.length, scratchOf(plan).end + plan.blockKey * valueRowBytes(plan)),
        this.#phase('mergeParts', heads.length, 0),
      ],
    };
  }

  /** The pass that looks at stages of chosen rows: one chain of tasks for each head, so that the weights of a key are added in order. */
  observation(call: BoundCall, memory: CallMemory, chains: readonly LinkedTask[], heads: number): Records {
    const records = this.#blocks(call, memory, chains, true);
    // Tasks behind the first of each chain are reached by their links.
    return { ...records, phases: records.phases.map((phase, index) => (index === records.phases.length - 1 ? { ...phase, tasks: Math.min(phase.tasks, heads) } : phase)) };
  }

  /** The phases of a call: its records, with the addresses of what it reads and writes. */
  phases({ words, phases, microseconds, workspaceBytes }: Records, call: BoundKeys, memory: CallMemory, { operands: { query, key, value }, outputs, statistics, stages }: Tensors): Prepared {
    const { dtypes } = this.#plan;
    const record = new WordRecord(this.#layouts.call, words.slice());
    record.set('workspace', workspaceBytes === 0 ? 0 : memory.allocate(workspaceBytes));
    strided(record, 'query', query, dtypes.query);
    strided(record, 'key', key, dtypes.key);
    strided(record, 'value', value, dtypes.value);
    this.#output(record, outputs);
    this.#tables(record, call, memory);
    if (statistics?.count !== undefined) record.set('count', statistics.count.view().byteOffset);
    if (statistics?.denominator !== undefined) record.set('denominator', statistics.denominator.view().byteOffset);
    if (stages !== undefined) for (const [stage, address] of stages) record.set(stageWord(stage), address);
    return { microseconds, phases: phases.map((phase) => ({ ...phase, arguments: record.integers })) };
  }

  /** transformKeys: every key row to its place in `output`. */
  keys(call: BoundKeys, memory: CallMemory, key: Placed, output: HostTensor): Prepared {
    const { record, values } = this.#record(call);
    strided(record, 'key', key, this.#plan.dtypes.key);
    strided(record, 'output', { address: output.view().byteOffset, strides: output.strides }, this.#plan.dtypes.key);
    this.#tables(record, call, memory);
    const lengths = call.sequences.map(({ keyRows }) => keyRows);
    const { addresses } = this.#sequences(memory, call, values, null, lengths);
    const { address, count } = this.#packings(memory, lengths, call.keyHeads, addresses);
    record.set('packings', address);
    // A few numbers in a nanosecond for each channel that a transform reads and writes; a step of a decode is over before others would wake.
    const rows = lengths.reduce((sum, length) => sum + length, 0) * call.keyHeads;
    const microseconds = 1 + (rows * this.#plan.rowFloats * call.request.variant.scoring.keyTransforms.reduce((work, transform) => work + (transform.kind === 'projection' ? call.request.keyDim : 8), 8)) / 4000;
    return { microseconds, phases: [{ ...this.#phase('transformKeys', count, this.#plan.rowFloats * 8), arguments: record.integers }] };
  }

  #blocks(call: BoundCall, memory: CallMemory, tasks: readonly LinkedTask[], wholeKeys: boolean): Records {
    const plan = this.#plan;
    const { record, values } = this.#record(call);
    record.set('queryRows', call.queryRows);
    record.set('observed.row', call.keyRows * 4);
    // Scores that are looked at exist for padding too.
    const lengths = call.sequences.map(({ keyLength, keyRows }) => (wholeKeys ? keyRows : keyLength));
    const packed = this.#packedSizes(lengths);
    const sequences = this.#sequences(memory, call, values, packed, lengths);
    const packings = this.#packings(memory, lengths, call.keyHeads, sequences.addresses);
    record.set('packings', packings.address);
    record.set('tasks', this.#tasks(memory, tasks, sequences.addresses));
    const columns = plan.path === 'rows' ? widestRow(tasks) : 0;
    record.set('columns', columns);
    const extra = plan.queryTables.reduce((sum, name) => sum + (call.tables[name]?.sizes.at(-2) ?? 0) * plan.blockQuery * 4, 0);
    const hasKeys = tasks.some(({ tiles }) => tiles.length > 0);
    const pairs = tasks.reduce((sum, { rows, tiles }) => sum + rows.length * tiles.reduce((keys, { first, end }) => keys + end - first, 0), 0);
    const strips = plan.path === 'rows' ? 2 * columns * 4 * plan.blockQuery + 16 : 0;
    return {
      words: record.integers,
      workspaceBytes: sequences.bytes,
      microseconds: (pairs * 2 * (plan.scoreDim + plan.valueDim + 60)) / 30_000 + call.sequences.length + tasks.length,
      phases: [
        ...(hasKeys ? [this.#phase('pack', packings.count, plan.rowFloats * 8)] : []),
        this.#phase(plan.path === 'online' ? 'prefill' : 'rows', tasks.length, scratchOf(plan).end + extra + strips),
      ],
    };
  }

  #phase(name: string, tasks: number, scratchBytes: number): Omit<Phase, 'arguments'> {
    const found = this.#functions[name];
    if (found === undefined) throw new RangeError(`the program has no function '${name}'`);
    return { function: found, tasks, scratchBytes };
  }

  #output(record: WordRecord, { output, logSumExp }: AttentionOutputs<HostTensor>): void {
    strided(record, 'output', { address: output.view().byteOffset, strides: output.strides }, this.#plan.dtypes.output);
    if (logSumExp === undefined) return;
    const at = record.place('logSumExp');
    record.integers[at] = logSumExp.view().byteOffset | 0;
    for (let axis = 0; axis < 3; axis += 1) record.integers[at + 1 + axis] = (logSumExp.strides[axis] ?? 0) * 4;
  }

  /** A record with what uniforms and the variant alone decide. */
  #record(call: BoundKeys): { readonly record: WordRecord; readonly values: HostValues } {
    const record = new WordRecord(this.#layouts.call);
    const values = new HostValues(call);
    const { scoring, normalization, uniforms } = call.request.variant;
    record.set('heads', call.heads);
    record.set('keyHeads', call.keyHeads);
    record.set('group', call.heads / call.keyHeads);
    record.set('keysTransformed', Number(call.keysTransformed));
    record.setFloat('scale', values.scalar(scoring.scale));
    if (normalization.rule.kind === 'rowSum') record.setFloat('epsilon', values.scalar(normalization.rule.epsilon));
    for (const [name, { type }] of Object.entries(uniforms)) {
      if (type === 'f32') record.setFloat(uniformWord(name), call.uniforms[name] ?? Number.NaN);
      else record.set(uniformWord(name), call.uniforms[name] ?? 0);
    }
    return { record, values };
  }

  #tables(record: WordRecord, call: BoundKeys, memory: CallMemory): void {
    for (const name in call.tables) {
      const table = call.tables[name];
      if (table === undefined) continue;
      const { address, strides } = memory.placeTable(name, table);
      record.set(tableWord(name), address);
      strides.forEach((stride, axis) => {
        record.set(tableStrideWord(name, axis), stride);
      });
      if (this.#plan.queryTables.includes(name)) record.set(queryTableRowsWord(name), table.sizes.at(-2) ?? 0);
    }
  }

  /** Bytes of packed keys and values of one head of each sequence. */
  #packedSizes(lengths: readonly number[]): { readonly keys: readonly number[]; readonly values: readonly number[] } {
    const rows = lengths.map((length) => roundUp(length, this.#plan.stepKey));
    const { columns } = this.#plan.tile;
    return { keys: rows.map((count) => (count / columns) * panelBytes(this.#plan)), values: rows.map((count) => count * valueRowBytes(this.#plan)) };
  }

  /** Returns where each sequence's record lies, and the bytes of all packed keys and values. */
  #sequences(memory: CallMemory, call: CallValues & Pick<BoundCall, 'sequences' | 'keyHeads' | 'request' | 'keysTransformed'>, values: HostValues, packed: { readonly keys: readonly number[]; readonly values: readonly number[] } | null, lengths: readonly number[]): { readonly addresses: readonly number[]; readonly bytes: number } {
    const { keyHeads, request, sequences } = call;
    const { rule } = request.variant.normalization;
    let bytes = 0;
    const records = recordsOf(this.#layouts.sequence, sequences, (record, sequence, index) => {
      const queryPositions = positionsOf(sequence.queryPositions, sequence.queryOffset, sequence.queryRows, sequence.queryRows);
      const keyPositions = positionsOf(sequence.keyPositions, sequence.keyOffset, sequence.keyRows, roundUp(sequence.keyRows, this.#plan.stepKey));
      record.set('batch', sequence.batch);
      record.set('tensorBatch', sequence.tensorBatch);
      record.set('queryStart', sequence.queryStart);
      record.set('keyStart', sequence.keyStart);
      record.set('queryLength', sequence.queryLength);
      record.set('keyLength', sequence.totalKeyLength);
      record.set('lastKey', (lengths[index] ?? 0) - 1);
      record.set('queryPositions', memory.write(queryPositions));
      record.set('keyPositions', memory.write(keyPositions));
      const [keyBytes, valueBytes] = [packed?.keys[index] ?? 0, packed?.values[index] ?? 0];
      record.set('keys', bytes);
      record.set('keys.head', keyBytes);
      record.set('values', bytes + keyBytes * keyHeads);
      record.set('values.head', valueBytes);
      bytes += (keyBytes + valueBytes) * keyHeads;
      if (packed !== null && rule.kind === 'softmax') record.set('sinks', memory.write(values.sinks(rule.sink, sequence.batch)));
      if (packed !== null && this.#plan.streams.length > 0) record.set('randomKeys', memory.write(values.randomKeys(this.#plan.streams, sequence)));
      turns(memory, record, values, 'query', request.variant.scoring.queryTransforms, request.queryDim, queryPositions);
      if (!call.keysTransformed) turns(memory, record, values, 'key', request.variant.scoring.keyTransforms, request.keyDim, keyPositions);
    });
    const start = memory.write(records);
    return { addresses: sequences.map((_, index) => start + index * this.#layouts.sequence.bytes), bytes };
  }

  /** Where the packing tasks lie, and how many there are. */
  #packings(memory: CallMemory, lengths: readonly number[], keyHeads: number, addresses: readonly number[]): { readonly address: number; readonly count: number } {
    const packings: { readonly sequence: number; readonly keyHead: number; readonly first: number; readonly end: number }[] = [];
    lengths.forEach((length, sequence) => {
      const rows = roundUp(length, this.#plan.stepKey);
      for (let keyHead = 0; keyHead < keyHeads; keyHead += 1) {
        for (let first = 0; first < rows; first += packingRows) packings.push({ sequence, keyHead, first, end: Math.min(first + packingRows, rows) });
      }
    });
    const records = recordsOf(this.#layouts.packing, packings, (record, { sequence, keyHead, first, end }) => {
      record.set('sequence', addresses[sequence] ?? 0);
      record.set('keyHead', keyHead);
      record.set('first', first);
      record.set('end', end);
    });
    return { address: memory.write(records), count: packings.length };
  }

  #tasks(memory: CallMemory, tasks: readonly LinkedTask[], sequences: readonly number[]): number {
    const rowLists = new Map<readonly number[], number>();
    const tileLists = new Map<readonly KeyTile[], number>();
    const records = recordsOf(this.#layouts.task, tasks, (record, task) => {
      const rows = rowLists.get(task.rows) ?? memory.write(Int32Array.from(task.rows));
      const tiles = tileLists.get(task.tiles) ?? this.#writeTiles(memory, task.tiles);
      rowLists.set(task.rows, rows);
      tileLists.set(task.tiles, tiles);
      record.set('sequence', sequences[task.sequence] ?? 0);
      record.set('head', task.head);
      record.set('rows', rows);
      record.set('rowCount', task.rows.length);
      record.set('tiles', tiles);
      record.set('tileCount', task.tiles.length);
      record.set('next', task.next);
      record.set('observed', task.observed);
      record.set('mass', task.mass);
      record.set('workspace', task.workspace ?? 0);
      record.set('splits', task.parts ?? 1);
    });
    return memory.write(records);
  }

  #writeTiles(memory: CallMemory, tiles: readonly KeyTile[]): number {
    return memory.write(recordsOf(this.#layouts.tile, tiles, (record, { first, end, low, high, mixed, rowFrom, rowTo }) => {
      record.set('first', first);
      record.set('end', end);
      record.set('low', low);
      record.set('high', high);
      record.set('mixed', Number(mixed));
      record.set('rowFrom', rowFrom);
      record.set('rowTo', rowTo);
    }));
  }
}

/** Keys in the longest list of tiles, gaps to whole steps included. */
function widestRow(tasks: readonly BlockTask[]): number {
  return tasks.reduce((most, { tiles }) => Math.max(most, tiles.reduce((sum, { first, end }) => sum + end - first, 0)), 0);
}

/** Positions of `rows` rows, the last one repeated up to `length`. */
function positionsOf(given: Int32Array | null, offset: number, rows: number, length: number): Int32Array {
  const positions = new Int32Array(Math.max(1, length));
  for (let row = 0; row < length; row += 1) {
    const known = Math.max(0, Math.min(row, rows - 1));
    positions[row] = given?.[known] ?? offset + known;
  }
  return positions;
}


/** Address and byte strides of a tensor of rank 4, side by side in the record. */
function strided(record: WordRecord, name: string, { address, strides }: Pick<Placed, 'address' | 'strides'>, dtype: Plan['dtypes']['query']): void {
  const at = record.place(name);
  const bytes = bytesPerElement[dtype];
  record.integers[at] = address | 0;
  for (let axis = 0; axis < 4; axis += 1) record.integers[at + 1 + axis] = (strides[axis] ?? 0) * bytes;
}

function turns(memory: CallMemory, record: WordRecord, values: HostValues, side: 'query' | 'key', transforms: readonly RowTransform[], dim: number, positions: Int32Array): void {
  let width = dim;
  transforms.forEach((transform, index) => {
    const made = values.turns(transform, width, positions);
    if (made !== null) record.set(turnWord(side, index), memory.write(made));
    width = transformedWidth(transform, width);
  });
}
