import type { AttentionInputs, AttentionRequest, EnqueueOptions, Runtime } from '../backend.ts';
import { AttentionError } from '../errors.ts';
import type { DType, Tensor } from '../tensor.ts';
import { checkIntegers } from './integers.ts';
import type { Names } from './names.ts';
import { checkNames } from './names.ts';
import { requestDTypes } from './request.ts';
import { show } from '../show.ts';
import { checkForm, checkTensor } from './tensors.ts';

const intoNames: Names<NonNullable<EnqueueOptions['into']>> = { output: true, logSumExp: true };

/**
 * The tensors that a call writes to.
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `invalid-dtype`, `invalid-tensor` (elements that share memory), `foreign-tensor`
 */
export function checkInto(request: AttentionRequest, into: EnqueueOptions['into'], outputShape: readonly number[], rowShape: readonly number[], runtime: Runtime | undefined): void {
  if (into === undefined) return;
  const given: unknown = into;
  if (typeof given !== 'object' || given === null) throw new AttentionError('invalid-argument', `into is ${show(given)}.`, 'Pass { output, logSumExp }.');
  checkNames('into', given, intoNames);
  const { output } = requestDTypes(request);
  if (into.output !== undefined) checkTarget('into.output', into.output, output, outputShape, '[batch, heads, queryLength, valueDim]', runtime);
  if (into.logSumExp === undefined) return;
  if (request.variant.normalization.rule.kind !== 'softmax') {
    throw new AttentionError('invalid-argument', 'into.logSumExp is given, and the normalization has no logSumExp.', 'Leave it out: only the softmax family has one (L5).');
  }
  checkTarget('into.logSumExp', into.logSumExp, output === 'f64' ? 'f64' : 'f32', rowShape, '[batch, heads, queryLength]', runtime);
}

function checkTarget(what: string, given: Tensor, dtype: DType, shape: readonly number[], axes: string, runtime: Runtime | undefined): void {
  const tensor = checkTensor(what, given, runtime);
  checkForm(what, tensor, dtype, shape, axes);
  // Sorted by stride, each step must clear everything that the smaller ones span.
  const axesByStride = tensor.shape.map((size, axis) => ({ size, stride: tensor.strides[axis] ?? 0 })).filter(({ size }) => size > 1);
  axesByStride.sort((a, b) => a.stride - b.stride);
  let span = 1;
  for (const { size, stride } of axesByStride) {
    if (stride < span) throw new AttentionError('invalid-tensor', `${what} has strides [${tensor.strides.join(', ')}], so that elements share memory.`, 'Pass a tensor whose elements all stand apart.');
    span += (size - 1) * stride;
  }
}

/** Bytes that observed stages may take unless the request says otherwise. */
export const defaultByteBudget: number = 64 * 2 ** 20;

/** Sizes that decide how large the observed tensors are. */
export interface ObservedSizes {
  readonly batch: number;
  readonly heads: number;
  readonly queryRows: number;
  readonly keyRows: number;
}

/**
 * Rows and heads to look at, and whether what is looked at fits its budget.
 * @throws AttentionError `invalid-argument`, `byte-budget`
 */
export function checkObserved(request: AttentionRequest, inputs: AttentionInputs, sizes: ObservedSizes): void {
  const given: unknown = inputs.observe;
  const { observe } = request;
  if (observe === undefined) {
    if (given === undefined) return;
    throw new AttentionError('invalid-argument', 'observe names rows or heads, and the request observes nothing.', 'Name the stages in the request: observe: { stages }.');
  }
  if (given !== undefined && (typeof given !== 'object' || given === null)) throw new AttentionError('invalid-argument', `observe is ${show(given)}.`, 'Pass { rows, heads }.');
  const heads = count('observe.heads', inputs.observe?.heads, sizes.heads);
  const rows = count('observe.rows', inputs.observe?.rows, sizes.queryRows);
  const bytes = 4 * sizes.batch * heads * sizes.keyRows * (rows * observe.stages.length + (observe.keyMass === true ? 1 : 0));
  const budget = observe.byteBudget ?? defaultByteBudget;
  if (bytes > budget) {
    throw new AttentionError('byte-budget', `The observed tensors would take ${bytes} bytes; the budget is ${budget}.`, 'Look at fewer rows, heads or stages, or raise observe.byteBudget in the request.');
  }
}

function count(what: string, given: unknown, size: number): number {
  return given === undefined ? size : checkIntegers(what, given, null, 0, size - 1, 'invalid-argument').length;
}
