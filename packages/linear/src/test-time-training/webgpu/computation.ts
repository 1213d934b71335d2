import type { FastWeightRequest, FastWeightState, RowTransform, Tensor } from '@heed/core';
import { elementCount } from '@heed/core';
import { fastWeightDTypes, type BoundFastWeights } from '@heed/core/compute';
import type { ProgramSource, Stage, WebGpuRuntime } from '@heed/runtime-webgpu';
import type { FloatStorage } from '../../plan.ts';
import { CallPieces } from '../../gpu/call-pieces.ts';
import type { Computation, StartedCall } from '../../gpu/computation.ts';
import { fieldsOf } from '../../gpu/module.ts';
import { rowsProgram } from '../../gpu/rows.ts';
import { inputPlace, rowPlaces } from '../../gpu/places.ts';
import { describeTraining } from '../describe.ts';
import { productsOf, type TrainingPlan } from '../plan.ts';
import { advanceFields, advanceProgram, beginProgram, endProgram, stateField, stateFields, trainingInputs, trainingRecord, type TrainingField } from './programs.ts';

/** Multiplications of one task at most. */
const taskProducts = 4e6;

interface Programs {
  readonly begin: ProgramSource;
  readonly advance: ProgramSource;
  readonly end: ProgramSource;
  readonly queryRows: ProgramSource | null;
  readonly keyRows: ProgramSource | null;
}

/** Rules that train while the sequence passes, on the GPU. */
export function trainingComputation(runtime: WebGpuRuntime, request: FastWeightRequest, plan: TrainingPlan): Computation {
  const { variant, dim } = request;
  const dtypes = fastWeightDTypes(request);
  const rows = (side: 'query' | 'key', transforms: readonly RowTransform[]): ProgramSource | null => (transforms.length === 0 ? null : rowsProgram({ side, transforms, dim, dtype: dtypes[side] as FloatStorage, declarations: variant }));
  const programs: Programs = { begin: beginProgram(plan, variant), advance: advanceProgram(plan), end: endProgram(plan), queryRows: rows('query', variant.queryTransforms), keyRows: rows('key', variant.keyTransforms) };
  return {
    programs: Object.values<ProgramSource | null>({ ...programs }).filter((source) => source !== null),
    outputDtype: dtypes.output,
    plan: describeTraining(plan),
    start: (call, output, state) => startTraining(runtime, plan, programs, call, output, state),
  };
}

