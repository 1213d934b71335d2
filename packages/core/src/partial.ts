import type { AttentionInputs, AttentionOutputs, AttentionRequest } from './backend.ts';
import { bind } from './bind.ts';
import { AttentionError } from './errors.ts';
import { differentiate } from './expression/differentiate.ts';
import { evaluate } from './expression/evaluate.ts';
import type { Expression } from './expression/node.ts';
import { readsInput, rewrite } from './expression/node.ts';
import { simplify } from './expression/simplify.ts';
import { hostTables, onHost, Place } from './place.ts';
import type { HostTensor, Tensor } from './tensor.ts';
import { contiguousStrides, encode, tensor, toFloat64 } from './tensor.ts';
import type { AttentionVariant } from './variant.ts';

/** How partial results over disjoint key sets merge (L13). */
export type MergeClass = 'logSumExp' | 'sum' | 'max' | 'logSumExpOfValues';

/**
 * The result over some of the keys, before what is applied once at the end: the sink, the division of rowSum, and finish.
 *
 * | class             | accumulator [batch, heads, queryLength, valueDim]   | statistics                              |
 * |-------------------|-----------------------------------------------------|-----------------------------------------|
 * | logSumExp         | Σ w v over these keys, w summing to one over them   | logSumExp                               |
 * | sum               | Σ t v, not divided                                  | count, and denominator Σ t for rowSum   |
 * | max               | max w v, −∞ over no key                             | count                                   |
 * | logSumExpOfValues | ln Σ e^(s + v) (softmax) or ln Σ w e^v, −∞ over none | logSumExp (softmax) or count            |
 *
 * Statistics are [batch, heads, queryLength]: `logSumExp` natural, without sink, −∞ over no key; `count` of allowed keys with a score above −∞.
 * A reweighing is linear in the weight (else the variant refuses to merge), so it is already in the accumulator and not in the statistics.
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

/** The merge class of a variant, or why its partial results cannot merge. */
export type Merging = { readonly mergeClass: MergeClass; readonly refusal: null } | { readonly mergeClass: null; readonly refusal: string };

/** Pure; a variant refuses when no fixed number of statistics says what one part of the keys must know of the others. */
export function mergeClassOf(variant: AttentionVariant): Merging {
  const { rule, reweigh } = variant.normalization;
  const { reduction } = variant.aggregation;
  const merges = (mergeClass: MergeClass): Merging => ({ mergeClass, refusal: null });
  const refuses = (refusal: string): Merging => ({ mergeClass: null, refusal });
  if (rule.kind === 'threshold') return refuses('a threshold normalization needs the threshold of the whole row, which no shard knows');
  if (rule.kind === 'hardMax') return refuses('a selection needs the candidates of the whole row');
  if (!isLinear(reweigh)) return refuses('the reweighing is not linear in the weight, so it cannot be applied before the weights of the whole row are known');
  if (reduction === 'max') return rule.kind === 'elementwise' ? merges('max') : refuses('the largest weighted value needs weights divided by the sum of the whole row');
  if (reduction === 'logSumExp') {
    return rule.kind === 'rowSum' ? refuses('ln Σ w e^v with weights divided by their sum is not merged') : merges('logSumExpOfValues');
  }
  return merges(rule.kind === 'softmax' ? 'logSumExp' : 'sum');
}

/** reweigh(weight) = factor · weight: its derivative does not read the weight, and it is 0 at 0. */
function isLinear(reweigh: Expression): boolean {
  const weight: Expression = { kind: 'input', type: 'f32', name: 'weight' };
  if (readsInput(differentiate(reweigh, weight), 'weight')) return false;
  const atZero = simplify(rewrite(reweigh, (node) => (node.kind === 'input' && node.name === 'weight' ? { kind: 'constant', type: 'f32', value: 0 } : node)));
  return vanishes(atZero);
}

