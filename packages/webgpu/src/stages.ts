import type { AttentionRequest, Tensor } from '@heed/core';
import { HostValues, type BoundCall, type BoundKeys, type ObservedShape } from '@heed/core/compute';
import { operationCall, sharedValues, turnsWidth, writeTables, type CallBuffers, type ProgramSource, type Stage, type WebGpuRuntime } from '@heed/runtime-webgpu';
import { decodeProgram, partWidth } from './kernels/decode.ts';
import { mergeProgram } from './kernels/merge.ts';
import { prefillProgram } from './kernels/prefill.ts';
import { rowsProgram } from './kernels/threshold.ts';
import { isReadInPlace, transformProgram, transformsOf, type Side } from './kernels/transform.ts';
import { transformedWidth } from '@heed/core';
import { parameterFields } from './parameters.ts';
import type { Plan } from './plan.ts';
import { Integers, mergeFields, runFields, splitFields, taskFields } from './records.ts';
import { isSplit, splitSchedule } from './splits.ts';
import { blockKeyOf, blockQueryOf } from './tiles.ts';
import { observedTasks, scheduleOf, tilesOf, withGaps, type BlockTask } from './schedule.ts';

/** A request's main program, and those that make its rows ready. */
export interface Programs {
  readonly request: AttentionRequest;
  readonly plan: Plan;
  readonly attention: ProgramSource;
  /** Programs for sequences of few queries over many keys; null where whole rows are needed at once. */
  readonly decode: { readonly split: ProgramSource; readonly merge: ProgramSource } | null;
  /** Programs for the sides that are not read as they lie. */
  readonly rows: readonly ProgramSource[];
}

export function programsOf(request: AttentionRequest, plan: Plan): Programs {
  const sides: readonly Side[] = ['query', 'key', 'value'];
  return {
    request,
    plan,
    attention: plan.path === 'online' ? prefillProgram(request, plan) : rowsProgram(request, plan),
    decode: plan.path === 'online' ? { split: decodeProgram(request, plan), merge: mergeProgram(request, plan) } : null,
    rows: sides.filter((side) => !isReadInPlace(request, plan, side, false)).map((side) => transformProgram(request, plan, side)),
  };
}

/** Most bytes of the scores of rows that are held at once. */
const scratchBytes = 32 * 2 ** 20;

/** What both kinds of bound calls have. */
type AnyCall = BoundCall | BoundKeys;

/** Writes the records of one call and turns it into stages. */
export class CallStages {
  readonly #runtime: WebGpuRuntime;
  readonly #buffers: CallBuffers;
  readonly #call: AnyCall;
  readonly #values: Readonly<Record<string, number>>;
  readonly #tables: GPUBuffer;
  readonly #given: Readonly<Record<Side, Tensor | undefined>>;
  /** Float32 rows of each side, made once. */
  #rows: { readonly buffers: Readonly<Record<Side, GPUBuffer>>; readonly stages: readonly Stage[] } | undefined;

