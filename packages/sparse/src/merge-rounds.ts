import type { AttentionRequest, HostTensor, Partial } from '@heed/core';
import { AttentionError, isContiguous, isHostTensor } from '@heed/core';
import { mergeClassOf, requestDTypes } from '@heed/core/compute';

/** True when merged partial results are the result itself: softmax over sums of values in f32, with nothing to apply once at the end. */
export function mergesPlainly(request: AttentionRequest): boolean {
  const { normalization, aggregation } = request.variant;
  const merging = mergeClassOf(request.variant);
  const isPlain = normalization.rule.kind === 'softmax' && normalization.rule.sink === null && aggregation.finish.kind === 'input';
  return 'mergeClass' in merging && merging.mergeClass === 'logSumExp' && isPlain && requestDTypes(request).output === 'f32' && request.observe === undefined && (request.gradients ?? []).length === 0;
}

/** Dense float32 rows and their logSumExp. */
interface Rows {
  readonly output: Float32Array;
  readonly logs: Float32Array;
}

/**
 * The result over the keys of both, written over `into`: o = Σ e^(L_r − L) o_r with L = ln Σ e^(L_r), in the order of the rounds, so that the same rounds give the same bits.
 * A row that one of them does not have (L = −∞) keeps the bits of the other.
 */
export function mergeInto(into: Partial, other: Partial): void {
  const [a, b] = [rowsOf(into), rowsOf(other)];
  const dim = a.output.length / Math.max(1, a.logs.length);
  for (let row = 0; row < a.logs.length; row++) {
    const [left = -Infinity, right = -Infinity] = [a.logs[row], b.logs[row]];
    if (right === -Infinity) continue;
    const start = row * dim;
    if (left === -Infinity) {
      a.output.set(b.output.subarray(start, start + dim), start);
      a.logs[row] = right;
      continue;
    }
    const log = Math.max(left, right) + Math.log1p(Math.exp(-Math.abs(left - right)));
    const [ownShare, otherShare] = [Math.exp(left - log), Math.exp(right - log)];
    for (let at = start; at < start + dim; at++) a.output[at] = ownShare * (a.output[at] ?? 0) + otherShare * (b.output[at] ?? 0);
    a.logs[row] = log;
  }
}

function rowsOf({ accumulator, statistics }: Partial): Rows {
  return { output: floats(accumulator), logs: floats(statistics.logSumExp) };
}

function floats(source: Partial['accumulator'] | undefined): Float32Array {
  const host: HostTensor | null = source !== undefined && isHostTensor(source) && isContiguous(source) ? source : null;
  const view = host?.view();
  if (host === null || !(view instanceof Float32Array)) throw new AttentionError('foreign-tensor', 'A partial result lies where the host cannot see it.', 'Wrap a backend whose partial results are host tensors.');
  return view.subarray(0, host.shape.reduce((product, size) => product * size, 1));
}
