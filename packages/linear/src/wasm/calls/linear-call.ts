import type { FastWeightState, HostTensor, Tensor } from '@heed/core';
import type { BoundFastWeights } from '@heed/core/compute';
import type { CallMemory, WasmRuntime } from '@heed/runtime-wasm';
import { asFloat32, type LinearCall, type StateAddresses } from './call.ts';

/** Where G and z begin: in the state given, as dense float32, or as zeros where they will be kept. */
export function stateAddresses(runtime: WasmRuntime, memory: CallMemory, state: Readonly<Record<string, HostTensor>>, given: FastWeightState | undefined): StateAddresses {
  const one = (name: string): { readonly from: number; readonly at: number } => {
    const kept = state[name];
    if (kept === undefined) return { from: 0, at: 0 };
    const at = runtime.addressOf(kept);
    const before = given?.[name];
    if (before === undefined) {
      kept.view().fill(0);
      return { from: at, at };
    }
    return { from: memory.place(asDense(runtime, asFloat32(runtime, before))).address, at };
  };
  const [memoryPlace, normalizer] = [one('memory'), one('normalizer')];
  return { memoryFrom: memoryPlace.from, memory: memoryPlace.at, normalizerFrom: normalizer.from, normalizer: normalizer.at };
}

/** A tensor whose elements stand in the order of its shape: itself, or a copy that is queued before the call. */
export function asDense(runtime: WasmRuntime, given: Tensor): Tensor {
  let stride = 1;
  for (let axis = given.shape.length - 1; axis >= 0; axis -= 1) {
    if (given.shape[axis] !== 1 && given.strides[axis] !== stride && given.runtime === runtime) return runtime.operations.copy(given);
    stride *= given.shape[axis] ?? 1;
  }
  return given;
}

/** A bound call of fast weights as the kernels' records have it: every token reads what it and those before it wrote. */
export function linearCall({ sequences, heads, valueHeads, uniforms, tables, inputs }: BoundFastWeights): LinearCall {
  const { query, key, value, logDecay, writeStrength, removalKey, removalWeight } = inputs;
  return {
    sequences: sequences.map(({ index, tensorBatch, start, length, offset }) => ({
      index, tensorBatch, queryStart: start, queryRows: length, queryLength: length, keyStart: start, keyLength: length, shift: 0, emptyRows: 0, prefix: 0, queryPosition: offset, keyPosition: offset,
    })),
    heads,
    keyHeads: heads,
    valueHeads,
    uniforms,
    tables,
    query,
    key,
    value,
    inputs: { ...(logDecay === undefined ? {} : { logDecay }), ...(writeStrength === undefined ? {} : { writeStrength }), ...(removalKey === undefined ? {} : { removalKey }), ...(removalWeight === undefined ? {} : { removalWeight }) },
  };
}