  constructor(runtime: WebGpuRuntime, buffers: CallBuffers, call: AnyCall) {
    this.#runtime = runtime;
    this.#buffers = buffers;
    this.#call = call;
    const { buffer, values } = operationCall(runtime, (operations) => writeTables(operations, buffers, call));
    this.#tables = buffer;
    this.#values = { ...values, ...sharedValues(call) };
    const inputs = 'inputs' in call ? call.inputs : undefined;
    this.#given = {
      query: inputs === undefined ? undefined : buffers.onDevice(inputs.query),
      key: inputs === undefined ? undefined : buffers.onDevice(inputs.key),
      value: inputs === undefined ? undefined : inputs.value === inputs.key ? undefined : buffers.onDevice(inputs.value),
    };
  }

  /** Buffers that hold query, key and value as they were given. */
  inputs(): readonly GPUBuffer[] {
    return Object.values(this.#given).filter((tensor) => tensor !== undefined).map((tensor) => this.#runtime.bufferOf(tensor));
  }

  /** Rows made ready, then attention over all of them. */
  attention(programs: Programs, targets: { readonly output: GPUBuffer; readonly statistics: GPUBuffer }): readonly Stage[] {
    const call = this.#attentionCall();
    const rows = this.#readyRows(call, programs);
    const tasks = scheduleOf(call, programs.plan);
    const splits = call.sequences.some((sequence) => isSplit(call, programs.plan, sequence)) ? this.#overParts(call, programs, targets) : [];
    return [...rows, ...(tasks.length > 0 ? [this.#overPairs(call, programs, tasks, null, targets)] : []), ...splits];
  }

  /** A pass that looks at one stage of the chosen rows. */
  observed(programs: Programs, target: GPUBuffer, shape: ObservedShape): readonly Stage[] {
    const call = this.#attentionCall();
    const everywhere = programs.plan.observed === 'scores' || programs.plan.observed === 'modified';
    const tasks = observedTasks(call, programs.plan, shape).map((task) => (everywhere ? { ...task, runs: withGaps(task.runs, call.sequences[task.sequence]?.keyLength ?? 0) } : task));
    const rows = this.#readyRows(call, programs);
    return [...rows, this.#overPairs(call, programs, tasks, shape, { output: target, statistics: this.#buffers.acquire(4) })];
  }

  /** The program that makes rows of one side ready. */
  rows(source: ProgramSource, side: Side, given: Tensor, target: GPUBuffer): Stage {
    const call = this.#call;
    const heads = side === 'query' ? call.heads : call.keyHeads;
    const integers = new Integers();
    const sequencesAt = integers.sequences(call.sequences);
    const records: number[] = [];
    const positions: number[] = [];
    for (const [index, sequence] of call.sequences.entries()) {
      const [rows, list, offset] = side === 'query' ? [sequence.queryRows, sequence.queryPositions, sequence.queryOffset] : [sequence.keyRows, sequence.keyPositions, sequence.keyOffset];
      for (let row = 0; row < rows; row += 1) {
        records.push(index, row);
        positions.push(list?.[row] ?? offset + row);
      }
    }
    const tasksAt = integers.list(records);
    const turns = this.#turns(side, positions);
    return {
      source,
      buffers: [this.#runtime.bufferOf(this.#buffers.onDevice(given)), this.#buffers.words(integers.words()), this.#tables, this.#buffers.words(turns), target],
      fields: parameterFields(call.request.variant),
      values: { ...this.#values, heads, keyHeads: call.keyHeads, queryRows: given.shape[2] ?? 0, keyRows: given.shape[2] ?? 0, sequencesAt, tasksAt, rowCount: positions.length },
      costs: new Array<number>(positions.length * heads).fill((given.shape[3] ?? 0) * 8),
    };
  }

  /** Cosines and sines of all turning transforms of a side, one transform after another. */
  #turns(side: Side, positions: readonly number[]): Float32Array<ArrayBuffer> {
    const call = this.#call;
    if (side === 'key' && call.keysTransformed) return new Float32Array(0);
    const host = new HostValues(call);
    let width = side === 'query' ? call.request.queryDim : call.request.keyDim;
    const parts: Float32Array[] = [];
    for (const transform of transformsOf(call.request, side)) {
      if (turnsWidth(transform, width) > 0) parts.push(host.turns(transform, width, positions) ?? new Float32Array(0));
      width = transformedWidth(transform, width);
    }
    const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  #attentionCall(): BoundCall {
    if (!('inputs' in this.#call)) throw new RangeError('the call has keys alone');
    return this.#call;
  }

  /** The stages that make rows ready, the first time; they serve every pass of the call. */
  #readyRows(call: BoundCall, { plan }: Programs): readonly Stage[] {
    if (this.#rows !== undefined) return [];
    const stages: Stage[] = [];
    const ready = (side: Side): GPUBuffer => {
      const given = this.#given[side] ?? this.#given.key;
      if (given === undefined) throw new RangeError(`the call has no ${side}`);
      if (isReadInPlace(call.request, plan, side, call.keysTransformed)) return this.#runtime.bufferOf(given);
      const [batch = 0, heads = 0, rows = 0] = given.shape;
      const target = this.#buffers.acquire(4 * batch * heads * rows * (side === 'value' ? plan.valueDim : plan.scoreDim));
      stages.push(this.rows(transformProgram(call.request, plan, side, side === 'key' && call.keysTransformed), side, given, target));
      return target;
    };
    this.#rows = { buffers: { query: ready('query'), key: ready('key'), value: ready('value') }, stages };
    return stages;
  }

  /** Parts of the rows whose keys are split, then what brings them together. */
  #overParts(call: BoundCall, { plan, decode }: Programs, { output, statistics }: { readonly output: GPUBuffer; readonly statistics: GPUBuffer }): readonly Stage[] {
    const rows = this.#rows?.buffers;
    if (decode === null || rows === undefined) throw new RangeError('parts are of one walk over rows that are ready');
    const { splits, merges } = splitSchedule(call, plan);
    const integers = new Integers();
    const sequencesAt = integers.sequences(call.sequences);
    const lists = new Map<object, number>();
    const listOf = (members: (typeof splits)[number]['rows']): number => {
      const at = lists.get(members) ?? integers.list(members.flatMap(({ head, index }) => [head, index]));
      lists.set(members, at);
      return at;
    };
    const records = splits.flatMap((task) => {
      const fields: Readonly<Record<(typeof splitFields)[number], number>> = { ...task, rowsAt: listOf(task.rows), rowCount: task.rows.length, mixed: Number(task.mixed) };
      return splitFields.map((field) => fields[field]);
    });
    const splitsAt = integers.list(records);
    const mergesAt = integers.list(merges.flatMap((task) => {
      const fields: Readonly<Record<(typeof mergeFields)[number], number>> = { ...task, queryIndex: task.index };
      return mergeFields.map((field) => fields[field]);
    }));
    const words = this.#buffers.words(integers.words());
    const rowNumbers = plan.tile.walkerRows * partWidth(plan);
    const parts = this.#buffers.acquire(4 * rowNumbers * Math.max(1, splits.length));
    const shared = { fields: parameterFields(call.request.variant) };
    const values = { ...this.#values, heads: call.heads, keyHeads: call.keyHeads, queryRows: call.queryRows, keyRows: call.keyRows, sequencesAt, rowCount: call.rowShape.reduce((product, size) => product * size, 1) };
    return [
      {
        ...shared,
        source: decode.split,
        buffers: [rows.query, rows.key, rows.value, words, this.#tables, parts],
        values: { ...values, tasksAt: splitsAt },
        costs: splits.map(({ first, end }) => (end - first) * plan.tile.walkerRows * (plan.scoreDim + plan.valueDim)),
      },
      {
        ...shared,
        source: decode.merge,
        buffers: [parts, words, this.#tables, output, statistics],
        values: { ...values, tasksAt: mergesAt },
        costs: merges.map(({ partCount }) => (partCount + 1) * partWidth(plan)),
      },
    ];
  }

  #overPairs(call: BoundCall, { plan, attention }: Programs, tasks: readonly BlockTask[], shape: ObservedShape | null, { output, statistics }: { readonly output: GPUBuffer; readonly statistics: GPUBuffer }): Stage {
    const integers = new Integers();
    const sequencesAt = integers.sequences(call.sequences);
    const runLists = new Map<BlockTask['runs'], readonly number[]>();
    const records = tasks.flatMap((task) => {
      const runs = runLists.get(task.runs) ?? task.runs.flatMap(({ first, end, mixed }) => [first, end, Number(mixed)]);
      runLists.set(task.runs, runs);
      const fields: Readonly<Record<(typeof taskFields)[number], number>> = {
        sequence: task.sequence,
        head: task.head,
        rowsAt: integers.list(task.rows),
        rowCount: task.rows.length,
        runsAt: integers.list(runs),
        runCount: runs.length / runFields.length,
        observedAt: shape === null ? 0 : integers.list(observedRows(call, task, shape)),
      };
      return taskFields.map((field) => fields[field]);
    });
    const tasksAt = integers.list(records);
    const tiles = tasks.map((task) => tilesOf(task, plan));
    const scratchStride = blockKeyOf(plan.tile) * tiles.reduce((most, count) => Math.max(most, count), 1);
    const perTask = 4 * blockQueryOf(plan.tile) * scratchStride;
    const mostTasks = Math.max(1, Math.floor(scratchBytes / perTask));
    const rows = this.#rows?.buffers;
    if (rows === undefined) throw new RangeError('rows are made ready first');
    const usesScratch = plan.path === 'rows';
    return {
      source: attention,
      buffers: [
        rows.query, rows.key, rows.value, this.#buffers.words(integers.words()), this.#tables, output, statistics,
        ...(usesScratch ? [this.#buffers.acquire(perTask * Math.min(mostTasks, Math.max(1, tasks.length)))] : []),
      ],
      fields: parameterFields(call.request.variant),
      values: { ...this.#values, heads: call.heads, keyHeads: call.keyHeads, queryRows: call.queryRows, keyRows: call.keyRows, sequencesAt, tasksAt, scratchStride, rowCount: call.rowShape.reduce((product, size) => product * size, 1) },
      costs: tiles.map((count) => (count + 1) * blockQueryOf(plan.tile) * blockKeyOf(plan.tile) * (plan.scoreDim + plan.valueDim)),
      ...(usesScratch ? { mostTasks } : {}),
    };
  }
}


/** Where each row of a task stands among the rows that are looked at, counted over batch and heads. */
function observedRows(call: BoundCall, { sequence, head, rows }: BlockTask, shape: ObservedShape): readonly number[] {
  const bound = call.sequences[sequence];
  if (bound === undefined) return [];
  const plane = bound.tensorBatch * shape.heads.length + shape.heads.indexOf(head);
  return rows.map((row) => plane * shape.rows.length + shape.rows.indexOf(row + bound.queryStart));
}
