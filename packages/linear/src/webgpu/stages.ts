import type { Declarations, HostTensor, RowTransform, Tensor } from '@heed/core';
import { elementCount, isHostTensor, tensor, toFloat64, transformedWidth } from '@heed/core';
import { HostValues } from '@heed/core/compute';
import { CallBuffers, OperationCall, sharedValues, turnsWidth, writeTables, type ElementShader, type ProgramSource, type Stage, type WebGpuRuntime } from '@heed/runtime-webgpu';
import { inputsOfPlan, type GpuPlan, type RuleInput } from './gpu-plan.ts';
import { fieldsOf } from './module.ts';
import { laneRecord, recurrentFields, recurrentProgram, type LaneField } from './recurrent.ts';
import { rowFields, rowsProgram } from './rows.ts';
import type { LaneWork, RowPlace, Work } from './work.ts';

/** The programs of a plan. */
export interface Programs {
  readonly plan: GpuPlan;
  readonly recurrent: ProgramSource;
  /** Null where rows are read as they lie. */
  readonly queryRows: ProgramSource | null;
  readonly keyRows: ProgramSource | null;
}

export function programsOf(plan: GpuPlan, declarations: Declarations): Programs {
  const rows = (side: 'query' | 'key', transforms: readonly RowTransform[], dim: number): ProgramSource | null => (transforms.length === 0 ? null : rowsProgram({ side, transforms, dim, dtype: plan.dtypes[side], declarations }));
  return { plan, recurrent: recurrentProgram(plan), queryRows: rows('query', plan.queryTransforms, plan.queryDim), keyRows: rows('key', plan.keyTransforms, plan.keyDim) };
}

/** Multiplications of one task at most: other work of the device, and a signal to stop, wait for no longer. */
const taskProducts = 4e6;

/** A call whose buffers stand: its stages, then what makes outputs of what they wrote. */
export class LinearStages {
  readonly stages: readonly Stage[];
  readonly #runtime: WebGpuRuntime;
  readonly #buffers: CallBuffers;
  readonly #operations: OperationCall;
  readonly #programs: Programs;
  readonly #work: Work;
  readonly #values: HostValues;
  readonly #output: Tensor;
  /** Rows of the output in float32: the tensor's own buffer where it can be. */
  readonly #wide: GPUBuffer;

