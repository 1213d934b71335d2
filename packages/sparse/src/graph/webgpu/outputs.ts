import type { AttentionOutputs, EnqueueOptions, Tensor } from '@heed/core';
import { AttentionError, elementCount, isHostTensor } from '@heed/core';
import { operationCall, type ElementShader, type WebGpuRuntime } from '@heed/runtime-webgpu';
import { copyStrided } from '../copy-strided.ts';

/** What is live of these; after an error of the device or of the runtime nothing is. */
export function releaseQuietly(runtime: WebGpuRuntime, tensors: Tensor[]): void {
  for (const tensor of tensors.splice(0)) {
    try {
      runtime.release(tensor);
    } catch (error) {
      if (!(error instanceof AttentionError)) throw error;
    }
  }
}

/** Float32 numbers to a tensor of its own type. */
export function storeWide(runtime: WebGpuRuntime, wide: GPUBuffer, target: Tensor): void {
  if (target.dtype === 'f32' && runtime.isDense(target)) runtime.copyBytes(wide, runtime.bufferOf(target), 0, 4 * elementCount(target.shape));
  else {
    operationCall(runtime, (call) => {
      call.write(wide, 'f32', target);
    });
  }
}

/** One plane of statistics to a tensor [batch, heads, queryRows]. */
export function storePlane(runtime: WebGpuRuntime, planes: GPUBuffer, plane: number, target: Tensor): void {
  const count = elementCount(target.shape);
  operationCall(runtime, (call) => {
    call.run(copyPlane, count, [plane * count], [planes], runtime.bufferOf(target));
  });
}

const copyPlane: ElementShader = {
  name: 'copy a plane of statistics',
  reads: { planes: 'f32' },
  result: 'f32',
  fields: [['start', 'u32']],
  body: (writer) => writer.line('result[place] = planes[parameters.start + place];'),
};

/** Copies for a host query, by one readback; into the host's own tensors where they were given. */
export async function toHost(runtime: WebGpuRuntime, { output, logSumExp, observed, keyMass }: AttentionOutputs, into: NonNullable<EnqueueOptions['into']>): Promise<AttentionOutputs> {
  const stages = Object.entries(observed ?? {});
  const wanted: readonly (Tensor | undefined)[] = [output, logSumExp, keyMass, ...stages.map(([, seen]) => seen)];
  const present = wanted.filter((one) => one !== undefined);
  const copies = new Map((await runtime.readAll(present)).map((copy, index) => [present[index], copy]));
  const one = (made: Tensor, given?: Tensor): Tensor => {
    const copy = copies.get(made);
    if (given === made || copy === undefined) return made;
    if (given === undefined || !isHostTensor(given)) return copy;
    copyStrided(copy, given);
    return given;
  };
  return {
    output: one(output, into.output),
    ...(logSumExp === undefined ? {} : { logSumExp: one(logSumExp, into.logSumExp) }),
    ...(observed === undefined ? {} : { observed: Object.fromEntries(stages.map(([stage, seen]) => [stage, one(seen)])) }),
    ...(keyMass === undefined ? {} : { keyMass: one(keyMass) }),
  };
}
