import type { FastWeightGradientName, FastWeightState, Gradients, HostTensor, Tensor } from '@heed/core';
import { AttentionError, elementCount, tensor } from '@heed/core';
import type { BoundFastWeights } from '@heed/core/compute';
import { CallMemory, type Phase, type Program, type WasmRuntime } from '@heed/runtime-wasm';
import { asFloat32, CallWriter, strided } from '../calls/call.ts';
import { layoutsOf } from '../plan/layouts.ts';
import { asDense, linearCall } from '../calls/linear-call.ts';
import type { VariantParts } from '../calls/loaded.ts';
import type { WasmPlan } from '../plan/machine-plan.ts';
import { withGradients } from './layouts.ts';
import { emitGradientProgram } from './program.ts';
import { checkpointTokens, gradientPlan, gradientScratchOf } from './scratch.ts';

/** The program of the backward pass of one plan. */
export interface LoadedGradients {
  readonly plan: WasmPlan;
  readonly program: Program<'checkpoint' | 'retreat' | 'rowGradients'>;
  readonly writer: CallWriter;
  readonly scratchBytes: number;
}

export function loadGradients(runtime: WasmRuntime, forward: WasmPlan, { structure, uniforms, tables }: VariantParts): LoadedGradients {
  const plan = gradientPlan(forward);
  const layouts = withGradients(layoutsOf(plan, Object.keys(uniforms), tables));
  const scratch = gradientScratchOf(plan);
  const program = runtime.program(JSON.stringify(['linear gradients', structure, plan]), ['checkpoint', 'retreat', 'rowGradients'], () => emitGradientProgram({ plan, layouts, scratch, tables }));
  return { plan, program, writer: new CallWriter(plan, layouts, program.functions), scratchBytes: scratch.bytes };
}

/** Phases of each kind that a call has at most: a job has room for not many more. */
const mostPhases = 64;

/**
 * Gradients of everything that the request names, as float32 tensors of the runtime, from those of the output and of the final state. Starts again from the inputs.
 * @throws AttentionError `invalid-shape` for a gradient of another shape than what it is of
 */
export async function backward(runtime: WasmRuntime, loaded: LoadedGradients, bound: BoundFastWeights, outer: { readonly output: Tensor; readonly state?: FastWeightState }, names: readonly FastWeightGradientName[]): Promise<Gradients<HostTensor>> {
  const { plan, program, writer, scratchBytes } = loaded;
  checkShape('output', outer.output, bound.outputShape);
  for (const [name, shape] of Object.entries(bound.stateShapes)) {
    const given = outer.state?.[name];
    if (given !== undefined) checkShape(`state '${name}'`, given, shape);
  }
  const { batch, heads, valueHeads, length, sequences } = bound;
  const memory = new CallMemory(runtime);
  const made: HostTensor[] = [];
  const create = (shape: readonly number[]): HostTensor => {
    const one = runtime.tensor(shape, 'f32');
    made.push(one);
    return one;
  };
  const call = linearCall(bound);
  const longest = sequences.reduce((most, { length: rows }) => Math.max(most, rows), 0);
  const chunks = Math.max(1, Math.ceil(longest / checkpointTokens));
  try {
    const rows = (): HostTensor => create([batch, valueHeads, length, plan.widthStride]);
    const numbers = (): HostTensor => create([batch, valueHeads, length]);
    const parts = {
      queryRows: rows(), keyRows: rows(), valueRows: create([batch, valueHeads, length, plan.valueDim]),
      logDecayRows: plan.decay === 'channel' ? rows() : numbers(), removalKeyRows: rows(), removalWeightRows: rows(), writeStrengthRows: numbers(),
    };
    const query = create([batch, heads, length, plan.queryDim]);
    const key = create([batch, heads, length, plan.keyDim]);
    const stateGradients = Object.fromEntries(Object.entries(bound.stateShapes).map(([name, shape]) => [name, create(shape)]));
    const begin = place(runtime, memory, bound.inputs.state, stateGradients);
    const end = place(runtime, memory, outer.state, stateGradients);
    const { record, tasks } = writer.record(call, memory, runtime, begin, 0);
    strided(record, 'outer', memory.place(asFloat32(runtime, outer.output)), 4);
    strided(record, 'queryOut', { address: runtime.addressOf(query), strides: query.strides }, 4);
    strided(record, 'keyOut', { address: runtime.addressOf(key), strides: key.strides }, 4);
    for (const [name, part] of Object.entries(parts)) record.set(name, runtime.addressOf(part));
    record.set('checkpoints', memory.allocate(Math.max(4, tasks * chunks * plan.widthStride * plan.valueStride * 4)));
    for (const [name, value] of Object.entries({ chunks, length, valueHeads, group: valueHeads / heads })) record.set(name, value);
    const phases: Phase[] = [];
    const chunksOfPhase = Math.max(4, Math.ceil(chunks / mostPhases));
    const rowsOfPhase = Math.max(256, Math.ceil(longest / mostPhases));
    const add = (name: 'checkpoint' | 'retreat' | 'rowGradients', from: number, to: number): void => {
      record.set('first', from);
      record.set('end', to);
      phases.push({ function: program.functions[name], tasks, scratchBytes, arguments: record.integers.slice() });
    };
    record.set('isFirst', 1);
    for (let first = 0; first < chunks; first += chunksOfPhase) add('checkpoint', first, Math.min(first + chunksOfPhase, chunks));
    record.set('memory.from', end.memoryFrom);
    record.set('normalizer.from', end.normalizerFrom);
    for (let last = chunks; last > 0; last -= chunksOfPhase) {
      add('retreat', Math.max(0, last - chunksOfPhase), last);
      record.set('isFirst', 0);
    }
    for (let first = 0; first < longest; first += rowsOfPhase) add('rowGradients', first, Math.min(first + rowsOfPhase, longest));
    const submission = runtime.submit({ phases, microseconds: 1e6 }, { participate: true, awaited: true, reads: tensorsOf(bound, outer).filter((one) => one.runtime === runtime), writes: made });
    memory.release();
    await submission.done;
    const input = (name: keyof typeof parts, given: Tensor | undefined): HostTensor => reduced(parts[name], given?.shape ?? [], plan.width);
    const { logDecay, writeStrength, removalKey, removalWeight } = bound.inputs;
    const all: Readonly<Record<string, () => HostTensor>> = {
      query: () => copied(query), key: () => copied(key), value: () => copied(parts.valueRows),
      logDecay: () => input('logDecayRows', logDecay), writeStrength: () => input('writeStrengthRows', writeStrength), removalKey: () => input('removalKeyRows', removalKey), removalWeight: () => input('removalWeightRows', removalWeight),
    };
    const toHost = (name: string): HostTensor => {
      const state = stateGradients[name.slice('state.'.length)];
      return name.startsWith('state.') && state !== undefined ? copied(state) : (all[name]?.() ?? query);
    };
    const results = names.map((name) => [name, toHost(name)] as const);
    return Object.fromEntries(bound.inputs.query.runtime === null ? results : results.map(([name, one]) => [name, runtime.upload(one)]));
  } finally {
    memory.release();
    for (const one of made) runtime.release(one);
  }
}

