import type { AttentionOutputs, HostTensor, RowTransform, Tensor } from '@heed/core';
import { AttentionError, bytesPerElement, isHostTensor, tensor, toFloat64, transformedWidth } from '@heed/core';
import { HostValues, type BoundCall, type BoundKeys, type BoundSequence, type ObservedShape } from '@heed/core/compute';
import { recordsOf, queryTableRowsWord, tableStrideWord, tableWord, turnWord, uniformWord, WordRecord, type CallMemory, type Phase, type Placed, type Program } from '@heed/runtime-wasm';
import { busiestNode, nodeRuns, type NodeRun } from '../node-runs.ts';
import { scratchBytes } from './emit/context.ts';
import { stageWord, type Layouts } from './plan/layouts.ts';
import type { Plan } from './plan/plan.ts';

/** The functions of a program, by name. */
export type ProgramFunctions = Program['functions'];

/** Most heads of sequences that are gathered in two passes: each takes two phases of a job, which holds 256 with those that prepare and observe. */
const mostPassHeads = 120;

/** Rows of keys and values of one packing. */
const packingRows = 256;

export interface Prepared {
  readonly phases: readonly Phase[];
  /** Guess of the time on one thread. */
  readonly microseconds: number;
}

/** Where partial results leave their statistics. */
export interface Statistics {
  readonly count?: HostTensor;
  readonly denominator?: HostTensor;
}

/** Rows first … end − 1 of a sequence, whose record lies at the address, and the heads that share a key head. */
interface TaskRecord {
  readonly sequence: number;
  readonly keyHead: number;
  readonly first: number;
  readonly end: number;
}

interface Begun {
  readonly record: WordRecord;
  readonly edges: ListedEdges;
  /** Where each sequence's record lies. */
  readonly sequences: readonly number[];
  readonly keys: Gathered;
  readonly values: Gathered;
  /** Rows that are written out before they are gathered. */
  readonly prepared: { readonly tasks: number; readonly phases: readonly Phase[] };
  readonly scratch: number;
}

/** The list of edges in linear memory, and what the host sees of where rows begin. */
interface ListedEdges {
  readonly starts: number;
  readonly keys: number;
  readonly count: number;
  readonly view: ArrayLike<number>;
}

/** Rows of keys or values as kernels gather them: address of head 0, row 0 of each sequence, and bytes to the next head and row. */
interface Gathered {
  readonly inPlace: boolean;
  readonly start: (sequence: BoundSequence) => number;
  readonly headBytes: number;
  readonly rowBytes: number;
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

  /** A whole call: rows that must be prepared, then every node. */
  nodes(call: BoundCall, memory: CallMemory, outputs: AttentionOutputs<HostTensor>, statistics: Statistics = {}): Prepared {
    const plan = this.#plan;
    const { record, edges, sequences, keys, values, prepared, scratch } = this.#begin(call, memory, outputs);
    if (statistics.count !== undefined) record.set('count', statistics.count.view().byteOffset);
    if (statistics.denominator !== undefined) record.set('denominator', statistics.denominator.view().byteOffset);
    const rows = call.heads * call.sequences.length;
    const inPasses = call.keyRows * (keys.rowBytes + values.rowBytes) > plan.passBytes && edges.count > call.keyRows && rows <= mostPassHeads;
    const nodes = inPasses ? this.#passes(record, memory, call, sequences, edges, scratch) : [this.#phase('graph', this.#tasks(record, memory, call, sequences, edges.view, keys), record, scratch)];
    return {
      microseconds: (edges.count * rows * (plan.scoreDim + plan.valueDim + 40)) / 4000 + (call.queryRows * rows) / 8 + (prepared.tasks * packingRows * (plan.scoreDim + plan.valueDim)) / 1000,
      phases: [...prepared.phases, ...nodes],
    };
  }

