import type { Declarations, FastWeightState, RowTransform, Tensor } from '@heed/core';
import { elementCount } from '@heed/core';
import type { ElementShader, ProgramSource, Stage, WebGpuRuntime } from '@heed/runtime-webgpu';
import { CallPieces, float32Of } from './call-pieces.ts';
import type { StartedCall } from './computation.ts';
import { inputsOfPlan, type GpuPlan, type RuleInput } from './gpu-plan.ts';
import { fieldsOf } from './module.ts';
import { laneRecord, recurrentFields, recurrentProgram, type LaneField } from './recurrent.ts';
import { rowsProgram } from './rows.ts';
import type { LaneWork, Work } from './work.ts';

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
    return Array.from({ length: Math.max(1, Math.ceil(longest / most)) }, (_, segment): Stage => ({
      source: recurrent,
      buffers: [query, key, value, inputs.buffer, integers, ...states, this.#wide],
      fields: fieldsOf({ fields: recurrentFields }),
      values: { firstStep: segment * most, endStep: (segment + 1) * most, isFresh: Number(segment === 0 && before === undefined), scale },
      costs: lanes.flatMap((lane) => new Array<number>(blocks).fill(perStep * Math.max(1, Math.min(most, stepsOf(lane) - segment * most)))),
    }));
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