function checkShape(what: string, given: Tensor, shape: readonly number[]): void {
  if (given.shape.join() !== shape.join()) throw new AttentionError('invalid-shape', `The gradient of ${what} has shape [${given.shape.join(', ')}].`, `Expected [${shape.join(', ')}].`);
}

/** Where G and z, or their gradients, begin: as given, or zeros of the call's own. They are kept in `kept`. */
function place(runtime: WasmRuntime, memory: CallMemory, given: FastWeightState | undefined, kept: Readonly<Record<string, HostTensor>>): { readonly memoryFrom: number; readonly memory: number; readonly normalizerFrom: number; readonly normalizer: number } {
  const from = (name: string): number => {
    const shape = kept[name]?.shape;
    if (shape === undefined) return 0;
    const one = given?.[name];
    if (one !== undefined) return memory.place(asDense(runtime, asFloat32(runtime, one))).address;
    const floats = Math.max(1, elementCount(shape));
    const address = memory.allocate(floats * 4);
    runtime.heap.f32(address, floats).fill(0);
    return address;
  };
  const at = (name: string): number => (kept[name] === undefined ? 0 : runtime.addressOf(kept[name]));
  return { memoryFrom: from('memory'), memory: at('memory'), normalizerFrom: from('normalizer'), normalizer: at('normalizer') };
}

function tensorsOf({ inputs, tables }: BoundFastWeights, outer: { readonly output: Tensor; readonly state?: FastWeightState }): readonly Tensor[] {
  const { query, key, value, logDecay, writeStrength, removalKey, removalWeight } = inputs;
  const own = [query, key, value, logDecay, writeStrength, removalKey, removalWeight, outer.output].filter((one) => one !== undefined);
  return [...own, ...Object.values(inputs.state ?? {}), ...Object.values(outer.state ?? {}), ...Object.values(tables).map(({ tensor: one }) => one)];
}

function copied(source: HostTensor): HostTensor {
  return tensor(Float32Array.from(source.view()), source.shape);
}

/** Rows [batch, valueHeads, length, stride] or numbers [batch, valueHeads, length] summed over the axes that repeat in `shape`, without what pads the rows. */
function reduced(source: HostTensor, shape: readonly number[], width: number): HostTensor {
  const [, heads = 1, length = 1, stride = 1] = source.shape;
  const [toBatch = 1, toHeads = 1, toLength = 1] = shape;
  const channels = source.shape.length === 4 ? width : 1;
  const sums = new Float64Array(elementCount(shape));
  const from = source.view();
  const rows = elementCount(source.shape.slice(0, 3));
  for (let row = 0; row < rows; row += 1) {
    const [b, h, t] = [Math.floor(row / (heads * length)), Math.floor(row / length) % heads, row % length];
    const to = ((toBatch === 1 ? 0 : b) * toHeads + (toHeads === 1 ? 0 : h)) * toLength + (toLength === 1 ? 0 : t);
    for (let channel = 0; channel < channels; channel += 1) sums[to * channels + channel] = (sums[to * channels + channel] ?? 0) + (from[row * stride + channel] ?? 0);
  }
  return tensor(Float32Array.from(sums), shape);
}