/** True when a sum of products surely is 0. */
function vanishes(expression: Expression): boolean {
  if (expression.kind === 'constant') return expression.value === 0;
  if (expression.kind !== 'operation') return false;
  const [a, b, c] = expression.operands.map(vanishes);
  switch (expression.operator) {
    case 'mul':
      return a === true || b === true;
    case 'div':
    case 'neg':
      return a === true;
    case 'add':
    case 'sub':
      return a === true && b === true;
    case 'select':
      return b === true && c === true;
    default:
      return false;
  }
}

/**
 * Joins partial results over disjoint key sets, in the order given, so that the same shards always give the same bits.
 * An empty shard changes nothing; −∞ meets −∞ without NaN.
 *
 * @throws AttentionError `invalid-argument` for no partials, or partials of different classes, shapes or statistics; `foreign-tensor` for those of a device
 */
export function merge(partials: readonly Partial[]): HostPartial {
  const [first, ...others] = partials.map(partialOnHost);
  if (first === undefined) throw new AttentionError('invalid-argument', 'Got no partial results.', 'Pass at least one.');
  return others.reduce(mergeTwo, first);
}

function partialOnHost({ mergeClass, accumulator, statistics }: Partial): HostPartial {
  return { mergeClass, accumulator: onHost('accumulator', accumulator), statistics: Object.fromEntries(Object.entries(statistics).map(([name, each]) => [name, onHost(name, each)])) };
}

/** `logSumExp [1, 8, 16, 64] with logSumExp`: partials merge when this is the same. */
function describe({ mergeClass, accumulator, statistics }: HostPartial): string {
  return `class ${mergeClass} [${accumulator.shape.join(', ')}] with ${Object.keys(statistics).sort().join(', ')}`;
}

function mergeTwo(left: HostPartial, right: HostPartial): HostPartial {
  const shape = left.accumulator.shape;
  const [one, other] = [describe(left), describe(right)];
  if (one !== other) throw new AttentionError('invalid-argument', `Got partials of ${one} and of ${other}.`, 'Merge partials of one request and one set of queries.');
  const a = toFloat64(left.accumulator);
  const b = toFloat64(right.accumulator);
  const dim = shape[3] ?? 1;
  const logs = both(left, right, 'logSumExp');
  const merged = a.map((value, index) => {
    const other = b[index] ?? 0;
    switch (left.mergeClass) {
      case 'logSumExp': {
        const row = Math.floor(index / dim);
        return weighted(value, logs?.[0][row] ?? -Infinity, other, logs?.[1][row] ?? -Infinity);
      }
      case 'sum':
        return value + other;
      case 'max':
        return Math.max(value, other);
      case 'logSumExpOfValues':
        return logAddExp(value, other);
    }
  });
  const statistics = {
    ...statistic('logSumExp', logs, logAddExp, left),
    ...statistic('denominator', both(left, right, 'denominator'), (x, y) => x + y, left),
    ...statistic('count', both(left, right, 'count'), (x, y) => x + y, left),
  };
  return { mergeClass: left.mergeClass, accumulator: dense(merged, shape), statistics };
}

type Statistic = keyof HostPartial['statistics'];

function both(left: HostPartial, right: HostPartial, name: Statistic): readonly [Float64Array, Float64Array] | null {
  const a = left.statistics[name];
  const b = right.statistics[name];
  return a === undefined || b === undefined ? null : [toFloat64(a), toFloat64(b)];
}

function statistic(name: Statistic, values: readonly [Float64Array, Float64Array] | null, join: (a: number, b: number) => number, like: HostPartial): Record<string, HostTensor> {
  if (values === null) return {};
  const [a, b] = values;
  return { [name]: dense(a.map((value, index) => join(value, b[index] ?? 0)), like.accumulator.shape.slice(0, 3)) };
}

/** ln(e^a + e^b); −∞ where both are. */
function logAddExp(a: number, b: number): number {
  const largest = Math.max(a, b);
  return largest === -Infinity ? -Infinity : largest + Math.log(Math.exp(a - largest) + Math.exp(b - largest));
}

