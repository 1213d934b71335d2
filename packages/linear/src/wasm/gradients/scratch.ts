import { roundUp, type WasmPlan } from '../plan/machine-plan.ts';
import { scratchOf, type Scratch } from '../plan/scratch.ts';

/** Scratch of the backward pass: that of a chunk, whose `memory` holds the gradient of G, and what going back needs. */
export interface GradientScratch extends Scratch {
  /** G before each token of a chunk, and behind the last: [C + 1, W, V]. */
  readonly states: number;
  /** removalKey and removalWeight as given, [C, W]. */
  readonly removalKey: number;
  readonly removalWeight: number;
  /** Of one token, [V] each: gradient of what was read (numerators), what was recalled, and the gradients of that and of the value. */
  readonly readGradient: number;
  readonly recalled: number;
  readonly recalledGradient: number;
  readonly valueGradient: number;
  /** Vectors of the token's form with their gradients, [W] each. */
  readonly tape: number;
  /** Rows between transforms and their gradients, of plan.rowFloats. */
  readonly transforms: number;
}

/** Vectors that a form makes at most, counted with their gradients. */
export const tapeVectors = 24;

/** Tokens between two checkpoints of G. */
export const checkpointTokens = 64;

/** The plan of the backward pass: token by token, a checkpoint's tokens at a time. */
export function gradientPlan(plan: WasmPlan): WasmPlan {
  return { ...plan, chunk: null, rows: checkpointTokens };
}

export function gradientScratchOf(plan: WasmPlan): GradientScratch {
  const base = scratchOf(plan);
  let place = base.bytes;
  const take = (floats: number): number => {
    const start = place;
    place += roundUp(floats * 4, 64);
    return start;
  };
  const { rows, widthStride, valueStride, rowFloats, recall } = plan;
  const reads = (name: 'removalKey' | 'removalWeight'): boolean => recall?.by === name || recall?.along === name || recall?.strength === name;
  const places = {
    states: take((rows + 1) * widthStride * valueStride),
    removalKey: take(reads('removalKey') ? rows * widthStride : 0),
    removalWeight: take(reads('removalWeight') ? rows * widthStride : 0),
    readGradient: take(valueStride),
    recalled: take(valueStride),
    recalledGradient: take(valueStride),
    valueGradient: take(valueStride),
    tape: take(tapeVectors * widthStride),
    transforms: take((3 + Math.max(plan.queryTransforms.length, plan.keyTransforms.length)) * rowFloats + 2 * rowFloats),
  };
  return { ...base, ...places, bytes: roundUp(place, 64) };
}
