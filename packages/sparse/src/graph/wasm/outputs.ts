import type { AttentionOutputs, EnqueueOptions, HostTensor, ObservedStage, Tensor } from '@heed/core';
import { isHostTensor } from '@heed/core';
import type { BoundCall, ObservedShape } from '@heed/core/compute';
import type { FloatStorage, WasmRuntime } from '@heed/runtime-wasm';

export interface OutputTensors {
  readonly outputs: AttentionOutputs<HostTensor>;
  /** Those that were made here, to be released when the call fails. */
  readonly owned: readonly HostTensor[];
  readonly all: readonly HostTensor[];
}

/** Where a call writes: tensors that were given, or new ones. What is looked at is filled with what pairs without an edge have. */
export function outputTensors(runtime: WasmRuntime, call: BoundCall, into: NonNullable<EnqueueOptions['into']>, dtype: FloatStorage, shape: ObservedShape | null): OutputTensors {
  const { variant, observe } = call.request;
  const owned: HostTensor[] = [];
  const all: HostTensor[] = [];
  const target = (given: Tensor | undefined, sizes: readonly number[], type: FloatStorage): HostTensor => {
    const isOurs = given?.runtime === runtime && isHostTensor(given);
    const tensor = isOurs ? given : runtime.tensor(sizes, type);
    if (!isOurs) owned.push(tensor);
    all.push(tensor);
    return tensor;
  };
  const filled = (sizes: readonly number[], value: number): HostTensor => {
    const tensor = target(undefined, sizes, 'f32');
    tensor.view().fill(value);
    return tensor;
  };
  const stage = (name: ObservedStage): readonly [ObservedStage, HostTensor] => [name, filled(shape?.stage ?? [], name === 'masked' ? -Infinity : 0)];
  try {
    const outputs: AttentionOutputs<HostTensor> = {
      output: target(into.output, call.outputShape, dtype),
      ...(variant.normalization.rule.kind === 'softmax' ? { logSumExp: target(into.logSumExp, call.rowShape, 'f32') } : {}),
      ...(observe === undefined ? {} : { observed: Object.fromEntries(observe.stages.map(stage)) }),
      ...(observe?.keyMass === true ? { keyMass: filled(shape?.mass ?? [], 0) } : {}),
    };
    return { outputs, owned, all };
  } catch (error) {
    for (const tensor of owned) runtime.release(tensor);
    throw error;
  }
}