/** Two rows that each are averages, weighed by e^logSumExp; an empty one (−∞) has no part. */
function weighted(a: number, logA: number, b: number, logB: number): number {
  const log = logAddExp(logA, logB);
  if (log === -Infinity) return 0;
  return (logA === -Infinity ? 0 : Math.exp(logA - log) * a) + (logB === -Infinity ? 0 : Math.exp(logB - log) * b);
}

/**
 * Applies what comes once, at the end: sink, division, finish (L13).
 *
 * @param request the request that the partials were computed for
 * @param given   the merged partial
 * @param inputs  the call's queries, tables, uniforms and positions; its keys may be any shard
 * @returns host tensors: output in the request's output dtype, logSumExp in f64
 * @throws AttentionError `invalid-argument` for a partial of another request or other queries; those of {@link bind}
 */
export function finalize(request: AttentionRequest, given: Partial, inputs: AttentionInputs): AttentionOutputs<HostTensor> {
  const call = bind(request, inputs);
  const partial = partialOnHost(given);
  const merging = mergeClassOf(request.variant);
  if (merging.mergeClass !== partial.mergeClass || call.outputShape.join() !== partial.accumulator.shape.join()) {
    throw new AttentionError('invalid-argument', `Got a partial of ${describe(partial)} for outputs [${call.outputShape.join(', ')}] of ${merging.mergeClass === null ? 'a variant that does not merge' : `class ${merging.mergeClass}`}.`, 'Pass the request and the queries that it was computed for.');
  }
  const { rule } = request.variant.normalization;
  const { finish } = request.variant.aggregation;
  const place = new Place(call, hostTables(call.tables));
  const accumulator = toFloat64(partial.accumulator);
  const logs = partial.statistics.logSumExp === undefined ? null : toFloat64(partial.statistics.logSumExp);
  const denominators = partial.statistics.denominator === undefined ? null : toFloat64(partial.statistics.denominator);
  const counts = partial.statistics.count === undefined ? null : toFloat64(partial.statistics.count);
  const [, heads = 0, rows = 0, dim = 0] = call.outputShape;
  const output = new Float64Array(accumulator.length);
  const logSumExp = logs === null ? null : new Float64Array(logs.length).fill(-Infinity);
  for (const sequence of call.sequences) {
    place.enterSequence(sequence);
    for (let head = 0; head < heads; head++) {
      place.enterHead(head);
      for (let query = 0; query < sequence.queryRows; query++) {
        const row = (sequence.tensorBatch * heads + head) * rows + sequence.queryStart + query;
        place.enterQuery(query);
        const sink = rule.kind === 'softmax' && rule.sink !== null ? evaluate(rule.sink, place) : -Infinity;
        const log = logs === null ? 0 : logAddExp(logs[row] ?? -Infinity, sink);
        if (logSumExp !== null) logSumExp[row] = log;
        const isEmpty = counts === null ? logs?.[row] === -Infinity : counts[row] === 0;
        if (isEmpty) continue;
        for (let channel = 0; channel < dim; channel++) {
          const index = row * dim + channel;
          place.values.channel = channel;
          place.values.output = complete(partial.mergeClass, accumulator[index] ?? 0, logs?.[row] ?? 0, log, denominators === null || rule.kind !== 'rowSum' ? 1 : (denominators[row] ?? 0) + evaluate(rule.epsilon, place));
          output[index] = evaluate(finish, place);
        }
      }
    }
  }
  const dtype = request.dtypes?.output ?? onHost('query', inputs.query).dtype;
  return {
    output: tensor(encode(output, dtype), call.outputShape, { dtype }),
    ...(logSumExp === null ? {} : { logSumExp: dense(logSumExp, call.rowShape) }),
  };
}

function complete(mergeClass: MergeClass, value: number, logWithoutSink: number, log: number, denominator: number): number {
  switch (mergeClass) {
    case 'logSumExp':
      return value * Math.exp(logWithoutSink - log);
    case 'sum':
      return value / denominator;
    case 'max':
      return value;
    case 'logSumExpOfValues':
      return value - log;
  }
}

function dense(data: Float64Array, shape: readonly number[]): HostTensor {
  return tensor(data, shape, { strides: contiguousStrides(shape) });
}
