import { transformedWidth } from '@heed/core';
import type { RowTransform } from '@heed/core';
import type { LinearPlan } from '../../plan.ts';

/** What the engine offers; the same for every plan of a backend. */
export interface Machine {
  /** Relaxed SIMD: multiply-add with one rounding. */
  readonly fused: boolean;
  /** Pairs of 128-bit operations are packed into 256-bit ones. */
  readonly wide: boolean;
  /** The memory is shared with workers. */
  readonly shared: boolean;
}

/** A linear plan with its tiles on the CPU. Plain data. */
export interface WasmPlan extends LinearPlan {
  readonly machine: Machine;
  /** Register tile of every product: rows × columns. */
  readonly tile: { readonly rows: 4; readonly columns: 8 | 16 };
  /** Calls of fewer tokens are computed token by token. */
  readonly fewTokens: number;
  /** Tokens that one task walks before threads meet and the host may stop the call. */
  readonly segment: number;
  /** Tokens in scratch, rounded up to whole tiles. */
  readonly rows: number;
  /** Floats of a row of queries or keys in scratch, and of a row of values or of G: with one more column for the row sums. */
  readonly widthStride: number;
  readonly valueStride: number;
  /** Widest row that a transform reads or writes. */
  readonly rowFloats: number;
}

/** @param chunk tokens of a chunk in place of the plan's own; 1 computes token by token */
export function wasmPlan(plan: LinearPlan, machine: Machine, chunk: number | null): WasmPlan {
  // Rows of pairs read keys that are not their own: they have the chunked form alone.
  const own = plan.chunk === null || (chunk === 1 && plan.reading === 'fastWeights') ? null : (chunk ?? plan.chunk);
  const columns = machine.wide ? 16 : 8;
  const widths = [...widthsOf(plan.queryTransforms, plan.queryDim), ...widthsOf(plan.keyTransforms, plan.keyDim), plan.valueDim];
  return {
    ...plan,
    chunk: own,
    subChunk: Math.min(plan.subChunk, roundUp(own ?? 1, columns)),
    machine,
    tile: { rows: 4, columns },
    fewTokens: chunk === null ? 8 : 1,
    segment: segmentOf(plan, own ?? columns),
    rows: roundUp(own ?? 1, columns),
    widthStride: roundUp(plan.width, 4),
    valueStride: roundUp(plan.valueDim + (plan.epsilon === null ? 0 : 1), columns),
    rowFloats: roundUp(Math.max(...widths), 4),
  };
}

/** Whole chunks of about two milliseconds on one thread, so that a call can be stopped between them. */
function segmentOf({ width, valueDim, recall }: LinearPlan, chunk: number): number {
  const microseconds = ((recall === null ? 6 : 10) * width * valueDim) / 25_000;
  return chunk * Math.max(4, Math.floor(2000 / (microseconds * chunk)));
}

function widthsOf(transforms: readonly RowTransform[], dim: number): readonly number[] {
  const widths = [dim];
  for (const transform of transforms) widths.push(transformedWidth(transform, widths.at(-1) ?? dim));
  return widths;
}

export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
