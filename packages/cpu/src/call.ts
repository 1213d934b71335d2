import type { AttentionOutputs, HostTensor, ObservedStage, RowTransform } from '@heed/core';
import type { BoundCall, BoundKeys } from '@heed/core/compute';
import { bytesPerElement, transformedWidth } from '@heed/core';
import type { Phase, Program } from '@heed/runtime-wasm';
import type { CallMemory, Placed } from './call-memory.ts';
import { panelBytes, scratchOf, valueRowBytes } from './emit/context.ts';
import { workspaceBytes } from './emit/decode.ts';
import { HostValues, type CallValues } from './host-values.ts';
import { queryTableRowsWord, stageWord, tableStrideWord, tableWord, turnWord, uniformWord, type Layouts } from './layouts.ts';
import type { Plan } from './plan.ts';
import { roundUp } from './plan.ts';
import { scheduleOf, type BlockTask, type KeyTile, type PartTask } from './schedule.ts';
import { recordsOf, WordRecord } from './words.ts';

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
  /** Where a part of the keys leaves statistics and sums, and how many parts there are. */
  readonly workspace?: number;
  readonly parts?: number;
}

export interface Prepared {
  readonly phases: readonly Phase[];
  /** Pairs that are computed, for the estimate of time. */
  readonly microseconds: number;
  readonly tasks: readonly BlockTask[];
}

/** Writes everything that the kernels of one call read, and says which functions run over how many tasks. */
export class CallWriter {
  readonly #plan: Plan;
  readonly #layouts: Layouts;
  readonly #memory: CallMemory;
  readonly #functions: ProgramFunctions;
  readonly #record: WordRecord;

  constructor(plan: Plan, layouts: Layouts, memory: CallMemory, functions: ProgramFunctions) {
    this.#plan = plan;
    this.#layouts = layouts;
    this.#memory = memory;
    this.#functions = functions;
    this.#record = new WordRecord(layouts.call);
  }

  /** A whole call: pack keys and values, then every block of queries. */
  attention(call: BoundCall, operands: Operands, outputs: AttentionOutputs<HostTensor>, statistics: { readonly count?: HostTensor; readonly denominator?: HostTensor } = {}): Prepared {
    this.#output(outputs);
    this.#record.set('queryRows', call.queryRows);
    for (const name of ['count', 'denominator'] as const) this.#record.set(name, statistics[name]?.view().byteOffset ?? 0);
    return this.#write(call, operands, scheduleOf(call, this.#plan).map((task) => ({ ...task, next: -1, observed: 0, mass: 0 })), false);
  }