  /** The pass that looks at stages of chosen rows, one task for each head. */
  observation(call: BoundCall, memory: CallMemory, outputs: AttentionOutputs<HostTensor>, shape: ObservedShape): Prepared {
    const { record, edges, sequences, prepared, scratch } = this.#begin(call, memory, outputs);
    record.set('observed.row', call.keyRows * 4);
    for (const stage of this.#plan.observed) record.set(stageWord(stage), outputs.observed?.[stage]?.view().byteOffset ?? 0);
    const mass = outputs.keyMass?.view().byteOffset ?? 0;
    const rows = memory.write(Int32Array.from(shape.rows));
    const tasks = call.sequences.flatMap(({ tensorBatch }, sequence) => shape.heads.map((head, index) => ({ sequence, head, block: tensorBatch * shape.heads.length + index })));
    record.set('tasks', memory.write(recordsOf(this.#layouts.observation, tasks, (words, { sequence, head, block }) => {
      words.set('sequence', sequences[sequence] ?? 0);
      words.set('head', head);
      words.set('rows', rows);
      words.set('rowCount', shape.rows.length);
      words.set('observed', block * shape.rows.length * call.keyRows * 4);
      words.set('mass', mass + block * call.keyRows * 4);
    })));
    return { microseconds: edges.count * tasks.length, phases: [...prepared.phases, this.#phase('observe', tasks.length, record, scratch)] };
  }

  /** What every pass over the edges begins with. */
  #begin(call: BoundCall, memory: CallMemory, outputs: AttentionOutputs<HostTensor>): Begun {
    const plan = this.#plan;
    const { query, key, value } = call.inputs;
    const placed = { query: memory.place(query), key: memory.place(key), value: memory.place(value) };
    const { scoring, aggregation } = call.request.variant;
    const keysAsTheyLie = (call.keysTransformed || scoring.keyTransforms.length === 0) && placed.key.strides[3] === 1;
    const keys = this.#gathered(call, memory, placed.key, plan.dtypes.key, plan.scoreFloats, keysAsTheyLie);
    const values = this.#gathered(call, memory, placed.value, plan.dtypes.value, plan.valueFloats, aggregation.prepare.kind === 'input' && placed.value.strides[3] === 1);
    const record = this.#record(call);
    this.#tensors(record, placed, outputs);
    record.set('keysInPlace', Number(keys.inPlace));
    record.set('valuesInPlace', Number(values.inPlace));
    record.set('queryInPlace', Number(placed.query.strides[3] === 1));
    record.set('outputInPlace', Number(outputs.output.strides[3] === 1));
    const tableRows = this.#tables(record, call, memory);
    const edges = edgesOf(call, memory);
    record.set('starts', edges.starts);
    record.set('edges', edges.keys);
    const columns = busiestNode(edges.view);
    record.set('columns', columns);
    record.set('tableRows', tableRows);
    const sequences = this.#sequences(memory, call, { keys, values });
    const packings = keys.inPlace && values.inPlace ? 0 : this.#packings(record, memory, call, sequences);
    const prepared = { tasks: packings, phases: packings === 0 ? [] : [this.#phase('prepare', packings, record, plan.rowFloats * 8)] };
    return { record, edges, sequences, keys, values, prepared, scratch: scratchBytes(plan, columns, tableRows) };
  }

  /** transformKeys: every key row to its place in `output`. */
  keys(call: BoundKeys, memory: CallMemory, key: Placed, output: HostTensor): Prepared {
    const record = this.#record(call);
    strided(record, 'key', key, bytesPerElement[this.#plan.dtypes.key]);
    strided(record, 'output', { address: output.view().byteOffset, strides: output.strides }, bytesPerElement[this.#plan.dtypes.key]);
    this.#tables(record, call, memory);
    const nowhere: Gathered = { inPlace: true, start: () => 0, headBytes: 0, rowBytes: 0 };
    const whole = { ...call, sequences: call.sequences.map((sequence) => ({ ...sequence, keyLength: sequence.keyRows })) };
    const sequences = this.#sequences(memory, whole, { keys: nowhere, values: nowhere });
    const count = this.#packings(record, memory, whole, sequences);
    return { microseconds: Infinity, phases: [this.#phase('transformKeys', count, record, this.#plan.rowFloats * 8)] };
  }

  /** Two passes for each head of each sequence, over the same tasks. */
  #passes(record: WordRecord, memory: CallMemory, call: BoundCall, addresses: readonly number[], edges: ListedEdges, scratch: number): readonly Phase[] {
    const runs = nodeRuns(edges.view, this.#plan.taskEdges);
    const bytes = Math.max(4, edges.count * 4);
    record.set('keptKeys', memory.allocate(bytes));
    record.set('keptWeights', memory.allocate(bytes));
    record.set('keptCounts', memory.allocate(Math.max(4, call.queryRows * 4)));
    return addresses.flatMap((sequence) => Array.from({ length: call.keyHeads }, (_, keyHead) => {
      const tasks = memory.write(this.#taskRecords(runs.map(({ first, end }) => ({ sequence, keyHead, first, end }))));
      return Array.from({ length: call.heads / call.keyHeads }, (__, member) => {
        const own = new WordRecord(this.#layouts.call, record.integers.slice());
        own.set('tasks', tasks);
        own.set('head', (keyHead * call.heads) / call.keyHeads + member);
        return [this.#phase('weighNodes', runs.length, own, scratch), this.#phase('gatherNodes', runs.length, own, scratch)];
      }).flat();
    }).flat());
  }

  #taskRecords(tasks: readonly TaskRecord[]): Int32Array {
    return recordsOf(this.#layouts.task, tasks, (words, { sequence, keyHead, first, end }) => {
      words.set('sequence', sequence);
      words.set('keyHead', keyHead);
      words.set('first', first);
      words.set('end', end);
    });
  }

  #phase(name: string, tasks: number, record: WordRecord, bytes: number): Phase {
    const found = this.#functions[name];
    if (found === undefined) throw new RangeError(`the program has no function '${name}'`);
    return { function: found, tasks, scratchBytes: bytes, arguments: record.integers };
  }

  #gathered(call: BoundCall, memory: CallMemory, { address, strides }: Placed, dtype: keyof typeof bytesPerElement, floats: number, inPlace: boolean): Gathered {
    const bytes = bytesPerElement[dtype];
    const [batch = 0, head = 0, row = 0] = strides.map((stride) => stride * bytes);
    if (inPlace) return { inPlace, start: ({ tensorBatch }) => address + tensorBatch * batch, headBytes: head, rowBytes: row };
    const rowBytes = floats * 4;
    const headBytes = call.keyRows * rowBytes;
    const workspace = memory.allocate(Math.max(4, call.sequences.length * call.keyHeads * headBytes));
    return { inPlace, start: (sequence) => workspace + sequence.tensorBatch * call.keyHeads * headBytes, headBytes, rowBytes };
  }

  /** A record with what uniforms and the variant alone decide. */
  #record(call: BoundKeys): WordRecord {
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
    return record;
  }

  #tensors(record: WordRecord, { query, key, value }: { readonly query: Placed; readonly key: Placed; readonly value: Placed }, { output, logSumExp }: AttentionOutputs<HostTensor>): void {
    const { dtypes } = this.#plan;
    strided(record, 'query', query, bytesPerElement[dtypes.query]);
    strided(record, 'key', key, bytesPerElement[dtypes.key]);
    strided(record, 'value', value, bytesPerElement[dtypes.value]);
    strided(record, 'output', { address: output.view().byteOffset, strides: output.strides }, bytesPerElement[dtypes.output]);
    record.set('queryRows', output.shape[2] ?? 0);
    if (logSumExp === undefined) return;
    record.set('logSumExp', logSumExp.view().byteOffset);
    ['batch', 'head', 'row'].forEach((axis, index) => {
      record.set(`logSumExp.${axis}`, (logSumExp.strides[index] ?? 0) * 4);
    });
  }

  /** Returns how many rows the query tables have together. */
  #tables(record: WordRecord, call: BoundKeys, memory: CallMemory): number {
    let rows = 0;
    for (const [name, table] of Object.entries(call.tables)) {
      const { address, strides } = memory.placeTable(name, table);
      record.set(tableWord(name), address);
      strides.forEach((stride, axis) => {
        record.set(tableStrideWord(name, axis), stride);
      });
      if (!this.#plan.queryTables.includes(name)) continue;
      const own = table.sizes.at(-2) ?? 0;
      record.set(queryTableRowsWord(name), own);
      rows += own;
    }
    return rows;
  }

  /** Where each sequence's record lies. */
  #sequences(memory: CallMemory, call: BoundKeys, { keys, values }: { readonly keys: Gathered; readonly values: Gathered }): readonly number[] {
    const host = new HostValues(call);
    const { scoring, normalization } = call.request.variant;
    const { rule } = normalization;
    const start = memory.write(recordsOf(this.#layouts.sequence, call.sequences, (record, sequence) => {
      const queryPositions = positionsOf(sequence.queryPositions, sequence.queryOffset, sequence.queryRows);
      const keyPositions = positionsOf(sequence.keyPositions, sequence.keyOffset, sequence.keyRows);
      record.set('batch', sequence.batch);
      record.set('tensorBatch', sequence.tensorBatch);
      record.set('queryLength', sequence.queryLength);
      record.set('keyLength', sequence.totalKeyLength);
      record.set('keyCount', sequence.keyLength);
      record.set('copiesEdges', Number(sequence.keyLength === call.keyRows));
      record.set('queryPositions', memory.write(queryPositions));
      record.set('keyPositions', memory.write(keyPositions));
      for (const [name, { start: startOf, headBytes, rowBytes }] of Object.entries({ keys, values })) {
        record.set(name, startOf(sequence));
        record.set(`${name}.head`, headBytes);
        record.set(`${name}.row`, rowBytes);
      }
      if (rule.kind === 'softmax' && rule.sink !== null) record.set('sinks', memory.write(host.sinks(rule.sink, sequence.batch)));
      if (this.#plan.streams.length > 0) record.set('randomKeys', memory.write(host.randomKeys(this.#plan.streams, sequence)));
      turns(memory, record, host, 'query', scoring.queryTransforms, call.request.queryDim, queryPositions);
      if (!call.keysTransformed) turns(memory, record, host, 'key', scoring.keyTransforms, call.request.keyDim, keyPositions);
    }));
    return call.sequences.map((_, index) => start + index * this.#layouts.sequence.bytes);
  }

  /** Writes where the packings lie; returns how many there are. */
  #packings(record: WordRecord, memory: CallMemory, { sequences, keyHeads }: Pick<BoundKeys, 'sequences' | 'keyHeads'>, addresses: readonly number[]): number {
    const packings = sequences.flatMap(({ keyLength }, sequence) => Array.from({ length: keyHeads }, (_, keyHead) =>
      Array.from({ length: Math.ceil(keyLength / packingRows) }, (__, index) => ({ sequence, keyHead, first: index * packingRows, end: Math.min((index + 1) * packingRows, keyLength) }))).flat());
    record.set('packings', memory.write(recordsOf(this.#layouts.packing, packings, (words, { sequence, keyHead, first, end }) => {
      words.set('sequence', addresses[sequence] ?? 0);
      words.set('keyHead', keyHead);
      words.set('first', first);
      words.set('end', end);
    })));
    return packings.length;
  }

  /** Writes where the tasks lie; returns how many there are. Heads whose rows stand apart follow one another, so that one head's rows stay in the caches. */
  #tasks(record: WordRecord, memory: CallMemory, call: BoundCall, addresses: readonly number[], starts: ArrayLike<number>, keys: Gathered): number {
    const runs = nodeRuns(starts, Math.max(1, Math.floor(this.#plan.taskEdges / (call.heads / call.keyHeads))));
    const heads = Array.from({ length: call.keyHeads }, (_, keyHead) => keyHead);
    const tasks = addresses.flatMap((sequence) => {
      const one = (keyHead: number, { first, end }: NodeRun): TaskRecord => ({ sequence, keyHead, first, end });
      return keys.headBytes >= keys.rowBytes ? heads.flatMap((keyHead) => runs.map((run) => one(keyHead, run))) : runs.flatMap((run) => heads.map((keyHead) => one(keyHead, run)));
    });
    record.set('tasks', memory.write(this.#taskRecords(tasks)));
    return tasks.length;
  }
}

/** @throws AttentionError `unsupported` for a call without edges, `foreign-tensor` */
function edgesOf({ edges }: BoundCall, memory: CallMemory): ListedEdges {
  if (edges === null) throw new AttentionError('unsupported', 'masking: the graph backend has no list of edges.', 'Pass { edges }; edgeListFromMask makes one from a mask. A dense backend needs none.');
  const starts = dense('starts', edges.starts);
  return { starts: memory.place(starts).address, keys: memory.place(dense('keys', edges.keys)).address, count: edges.keys.shape[0] ?? 0, view: starts.view() };
}

/** One axis of neighbours. */
function dense(name: string, given: Tensor): HostTensor {
  if (!isHostTensor(given)) throw new AttentionError('foreign-tensor', `edges.${name} lives where the host cannot see it.`, 'Read it to the host first.');
  return given.strides[0] === 1 || (given.shape[0] ?? 0) < 2 ? given : tensor(Int32Array.from(toFloat64(given)), given.shape);
}

/** Position of every row. */
function positionsOf(given: Int32Array | null, offset: number, rows: number): Int32Array {
  if (given !== null) return given;
  const positions = new Int32Array(rows);
  for (let row = 0; row < rows; row += 1) positions[row] = offset + row;
  return positions;
}

/** Address and byte strides of a tensor of rank 4. */
function strided(record: WordRecord, name: string, { address, strides }: Pick<Placed, 'address' | 'strides'>, bytes: number): void {
  record.set(name, address);
  ['batch', 'head', 'row', 'channel'].forEach((axis, index) => {
    record.set(`${name}.${axis}`, (strides[index] ?? 0) * bytes);
  });
}

function turns(memory: CallMemory, record: WordRecord, values: HostValues, side: 'query' | 'key', transforms: readonly RowTransform[], dim: number, positions: Int32Array): void {
  let width = dim;
  transforms.forEach((transform, index) => {
    const made = values.turns(transform, width, positions);
    if (made !== null) record.set(turnWord(side, index), memory.write(made));
    width = transformedWidth(transform, width);
  });
}