function startTraining(runtime: WebGpuRuntime, plan: TrainingPlan, programs: Programs, call: BoundFastWeights, output: Tensor, state: FastWeightState): StartedCall {
  const { inputs, request, heads, valueHeads, length, sequences } = call;
  const { variant } = request;
  const pieces = new CallPieces(runtime, { declarations: variant, tables: call.tables, uniforms: call.uniforms, heads, keyHeads: heads });
  try {
    const places = rowPlaces(call, variant.positionPeriod);
    const [query, queryStages] = pieces.rows({ program: programs.queryRows, transforms: variant.queryTransforms, given: inputs.query, places });
    const [key, keyStages] = pieces.rows({ program: programs.keyRows, transforms: variant.keyTransforms, given: inputs.key, places });
    const value = pieces.operations.dense(inputs.value);
    const extra = pieces.concatenated(trainingInputs.flatMap((name) => (inputs[name] === undefined ? [] : [[name, inputs[name]] as const])));
    const wide = output.dtype === 'f32' ? runtime.bufferOf(output) : pieces.buffers.acquire(Math.max(4, 4 * elementCount(output.shape)));
    const kept = stateBuffer(pieces, call, state);
    const lanes = sequences.flatMap((sequence) => Array.from({ length: valueHeads }, (_, valueHead) => ({ sequence, valueHead, head: Math.floor((valueHead * heads) / valueHeads) })));
    const integers = pieces.buffers.words(Int32Array.from(lanes.flatMap(({ sequence, valueHead, head }) => {
      const row = (headCount: number, at: number): number => (sequence.tensorBatch * headCount + at) * length + sequence.start;
      const place = (name: (typeof trainingInputs)[number]): readonly [number, number] => {
        const { at, step } = inputPlace(inputs[name], sequence.tensorBatch, valueHead, sequence.start);
        return [at + (extra.starts[name] ?? 0), step];
      };
      const [strength, decay, momentum] = trainingInputs.map(place);
      const fields: Readonly<Record<TrainingField, number>> = {
        queryRow: row(heads, head), keyRow: row(heads, head), valueRow: row(valueHeads, valueHead), outputRow: row(valueHeads, valueHead), length: sequence.length, sequence: sequence.index, valueHead,
        headLane: sequence.index * heads + head, isFirst: Number(valueHead === 0 || Math.floor(((valueHead - 1) * heads) / valueHeads) !== head),
        writeStrength: strength?.[0] ?? 0, writeStrengthStep: strength?.[1] ?? 0, logDecay: decay?.[0] ?? 0, logDecayStep: decay?.[1] ?? 0, momentum: momentum?.[0] ?? 0, momentumStep: momentum?.[1] ?? 0,
      };
      return trainingRecord.map((field) => fields[field]);
    })));
    const work = pieces.buffers.acquire(Math.max(4, 4 * plan.size * lanes.length));
    const counts = pieces.buffers.acquire(Math.max(4, 4 * lanes.length));
    const values = { ...pieces.tables.values, ...kept.starts, isFresh: Number(inputs.state === undefined) };
    const laneCosts = (cost: number): readonly number[] => new Array<number>(lanes.length).fill(cost);
    const begin: Stage = { source: programs.begin, buffers: [pieces.tables.buffer, kept.buffer, integers, work, counts], fields: fieldsOf({ fields: stateFields(plan), declarations: variant }), values, costs: laneCosts(2 * plan.size) };
    const end: Stage = { source: programs.end, buffers: [work, integers, counts, kept.after], fields: fieldsOf({ fields: stateFields(plan) }), values, costs: laneCosts(plan.size) };
    const perToken = productsOf(plan);
    const most = Math.max(1, Math.floor(taskProducts / (perToken * plan.block))) * plan.block;
    const longest = Math.max(0, ...sequences.map((sequence) => sequence.length));
    const advance = Array.from({ length: Math.ceil(longest / most) }, (_, segment): Stage => ({
      source: programs.advance,
      buffers: [query, key, value, extra.buffer, integers, work, counts, wide],
      fields: fieldsOf({ fields: advanceFields }),
      values: { firstToken: segment * most, endToken: (segment + 1) * most, rate: plan.rate === null ? 0 : pieces.values.scalar(plan.rate) / plan.rateDivisor, epsilon: plan.epsilon === null ? 0 : pieces.values.scalar(plan.epsilon) },
      costs: lanes.map(({ sequence }) => perToken * Math.max(1, Math.min(most, sequence.length - segment * most))),
    }));
    return {
      stages: [...queryStages, ...keyStages, begin, ...advance, end],
      end: () => {
        for (const [name, target] of Object.entries(state)) runtime.copyBytes(kept.after, runtime.bufferOf(target), 0, 4 * elementCount(target.shape), 4 * (kept.starts[stateField(name)] ?? 0));
        if (output.dtype !== 'f32') pieces.operations.write(wide, 'f32', output);
        pieces.release();
      },
      release: () => {
        pieces.release();
      },
    };
  } catch (error) {
    pieces.release();
    throw error;
  }
}

/** The tensors of the state one after another, as they were given and as they will be. */
function stateBuffer(pieces: CallPieces, call: BoundFastWeights, state: FastWeightState): { readonly buffer: GPUBuffer; readonly after: GPUBuffer; readonly starts: Readonly<Record<string, number>> } {
  const starts: Record<string, number> = {};
  let size = 0;
  for (const [name, { shape }] of Object.entries(state)) {
    starts[stateField(name)] = size;
    size += elementCount(shape);
  }
  const given = call.inputs.state;
  const before = given === undefined ? pieces.buffers.acquire(4) : pieces.concatenated(Object.keys(state).flatMap((name) => (given[name] === undefined ? [] : [[name, given[name]] as const]))).buffer;
  return { buffer: before, after: pieces.buffers.acquire(Math.max(4, 4 * size)), starts };
}