  /** A call with few queries: parts of the keys, read where they lie, then merged. */
  decode(call: BoundCall, operands: Operands, outputs: AttentionOutputs<HostTensor>, parts: readonly PartTask[]): Prepared {
    const plan = this.#plan;
    this.#output(outputs);
    this.#operands(operands);
    const values = new HostValues(call);
    this.#values(call, values);
    const { addresses } = this.#sequences(call, values, { keys: [], values: [] }, call.sequences.map(({ keyLength }) => keyLength));
    const workspace = this.#memory.allocate(Math.max(1, parts.length) * workspaceBytes(plan));
    const placed = parts.map((task, index) => ({ ...task, next: -1, observed: 0, mass: 0, workspace: workspace + index * workspaceBytes(plan) }));
    this.#record.set('tasks', this.#tasks(placed, addresses));
    const words = [...this.#record.integers];
    const merges = new WordRecord(this.#layouts.call);
    merges.integers.set(this.#record.integers);
    const heads = placed.filter(({ part }) => part === 0);
    merges.set('tasks', this.#tasks(heads, addresses));
    const pairs = parts.reduce((sum, { rows, tiles }) => sum + rows.length * tiles.reduce((keys, { first, end }) => keys + end - first, 0), 0) * (call.heads / call.keyHeads);
    return {
      tasks: placed,
      microseconds: (pairs * 2 * (plan.scoreDim + plan.valueDim + 60)) / 15_000 + parts.length,
      phases: [
        this.#phase('decode', parts.length, words, scratchOf(plan).end + plan.blockKey * valueRowBytes(plan)),
        this.#phase('mergeParts', heads.length, [...merges.integers], 0),
      ],
    };
  }

  /** The pass that looks at stages of chosen rows: one chain of tasks for each head, so that the weights of a key are added in order. */
  observation(call: BoundCall, operands: Operands, chains: readonly LinkedTask[], heads: number, stages: ReadonlyMap<ObservedStage, number>): Prepared {
    for (const [stage, address] of stages) this.#record.set(stageWord(stage), address);
    this.#record.set('observed.row', call.keyRows * 4);
    const prepared = this.#write(call, operands, chains, true);
    // Tasks behind the first of each chain are reached by their links.
    return { ...prepared, phases: prepared.phases.map((phase, index) => (index === prepared.phases.length - 1 ? { ...phase, tasks: Math.min(phase.tasks, heads) } : phase)) };
  }

  #write(call: BoundCall, operands: Operands, tasks: readonly LinkedTask[], wholeKeys: boolean): Prepared {
    const plan = this.#plan;
    this.#operands(operands);
    const values = new HostValues(call);
    this.#values(call, values);
    // Scores that are looked at exist for padding too.
    const lengths = call.sequences.map(({ keyLength, keyRows }) => (wholeKeys ? keyRows : keyLength));
    const packed = this.#packedSizes(lengths);
    const sequences = this.#sequences(call, values, packed, lengths);
    const packings = this.#packings(lengths, call.keyHeads, sequences.addresses);
    this.#record.set('tasks', this.#tasks(tasks, sequences.addresses));
    if (plan.path === 'rows') this.#record.set('columns', widestRow(tasks));
    const callWords = [...this.#record.integers];
    const extra = plan.queryTables.reduce((sum, name) => sum + (call.tables[name]?.sizes.at(-2) ?? 0) * plan.blockQuery * 4, 0);
    const hasKeys = tasks.some(({ tiles }) => tiles.length > 0);
    const pairs = tasks.reduce((sum, { rows, tiles }) => sum + rows.length * tiles.reduce((keys, { first, end }) => keys + end - first, 0), 0);
    const packing = plan.rowFloats * 8;
    const columns = plan.path === 'rows' ? widestRow(tasks) : 0;
    const strips = plan.path === 'rows' ? 2 * columns * 4 * plan.blockQuery + 16 : 0;
    return {
      tasks,
      microseconds: (pairs * 2 * (plan.scoreDim + plan.valueDim + 60)) / 30_000 + call.sequences.length + tasks.length,
      phases: [
        ...(hasKeys ? [this.#phase('packKeys', packings, callWords, packing), this.#phase('packValues', packings, callWords, 0)] : []),
        this.#phase(plan.path === 'online' ? 'prefill' : 'rows', tasks.length, callWords, scratchOf(plan).end + extra + strips),
      ],
    };
  }

  /** transformKeys: every key row to its place in `output`. */
  keys(call: BoundKeys, key: Placed, output: HostTensor): Prepared {
    this.#strided('key', key.address, key.strides, this.#plan.dtypes.key);
    this.#strided('output', output.view().byteOffset, output.strides, this.#plan.dtypes.key);
    const values = new HostValues(call);
    this.#values(call, values);
    const lengths = call.sequences.map(({ keyRows }) => keyRows);
    const { addresses } = this.#sequences(call, values, null, lengths);
    const tasks = this.#packings(lengths, call.keyHeads, addresses);
    return { tasks: [], microseconds: Infinity, phases: [this.#phase('transformKeys', tasks, [...this.#record.integers], this.#plan.rowFloats * 8)] };
  }

  #phase(name: string, tasks: number, words: readonly number[], scratchBytes: number): Phase {
    const found = this.#functions[name];
    if (found === undefined) throw new RangeError(`the program has no function '${name}'`);
    return { function: found, tasks, arguments: words, scratchBytes };
  }

  #operands({ query, key, value }: Operands): void {
    const { dtypes } = this.#plan;
    this.#strided('query', query.address, query.strides, dtypes.query);
    this.#strided('key', key.address, key.strides, dtypes.key);
    this.#strided('value', value.address, value.strides, dtypes.value);
  }

  #strided(name: string, address: number, strides: readonly number[], dtype: Plan['dtypes']['query']): void {
    this.#record.set(name, address);
    ['batch', 'head', 'row', 'channel'].forEach((axis, index) => {
      this.#record.set(`${name}.${axis}`, (strides[index] ?? 0) * bytesPerElement[dtype]);
    });
  }

  #output({ output, logSumExp }: AttentionOutputs<HostTensor>): void {
    this.#strided('output', output.view().byteOffset, output.strides, this.#plan.dtypes.output);
    if (logSumExp === undefined) return;
    this.#record.set('logSumExp', logSumExp.view().byteOffset);
    ['batch', 'head', 'row'].forEach((axis, index) => {
      this.#record.set(`logSumExp.${axis}`, (logSumExp.strides[index] ?? 0) * 4);
    });
  }

  #values(call: BoundKeys, values: HostValues): void {
    const record = this.#record;
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
    for (const [name, table] of Object.entries(call.tables)) {
      const { address, strides } = this.#memory.placeTable(name, table);
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

  #sequences(call: CallValues & Pick<BoundCall, 'sequences' | 'keyHeads' | 'request' | 'keysTransformed'>, values: HostValues, packed: { readonly keys: readonly number[]; readonly values: readonly number[] } | null, lengths: readonly number[]): { readonly addresses: readonly number[] } {
    const { keyHeads, request, sequences } = call;
    const { rule } = request.variant.normalization;
    const keysAt = this.#heads(packed?.keys ?? [], keyHeads);
    const valuesAt = this.#heads(packed?.values ?? [], keyHeads);
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
      record.set('queryPositions', this.#memory.write(queryPositions));
      record.set('keyPositions', this.#memory.write(keyPositions));
      record.set('keys', keysAt[index] ?? 0);
      record.set('keys.head', packed?.keys[index] ?? 0);
      record.set('values', valuesAt[index] ?? 0);
      record.set('values.head', packed?.values[index] ?? 0);
      if (packed !== null && rule.kind === 'softmax') record.set('sinks', this.#memory.write(values.sinks(rule.sink, sequence.batch)));
      if (packed !== null && this.#plan.streams.length > 0) record.set('randomKeys', this.#memory.write(values.randomKeys(this.#plan, sequence)));
      this.#turns(record, values, 'query', request.variant.scoring.queryTransforms, request.queryDim, queryPositions);
      if (!call.keysTransformed) this.#turns(record, values, 'key', request.variant.scoring.keyTransforms, request.keyDim, keyPositions);
    });
    const start = this.#memory.write(records);
    return { addresses: sequences.map((_, index) => start + index * this.#layouts.sequence.bytes) };
  }

  #turns(record: WordRecord, values: HostValues, side: 'query' | 'key', transforms: readonly RowTransform[], dim: number, positions: Int32Array): void {
    let width = dim;
    transforms.forEach((transform, index) => {
      const turns = values.turns(transform, width, positions);
      if (turns !== null) record.set(turnWord(side, index), this.#memory.write(turns));
      width = transformedWidth(transform, width);
    });
  }

  /** One block for all sequences: where each one's heads begin. */
  #heads(bytes: readonly number[], keyHeads: number): readonly number[] {
    const total = bytes.reduce((sum, size) => sum + size * keyHeads, 0);
    let place = total === 0 ? 0 : this.#memory.allocate(total);
    return bytes.map((size) => {
      const start = place;
      place += size * keyHeads;
      return start;
    });
  }

  /** Returns the number of packing tasks. */
  #packings(lengths: readonly number[], keyHeads: number, addresses: readonly number[]): number {
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
    this.#record.set('packings', this.#memory.write(records));
    return packings.length;
  }

  #tasks(tasks: readonly LinkedTask[], sequences: readonly number[]): number {
    const rowLists = new Map<readonly number[], number>();
    const tileLists = new Map<readonly KeyTile[], number>();
    const records = recordsOf(this.#layouts.task, tasks, (record, task) => {
      const rows = rowLists.get(task.rows) ?? this.#memory.write(Int32Array.from(task.rows));
      const tiles = tileLists.get(task.tiles) ?? this.#writeTiles(task.tiles);
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
    return this.#memory.write(records);
  }

  #writeTiles(tiles: readonly KeyTile[]): number {
    return this.#memory.write(recordsOf(this.#layouts.tile, tiles, (record, { first, end, low, high, mixed }) => {
      record.set('first', first);
      record.set('end', end);
      record.set('low', low);
      record.set('high', high);
      record.set('mixed', Number(mixed));
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

