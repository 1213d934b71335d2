import { AttentionError, isHostTensor, tensor, toFloat64, transformedWidth, type AttentionRequest, type HostTensor, type Tensor } from '@heed/core';
import { HostValues, type BoundCall, type BoundKeys, type ObservedShape } from '@heed/core/compute';
import { operationCall, sharedValues, turnsWidth, writeTables, type CallBuffers, type ProgramSource, type Stage, type WebGpuRuntime } from '@heed/runtime-webgpu';
import { Integers } from './integers.ts';
import { nodeProgram } from './node-program.ts';
import { parameterFields } from './parameters.ts';
import type { Plan } from './plan.ts';
import { isReadInPlace, rowsProgram, transformsOf, type Side } from './rows.ts';

/** A request's main program, and those that make its rows ready. */
export interface Programs {
  readonly request: AttentionRequest;
  readonly plan: Plan;
  readonly nodes: ProgramSource;
  /** Programs for the sides that are not read as they lie. */
  readonly rows: readonly ProgramSource[];
}

export function programsOf(request: AttentionRequest, plan: Plan): Programs {
  const sides: readonly Side[] = ['query', 'key', 'value'];
  return { request, plan, nodes: nodeProgram(request, plan), rows: sides.filter((side) => !isReadInPlace(request, plan, side, false)).map((side) => rowsProgram(request, plan, side)) };
}

/** Where a program writes. */
export interface Targets {
  readonly output: GPUBuffer;
  /** Null where a program writes none. */
  readonly statistics: GPUBuffer | null;
}

/** What a row costs beside its edges, in multiplications. */
const rowCost = 256;

/** Turns one call into stages. */
export class CallStages {
  readonly #runtime: WebGpuRuntime;
  readonly #buffers: CallBuffers;
  readonly #call: BoundCall | BoundKeys;
  readonly #values: Readonly<Record<string, number>>;
  readonly #scratchBytes: number;
  readonly #tables: GPUBuffer;
  readonly #given = new Map<Side, Tensor>();
  /** Float32 rows of each side, made once. */
  #rows: Readonly<Record<Side, GPUBuffer>> | undefined;

  /** @param scratchBytes of weights that wait at once, unless one row has more edges */
  constructor(runtime: WebGpuRuntime, buffers: CallBuffers, call: BoundCall | BoundKeys, scratchBytes: number) {
    this.#scratchBytes = scratchBytes;
    this.#runtime = runtime;
    this.#buffers = buffers;
    this.#call = call;
    const { buffer, values } = operationCall(runtime, (operations) => writeTables(operations, buffers, call));
    this.#tables = buffer;
    this.#values = { ...values, ...sharedValues(call), heads: call.heads, keyHeads: call.keyHeads, keyRows: call.keyRows };
    if (!('inputs' in call)) return;
    const { query, key, value } = call.inputs;
    this.#given.set('query', buffers.onDevice(query)).set('key', buffers.onDevice(key));
    this.#given.set('value', value === key ? this.#givenTo('key') : buffers.onDevice(value));
  }

