import type { Declarations, FastWeightState, RowTransform, Tensor } from '@heed/core';
import { elementCount } from '@heed/core';
import type { ElementShader, ProgramSource, Stage, WebGpuRuntime } from '@heed/runtime-webgpu';
import { CallPieces, float32Of } from '../gpu/call-pieces.ts';
import { chunkedFields, chunkedPrograms, chunkNumbers, chunkTokens, type ChunkedPrograms } from './chunked.ts';
import type { StartedCall } from '../gpu/computation.ts';
import { inputsOfPlan, lanes as laneCount, type GpuPlan, type RuleInput } from './gpu-plan.ts';
import { fieldsOf } from '../gpu/module.ts';
import { laneRecord, recurrentFields, recurrentProgram, type LaneField } from './recurrent.ts';
import { rowsProgram } from '../gpu/rows.ts';
import type { LaneWork, Work } from './work.ts';

/** The programs of a plan. */
export interface Programs {
  readonly plan: GpuPlan;
  readonly recurrent: ProgramSource;
  /** Null where the order of the steps leaves the recurrent form alone. */
  readonly chunked: ChunkedPrograms | null;
  /** Null where rows are read as they lie. */
  readonly queryRows: ProgramSource | null;
  readonly keyRows: ProgramSource | null;
}

export function programsOf(plan: GpuPlan, declarations: Declarations): Programs {
  const rows = (side: 'query' | 'key', transforms: readonly RowTransform[], dim: number): ProgramSource | null => (transforms.length === 0 ? null : rowsProgram({ side, transforms, dim, dtype: plan.dtypes[side], declarations }));
  return { plan, recurrent: recurrentProgram(plan), chunked: plan.chunk === null ? null : chunkedPrograms(plan), queryRows: rows('query', plan.queryTransforms, plan.queryDim), keyRows: rows('key', plan.keyTransforms, plan.keyDim) };
}

/** Multiplications of one task at most: other work of the device, and a signal to stop, wait for no longer. */
const taskProducts = 4e6;

/** Every program that calls may need. */
export function sourcesOf({ recurrent, chunked, queryRows, keyRows }: Programs): readonly ProgramSource[] {
  return [recurrent, ...Object.values<ProgramSource>({ ...chunked }), queryRows, keyRows].filter((source) => source !== null);
}

/** Calls with fewer steps are walked token by token. */
const leastChunked = 2 * chunkTokens;

/** Most bytes of what stands between two passes of the chunked form. */
const scratchBytes = 32 * 2 ** 20;

/** A call whose buffers stand: its stages, then what makes outputs of what they wrote. */
export class LinearStages implements StartedCall {
  readonly stages: readonly Stage[];
  readonly #runtime: WebGpuRuntime;
  readonly #pieces: CallPieces;
  readonly #programs: Programs;
  readonly #work: Work;
  readonly #output: Tensor;
  /** Rows of the output in float32: the tensor's own buffer where it can be. */
  readonly #wide: GPUBuffer;