  /** @param state tensors of float32 that receive the final state */
  constructor(runtime: WebGpuRuntime, programs: Programs, work: Work, output: Tensor, state: Readonly<Record<string, Tensor>>) {
    this.#runtime = runtime;
    this.#programs = programs;
    this.#work = work;
    this.#output = output;
    this.#buffers = new CallBuffers(runtime);
    this.#operations = new OperationCall(runtime);
    this.#values = new HostValues({ uniforms: work.uniforms, tables: work.tables, heads: work.heads, keyHeads: work.keyHeads, headOffset: 0 });
    try {
      const { plan } = programs;
      const direct = output.dtype === 'f32' && plan.epsilon === null;
      this.#wide = direct ? runtime.bufferOf(output) : this.#buffers.acquire(4 * Math.max(1, elementCount(work.outputShape.slice(0, -1)) * plan.columns));
      const tables = writeTables(this.#operations, this.#buffers, work);
      const [query, queryStages] = this.#rows('query', programs.queryRows, tables);
      const [key, keyStages] = this.#rows('key', programs.keyRows, tables);
      const value = this.#operations.dense(work.value);
      this.stages = [...queryStages, ...keyStages, ...this.#walk({ query, key, value }, state)];
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** After the last stage was submitted. */
  end(): void {
    const { plan } = this.#programs;
    if (plan.epsilon !== null) {
      const count = elementCount(this.#work.outputShape);
      const divided = this.#output.dtype === 'f32' ? this.#runtime.bufferOf(this.#output) : this.#buffers.acquire(4 * Math.max(1, count));
      this.#operations.run(divide, count, [plan.valueDim, this.#values.scalar(plan.scale), this.#values.scalar(plan.epsilon)], [this.#wide], divided);
      if (this.#output.dtype !== 'f32') this.#operations.write(divided, 'f32', this.#output);
    } else if (this.#output.dtype !== 'f32') this.#operations.write(this.#wide, 'f32', this.#output);
    this.release();
  }

  release(): void {
    this.#operations.end();
    this.#buffers.release();
  }

  /** Rows of one side in float32, [batch, heads, rows, width]. */
  #rows(side: 'query' | 'key', source: ProgramSource | null, { buffer: tables, values }: { readonly buffer: GPUBuffer; readonly values: Readonly<Record<string, number>> }): readonly [GPUBuffer, readonly Stage[]] {
    const work = this.#work;
    const { plan } = this.#programs;
    const given = work[side];
    if (source === null) return [this.#operations.dense(given), []];
    const [batch = 0, heads = 0, rows = 0, dim = 0] = given.shape;
    const places = side === 'query' ? work.queryRows : work.keyRows;
    const transforms = side === 'query' ? plan.queryTransforms : plan.keyTransforms;
    const target = this.#buffers.acquire(4 * Math.max(1, batch * heads * rows * plan.width));
    const records = Int32Array.from(places.flatMap(({ tensorBatch, row, batch: sequence, index, position }) => [tensorBatch, row, sequence, index, position]));
    return [target, [{
      source,
      buffers: [this.#runtime.bufferOf(this.#buffers.onDevice(given)), this.#buffers.words(records), tables, this.#buffers.words(this.#turns(transforms, dim, places)), target],
      fields: fieldsOf({ fields: rowFields, declarations: work.declarations }),
      values: { ...values, ...sharedValues(work), heads, rows, rowCount: places.length },
      costs: new Array<number>(places.length * heads).fill(8 * dim),
    }]];
  }

  #turns(transforms: readonly RowTransform[], dim: number, places: readonly RowPlace[]): Float32Array<ArrayBuffer> {
    const positions = places.map(({ position }) => position);
    let width = dim;
    const parts = transforms.flatMap((transform) => {
      const turns = turnsWidth(transform, width) > 0 ? this.#values.turns(transform, width, positions) : null;
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

  /** Every lane, some steps at a time. */
  #walk({ query, key, value }: { readonly query: GPUBuffer; readonly key: GPUBuffer; readonly value: GPUBuffer }, state: Readonly<Record<string, Tensor>>): readonly Stage[] {
    const { plan, recurrent } = this.#programs;
    const { lanes, before } = this.#work;
    const states = Object.entries(state).map(([name, target]) => {
      const given = before?.[name];
      if (given !== undefined) this.#operations.write(this.#operations.dense(float32Of(given)), 'f32', target);
      return this.#runtime.bufferOf(target);
    });
    const inputs = this.#inputs();
    const integers = this.#buffers.words(Int32Array.from(lanes.flatMap((lane, index) => laneRecord.map((field) => fieldOf(lane, index, inputs.starts, field)))));
    const blocks = Math.ceil(plan.columns / plan.blockColumns);
    const perStep = 3 * plan.width * plan.blockColumns;
    const most = Math.max(1, Math.floor(taskProducts / perStep));
    const longest = Math.max(0, ...lanes.map(stepsOf));
    const scale = this.#values.scalar(plan.scale);
    return Array.from({ length: Math.max(1, Math.ceil(longest / most)) }, (_, segment): Stage => ({
      source: recurrent,
      buffers: [query, key, value, inputs.buffer, integers, ...states, this.#wide],
      fields: fieldsOf({ fields: recurrentFields }),
      values: { firstStep: segment * most, endStep: (segment + 1) * most, isFresh: Number(segment === 0 && before === undefined), scale },
      costs: lanes.flatMap((lane) => new Array<number>(blocks).fill(perStep * Math.max(1, Math.min(most, stepsOf(lane) - segment * most)))),
    }));
  }

  /** What the rule reads besides, one after another in one buffer, and where each begins. */
  #inputs(): { readonly buffer: GPUBuffer; readonly starts: Readonly<Partial<Record<RuleInput, number>>> } {
    const given = inputsOfPlan(this.#programs.plan).flatMap((name) => {
      const source = this.#work.inputs[name];
      return source === undefined ? [] : [{ name, source: float32Of(source), count: elementCount(source.shape) }];
    });
    const starts: Partial<Record<RuleInput, number>> = {};
    let length = 0;
    for (const { name, count } of given) {
      starts[name] = length;
      length += count;
    }
    const [only] = given;
    if (given.length === 1 && only !== undefined) return { buffer: this.#operations.dense(only.source), starts };
    const buffer = this.#buffers.acquire(Math.max(4, 4 * length));
    for (const { name, source, count } of given) this.#runtime.copyBytes(this.#operations.dense(source), buffer, 4 * (starts[name] ?? 0), 4 * count);
    return { buffer, starts };
  }
}

/** Steps of a lane: from its first key or query to its last. */
function stepsOf({ queryCount, keyCount, shift }: LaneWork): number {
  return Math.max(keyCount, queryCount + shift) - Math.min(shift, 0);
}

function fieldOf(lane: LaneWork, index: number, starts: Readonly<Partial<Record<RuleInput, number>>>, field: LaneField): number {
  switch (field) {
    case 'steps':
      return stepsOf(lane);
    case 'state':
      return index;
    case 'logDecay':
    case 'writeStrength':
    case 'removalKey':
    case 'removalWeight':
      return (lane.inputs[field]?.at ?? 0) + (starts[field] ?? 0);
    case 'logDecayStep':
    case 'writeStrengthStep':
    case 'removalKeyStep':
    case 'removalWeightStep':
      return lane.inputs[field.slice(0, -'Step'.length) as RuleInput]?.step ?? 0;
    default:
      return lane[field];
  }
}

/** float64 of the host as float32; devices have none. */
function float32Of(given: Tensor): Tensor {
  return given.runtime === null && given.dtype === 'f64' && isHostTensor(given) ? (tensor(Float32Array.from(toFloat64(given)), given.shape) satisfies HostTensor) : given;
}

const divide: ElementShader = {
  name: 'divide by the row sum',
  reads: { numerators: 'f32' },
  result: 'f32',
  fields: [['valueDim', 'u32'], ['scale', 'f32'], ['epsilon', 'f32']],
  body: (writer) => {
    writer.line('let at = place / parameters.valueDim * (parameters.valueDim + 1u);', 'let divisor = fma(parameters.scale, numerators[at + parameters.valueDim], parameters.epsilon);');
    writer.line('let numerator = parameters.scale * numerators[at + place % parameters.valueDim];', '// A row without keys reads nothing.', 'result[place] = select(numerator / divisor, 0.0f, numerator == 0.0f && divisor == 0.0f);');
  },
};

