import type { AttentionInputs, AttentionRequest, AttentionVariant, DType, HostTensor } from '@heed/core';
import { toFloat64 } from '@heed/core';
import type { CaseContext, Numbers } from './context.ts';
import type { DrawOptions, Shape, TableOptions } from './inputs.ts';
import { drawInputs, drawTables } from './inputs.ts';
import type { PlainInputs } from './plain.ts';
import type { Tolerance } from './tolerance.ts';
import { float32LogSumExp } from './tolerance.ts';

/** A request and inputs on the host that go with it. */
export interface Call {
  readonly shape: Shape;
  readonly request: AttentionRequest;
  readonly inputs: AttentionInputs & { readonly query: HostTensor; readonly key: HostTensor; readonly value: HostTensor };
}

export interface CallOptions extends DrawOptions, TableOptions {
  readonly request?: Partial<AttentionRequest>;
  readonly inputs?: Omit<Partial<AttentionInputs>, 'query' | 'key' | 'value'>;
  /** Storage type of the output. Default f32. */
  readonly output?: DType;
}

/** Draws everything that a call of a variant binds. */
export function drawCall(context: CaseContext, variant: AttentionVariant, shape: Shape, options: CallOptions = {}): Call {
  const { dtype = 'f32', output = 'f32' } = options;
  return {
    shape,
    request: { variant, queryDim: shape.queryDim, keyDim: shape.keyDim, valueDim: shape.valueDim, dtypes: { query: dtype, key: dtype, value: dtype, output }, ...options.request },
    inputs: { ...drawInputs(context.random, shape, options), tables: drawTables(context.random, variant, shape, options), ...options.inputs },
  };
}

/** Runs backend and reference and compares output, and logSumExp where the backend gives it. */
export async function matchReference(context: CaseContext, call: Call, tolerance: Tolerance, options: { readonly score?: number } = {}): Promise<{ readonly got: Numbers; readonly want: Numbers }> {
  const got = await context.run(call.request, call.inputs);
  const want = await context.expected(call.request, call.inputs);
  compareNumbers(context, call, got, want, tolerance, options);
  return { got, want };
}

/** Output within the tolerance of what was expected, and logSumExp within its own. */
export function compareNumbers(context: CaseContext, call: Pick<Call, 'shape' | 'request'>, got: Numbers, want: Pick<Numbers, 'output' | 'logSumExp'>, tolerance: Tolerance, options: { readonly score?: number } = {}): void {
  const setting = { length: call.shape.keyLength, dim: call.shape.queryDim, dtype: got.outputDtype, magnitude: largest(want.output), ...options };
  context.close('output', got.output, want.output, tolerance.bound(setting), got.outputDtype);
  const { rule } = call.request.variant.normalization;
  if (rule.kind === 'softmax' && context.backend.capabilities.logSumExp) context.close('logSumExp', got.logSumExp, want.logSumExp, float32LogSumExp.bound(setting));
}

/** Largest finite magnitude; 0 of nothing. */
export function largest(values: ArrayLike<number>): number {
  let most = 0;
  for (let index = 0; index < values.length; index++) {
    const magnitude = Math.abs(values[index] ?? 0);
    if (Number.isFinite(magnitude) && magnitude > most) most = magnitude;
  }
  return most;
}

/** The sizes and rows of a call for the plain computation. */
export function plainOf(call: Call): PlainInputs {
  const { shape, inputs } = call;
  return { ...shape, dim: shape.queryDim, query: toFloat64(inputs.query), key: toFloat64(inputs.key), value: toFloat64(inputs.value) };
}

/** Rows [batch, head, row] of a dense [batch, heads, rows, dim] array for which `pick` holds, one after another. */
export function pickRows(values: ArrayLike<number>, shape: readonly [number, number, number, number], pick: (batch: number, head: number, row: number) => boolean): Float64Array {
  const [batches, heads, rows, dim] = shape;
  const picked: number[] = [];
  for (let batch = 0; batch < batches; batch++) {
    for (let head = 0; head < heads; head++) {
      for (let row = 0; row < rows; row++) {
        if (!pick(batch, head, row)) continue;
        const start = ((batch * heads + head) * rows + row) * dim;
        for (let channel = 0; channel < dim; channel++) picked.push(values[start + channel] ?? Number.NaN);
      }
    }
  }
  return Float64Array.from(picked);
}

/** Shape of the output, [batch, heads, queryLength, valueDim]. */
export function outputShape(shape: Shape): readonly [number, number, number, number] {
  return [shape.batch, shape.heads, shape.queryLength, shape.valueDim];
}

/** Shape of logSumExp with a last axis of 1. */
export function rowShape(shape: Shape): readonly [number, number, number, number] {
  return [shape.batch, shape.heads, shape.queryLength, 1];
}
