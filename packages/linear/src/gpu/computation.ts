import type { DType, FastWeightState, Tensor } from '@heed/core';
import type { BoundFastWeights } from '@heed/core/compute';
import type { ProgramSource, Stage } from '@heed/runtime-webgpu';

/** A call whose buffers stand and whose stages wait to be submitted. */
export interface StartedCall {
  readonly stages: readonly Stage[];
  /** After the last stage was submitted: makes the outputs of what the stages wrote, and gives buffers back. */
  end(): void;
  /** Gives buffers back without that. */
  release(): void;
}

/** How a rule is computed: the programs it needs, and what one call of it does. */
export interface Computation {
  readonly programs: readonly ProgramSource[];
  readonly outputDtype: DType;
  /** The plan in sentences. */
  readonly plan: readonly string[];
  /** @param state tensors of float32 that receive the final state */
  start(call: BoundFastWeights, output: Tensor, state: FastWeightState): StartedCall;
}