  /** @param state tensors of float32 that receive the final state */
  constructor(runtime: WebGpuRuntime, programs: Programs, work: Work, output: Tensor, state: FastWeightState) {
    this.#runtime = runtime;
    this.#programs = programs;
    this.#work = work;
    this.#output = output;
    this.#pieces = new CallPieces(runtime, work);
    try {
      const { plan, queryRows, keyRows } = programs;
      const direct = output.dtype === 'f32' && plan.epsilon === null;
      this.#wide = direct ? runtime.bufferOf(output) : this.#pieces.buffers.acquire(4 * Math.max(1, elementCount(work.outputShape.slice(0, -1)) * plan.columns));
      if (work.hasEmptyRows) this.#pieces.operations.run(zeros, elementCount(work.outputShape.slice(0, -1)) * plan.columns, [], [], this.#wide);
      const [query, queryStages] = this.#pieces.rows({ program: queryRows, transforms: plan.queryTransforms, given: work.query, places: work.queryRows });
      const [key, keyStages] = this.#pieces.rows({ program: keyRows, transforms: plan.keyTransforms, given: work.key, places: work.keyRows });
      const value = this.#pieces.operations.dense(work.value);
      this.stages = [...queryStages, ...keyStages, ...this.#walk({ query, key, value }, state)];
    } catch (error) {
      this.release();
      throw error;
    }
  }

  end(): void {
    const { plan } = this.#programs;
    const { operations, buffers, values } = this.#pieces;
    if (plan.epsilon !== null) {
      const count = elementCount(this.#work.outputShape);
      const divided = this.#output.dtype === 'f32' ? this.#runtime.bufferOf(this.#output) : buffers.acquire(4 * Math.max(1, count));
      operations.run(divide, count, [plan.valueDim, values.scalar(plan.scale), values.scalar(plan.epsilon)], [this.#wide], divided);
      if (this.#output.dtype !== 'f32') operations.write(divided, 'f32', this.#output);
    } else if (this.#output.dtype !== 'f32') operations.write(this.#wide, 'f32', this.#output);
    this.release();
  }

  release(): void {
    this.#pieces.release();
  }

  /** Every lane, some steps at a time. */
  #walk({ query, key, value }: { readonly query: GPUBuffer; readonly key: GPUBuffer; readonly value: GPUBuffer }, state: FastWeightState): readonly Stage[] {
    const { plan, recurrent } = this.#programs;
    const { lanes, before } = this.#work;
    const { operations, buffers, values } = this.#pieces;
    const states = Object.entries(state).map(([name, target]) => {
      const given = before?.[name];
      if (given !== undefined) operations.write(operations.dense(float32Of(given)), 'f32', target);
      return this.#runtime.bufferOf(target);
    });
    const inputs = this.#pieces.concatenated(inputsOfPlan(plan).flatMap((name) => {
      const source = this.#work.inputs[name];
      return source === undefined ? [] : [[name, source] as const];
    }));
    const integers = buffers.words(Int32Array.from(lanes.flatMap((lane, index) => laneRecord.map((field) => fieldOf(lane, index, inputs.starts, field)))));
    const blocks = Math.ceil(plan.columns / plan.blockColumns);
    const perStep = 3 * plan.width * plan.blockColumns;
    const most = Math.max(1, Math.floor(taskProducts / perStep));
    const longest = Math.max(0, ...lanes.map(stepsOf));
    const scale = values.scalar(plan.scale);
    const { chunked } = this.#programs;
    if (chunked !== null && longest >= leastChunked) return this.#chunks(chunked, longest, { query, key, value, inputs: inputs.buffer, integers, states, scale });
    return Array.from({ length: Math.max(1, Math.ceil(longest / most)) }, (_, segment): Stage => ({
      source: recurrent,
      buffers: [query, key, value, inputs.buffer, integers, ...states, this.#wide],
      fields: fieldsOf({ fields: recurrentFields }),
      values: { firstStep: segment * most, endStep: (segment + 1) * most, isFresh: Number(segment === 0 && before === undefined), scale },
      costs: lanes.flatMap((lane) => new Array<number>(blocks).fill(perStep * Math.max(1, Math.min(most, stepsOf(lane) - segment * most)))),
    }));
  }

  /** Some chunks of every lane at a time, so that what stands between the passes stays within bounds. */
  #chunks(programs: ChunkedPrograms, longest: number, { query, key, value, inputs, integers, states, scale }: WalkBuffers): readonly Stage[] {
    const { plan } = this.#programs;
    const { lanes, before } = this.#work;
    const { buffers } = this.#pieces;
    const numbers = chunkNumbers(plan);
    const total = Math.ceil(longest / chunkTokens);
    const perLane = 4 * lanes.length * Math.max(numbers.factors, numbers.states);
    const most = Math.min(total, Math.max(1, Math.floor(scratchBytes / perLane)));
    const factors = buffers.acquire(4 * lanes.length * most * numbers.factors);
    const kept = buffers.acquire(4 * lanes.length * most * numbers.states);
    const fields = fieldsOf({ fields: chunkedFields });
    const blocks = { states: Math.ceil(plan.columns / plan.blockColumns), outputs: Math.ceil(plan.columns / laneCount) };
    const rowProducts = chunkTokens * plan.width;
    return Array.from({ length: Math.ceil(total / most) }, (_, segment): readonly Stage[] => {
      const firstChunk = segment * most;
      const chunks = Math.min(most, total - firstChunk);
      const common = { fields, values: { firstChunk, chunks, isFresh: Number(segment === 0 && before === undefined), scale, width: plan.width, columns: plan.columns, valueDim: plan.valueDim, tokens: chunkTokens } };
      const tasks = (count: number, cost: number): readonly number[] => new Array<number>(count).fill(cost);
      return [
        { ...common, source: programs.factors, buffers: [query, key, inputs, integers, factors], costs: tasks(lanes.length * chunks, rowProducts * chunkTokens * (plan.recall === null ? 1 : 4)) },
        { ...common, source: programs.states, buffers: [value, integers, factors, ...states, kept], costs: tasks(lanes.length * blocks.states, chunks * rowProducts * plan.blockColumns * (plan.recall === null ? 1 : 3)) },
        { ...common, source: programs.outputs, buffers: [value, integers, factors, kept, this.#wide], costs: tasks(lanes.length * chunks * blocks.outputs, rowProducts * laneCount) },
      ];
    }).flat();
  }
}

/** Buffers of a call that kernels over the state read and write. */
interface WalkBuffers {
  readonly query: GPUBuffer;
  readonly key: GPUBuffer;
  readonly value: GPUBuffer;
  readonly inputs: GPUBuffer;
  readonly integers: GPUBuffer;
  readonly states: readonly GPUBuffer[];
  readonly scale: number;
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

const zeros: ElementShader = { name: 'zeros', reads: {}, result: 'f32', body: (writer) => writer.line('result[place] = 0.0f;') };

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