  /** Buffers that hold query, key and value as they were given. */
  inputs(): readonly GPUBuffer[] {
    return [...this.#given.values()].map((given) => this.#runtime.bufferOf(given));
  }

  /** The program that makes rows of one side ready. */
  rows(source: ProgramSource, side: Side, given: Tensor, target: GPUBuffer): Stage {
    const call = this.#call;
    const [, heads = 0, rows = 0, dim = 0] = given.shape;
    const integers = new Integers();
    const sequencesAt = integers.sequences(call.sequences);
    const positions = call.sequences.flatMap((sequence) => {
      const [list, offset] = side === 'query' ? [sequence.queryPositions, sequence.queryOffset] : [sequence.keyPositions, sequence.keyOffset];
      return Array.from({ length: rows }, (_, row) => list?.[row] ?? offset + row);
    });
    return {
      source,
      buffers: [this.#runtime.bufferOf(this.#buffers.onDevice(given)), this.#buffers.words(integers.words()), this.#tables, this.#buffers.words(this.#turns(side, positions)), target],
      fields: parameterFields(call.request.variant),
      values: { ...this.#values, heads, queryRows: rows, sequencesAt, rowCount: positions.length },
      costs: new Array<number>(positions.length * heads).fill(dim * 8),
    };
  }

  /** A pass over all edges, after rows were made ready for the first. */
  nodes({ request, plan, nodes }: Programs, { output, statistics }: Targets, shape: ObservedShape | null = null): readonly Stage[] {
    const call = this.#call;
    if (!('inputs' in call)) throw new RangeError('the call has keys alone');
    const { starts, keys } = edgesOf(call);
    const ready = this.#readyRows(call, plan);
    const integers = new Integers();
    const sequencesAt = integers.sequences(call.sequences);
    const startsAt = integers.list(starts);
    const edgesAt = integers.list(keys);
    const placesAmong = (length: number, chosen: readonly number[]): number => integers.list(Array.from({ length: shape === null ? 0 : length }, (_, index) => chosen.indexOf(index)));
    const observed = { observedHeadsAt: placesAmong(call.heads, shape?.heads ?? []), observedRowsAt: placesAmong(call.queryRows, shape?.rows ?? []), observedHeads: shape?.heads.length ?? 0, observedRows: shape?.rows.length ?? 0 };
    const words = this.#buffers.words(integers.words());
    const groups = groupsOf(call, starts, this.#scratchBytes / 4);
    const scratch = this.#buffers.acquire(4 * groups.reduce((most, { edges }) => Math.max(most, edges), 1));
    const rowStatistics = statistics ?? this.#buffers.acquire(4);
    const { query, key, value } = ready.buffers;
    const stages = groups.map(({ firstTask, firstEdge, costs }): Stage => ({
      source: nodes,
      buffers: [query, key, value, words, this.#tables, output, rowStatistics, scratch],
      fields: parameterFields(request.variant),
      values: {
        ...this.#values, ...observed, queryRows: call.queryRows, sequencesAt, startsAt, edgesAt, edgeCount: starts[call.queryRows] ?? 0, taskOffset: firstTask, scratchFirst: firstEdge,
        rowCount: call.sequences.length * call.heads * call.queryRows,
      },
      costs: costs.map((edges) => rowCost + edges * (plan.scoreDim + plan.valueDim)),
    }));
    return [...ready.stages, ...stages];
  }

  /** Buffers of the rows of all sides; the stages that make them are given the first time, and serve every pass of the call. */
  #readyRows(call: BoundCall, plan: Plan): { readonly buffers: Readonly<Record<Side, GPUBuffer>>; readonly stages: readonly Stage[] } {
    if (this.#rows !== undefined) return { buffers: this.#rows, stages: [] };
    const stages: Stage[] = [];
    const ready = (side: Side): GPUBuffer => {
      const given = this.#givenTo(side);
      if (isReadInPlace(call.request, plan, side, call.keysTransformed)) return this.#runtime.bufferOf(given);
      const [batch = 0, heads = 0, rows = 0] = given.shape;
      const target = this.#buffers.acquire(Math.max(4, 4 * batch * heads * rows * (side === 'value' ? plan.valueDim : plan.scoreDim)));
      stages.push(this.rows(rowsProgram(call.request, plan, side, side === 'key' && call.keysTransformed), side, given, target));
      return target;
    };
    this.#rows = { query: ready('query'), key: ready('key'), value: ready('value') };
    return { buffers: this.#rows, stages };
  }

  #givenTo(side: Side): Tensor {
    const given = this.#given.get(side);
    if (given === undefined) throw new RangeError(`the call has no ${side}`);
    return given;
  }

  /** Cosines and sines of all turning transforms of a side, one transform after another. */
  #turns(side: Side, positions: readonly number[]): Float32Array<ArrayBuffer> {
    const call = this.#call;
    const host = new HostValues(call);
    let width = side === 'query' ? call.request.queryDim : call.request.keyDim;
    const parts = transformsOf(call.request, side, call.keysTransformed).flatMap((transform) => {
      const turns = turnsWidth(transform, width) > 0 ? host.turns(transform, width, positions) : null;
      width = transformedWidth(transform, width);
      return turns === null ? [] : [turns];
    });
    const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

/** Tasks whose weights wait in scratch together. */
interface TaskGroup {
  readonly firstTask: number;
  /** Edges of all tasks before. */
  readonly firstEdge: number;
  readonly edges: number;
  /** Edges of each task. */
  readonly costs: readonly number[];
}

/** Every row of every head of every sequence, in runs of at most `most` edges, or of one row. */
function groupsOf({ sequences, heads, queryRows }: BoundCall, starts: ArrayLike<number>, most: number): readonly TaskGroup[] {
  const groups: TaskGroup[] = [];
  const tasks = sequences.length * heads * queryRows;
  let costs: number[] = [];
  let [firstEdge, edges] = [0, 0];
  for (let task = 0; task < tasks; task += 1) {
    const row = task % queryRows;
    const own = (starts[row + 1] ?? 0) - (starts[row] ?? 0);
    if (costs.length > 0 && edges + own > most) {
      groups.push({ firstTask: task - costs.length, firstEdge, edges, costs });
      [firstEdge, edges, costs] = [firstEdge + edges, 0, []];
    }
    edges += own;
    costs.push(own);
  }
  if (costs.length > 0) groups.push({ firstTask: tasks - costs.length, firstEdge, edges, costs });
  return groups;
}

/** @throws AttentionError `unsupported` for a call without edges, `foreign-tensor` */
function edgesOf({ edges, blocks }: BoundCall): { readonly starts: ArrayLike<number>; readonly keys: ArrayLike<number> } {
  if (blocks !== null) throw new AttentionError('unsupported', 'masking: the graph backend takes no block lists.', 'Pass edges, or use a backend over blocks.');
  if (edges === null) throw new AttentionError('unsupported', 'masking: the graph backend has no list of edges.', 'Pass { edges }; edgeListFromMask makes one from a mask. A dense backend needs none.');
  return { starts: dense('starts', edges.starts).view(), keys: dense('keys', edges.keys).view() };
}

/** One axis of neighbours. */
function dense(name: string, given: Tensor): HostTensor {
  if (!isHostTensor(given)) throw new AttentionError('foreign-tensor', `edges.${name} lives where the host cannot see it.`, 'Read it to the host first.');
  return given.strides[0] === 1 || (given.shape[0] ?? 0) < 2 ? given : tensor(Int32Array.from(toFloat64(given)), given.shape);
}
