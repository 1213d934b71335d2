import type { HostTensor, Tensor } from './tensor.ts';

/** How partial results over disjoint key sets merge (L13). */
export type MergeClass = 'logSumExp' | 'sum' | 'max' | 'logSumExpOfValues';

/**
 * The result over some of the keys, before sink and finish.
 *
 * | class             | accumulator [batch, heads, queryLength, valueDim]   | statistics                        |
 * |-------------------|-----------------------------------------------------|-----------------------------------|
 * | logSumExp         | Σ w v over these keys, w summing to one here        | logSumExp                         |
 * | sum               | Σ w v with weights before any division by their sum | count, and denominator for rowSum |
 * | max               | max w v, −∞ over no key                             | count                             |
 * | logSumExpOfValues | ln Σ e^(s + v), −∞ over no key                      | logSumExp                         |
 *
 * Statistics are [batch, heads, queryLength]: `logSumExp` natural, without sink, −∞ over no key; `count` of allowed keys with a score above −∞.
 * A reweighing is linear in the weight (else the variant refuses to merge) and is already in the accumulator, not in the statistics.
 */
export interface Partial<T extends Tensor = Tensor> {
  readonly mergeClass: MergeClass;
  readonly accumulator: T;
  readonly statistics: {
    readonly logSumExp?: T;
    readonly denominator?: T;
    readonly count?: T;
  };
}

export type HostPartial = Partial<HostTensor>;
