import { elementCount, type ObservedStage, type Tensor } from '@heed/core';
import { operationCall, type ElementShader, type WebGpuRuntime } from '@heed/runtime-webgpu';

/** What is not visited: pairs without an edge. */
export function fillUnseen(runtime: WebGpuRuntime, stage: ObservedStage, target: Tensor): void {
  runtime.writeWords(runtime.bufferOf(target), 0, new Float32Array(elementCount(target.shape)).fill(stage === 'masked' ? -Infinity : 0));
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
