import { elementCount, type ObservedStage, type Tensor } from '@heed/core';
import type { BoundCall } from '@heed/core/compute';
import { operationCall, type ElementShader, type WebGpuRuntime } from '@heed/runtime-webgpu';

/** Which heads and rows are looked at, and the shapes of what is seen (L8). */
export interface ObservedShape {
  readonly heads: readonly number[];
  readonly rows: readonly number[];
  /** [batch, observed heads, observed rows, keyLength] */
  readonly stage: readonly number[];
  /** [batch, observed heads, keyLength] */
  readonly mass: readonly number[];
}

export function observedShapeOf(call: BoundCall): ObservedShape {
  const heads = [...(call.inputs.observe?.heads ?? Array.from({ length: call.heads }, (_, head) => head))];
  const rows = [...(call.inputs.observe?.rows ?? Array.from({ length: call.queryRows }, (_, row) => row))];
  const batch = call.outputShape[0] ?? 0;
  return { heads, rows, stage: [batch, heads.length, rows.length, call.keyRows], mass: [batch, heads.length, call.keyRows] };
}

/** What is not visited: keys outside of a row's sequence, and those that the mask surely forbids. */
export function fillUnseen(runtime: WebGpuRuntime, stage: ObservedStage, target: Tensor): void {
  const words = new Float32Array(elementCount(target.shape)).fill(stage === 'masked' ? -Infinity : 0);
  if (words.length > 0) runtime.device.queue.writeBuffer(runtime.bufferOf(target), 0, words);
}

/** [batch, heads, rows, keys] → [batch, heads, keys]. */
export function sumOverRows(runtime: WebGpuRuntime, weights: Tensor, keyMass: Tensor): void {
  const [, , rows = 0, keys = 0] = weights.shape;
  operationCall(runtime, (call) => {
    call.run(massShader, elementCount(keyMass.shape), [rows, keys], [runtime.bufferOf(weights)], runtime.bufferOf(keyMass));
  });
}

const massShader: ElementShader = {
  name: 'sum of weights over rows',
  reads: { weights: 'f32' },
  result: 'f32',
  fields: [['rows', 'u32'], ['keys', 'u32']],
  body: (writer) => {
    writer.line('let plane = place / parameters.keys;', 'var sum = 0.0f;');
    writer.block('for (var row = 0u; row < parameters.rows; row++)', () => writer.line('sum += weights[(plane * parameters.rows + row) * parameters.keys + place % parameters.keys];'));
    writer.line('result[place] = sum;');
  },
};
