import type { BoundSequence } from '../../bind.ts';
import { evaluate } from '../../expression/evaluate.ts';
import type { Expression } from '../../expression/node.ts';
import { Place } from '../../place.ts';
import type { Reduction } from '../../stages/aggregation/stage.ts';
import type { NormalizationRule } from '../../stages/normalization/stage.ts';
import { isProduct } from '../../variant.ts';
import type { NormalizedRow } from './normalize.ts';
import { normalizeRow } from './normalize.ts';
import type { Operands } from './operands.ts';
import { rowsOf } from './operands.ts';
import type { TransformedRow } from './transforms.ts';
import { transformRow } from './transforms.ts';
import type { Visibility } from './visibility.ts';
import { visibilityOf } from './visibility.ts';

/** One head of one sequence with its rows transformed and its values prepared. Rows of padding have no place in it: nothing is known of their positions. */
export interface Head {
  readonly sequence: BoundSequence;
  readonly head: number;
  readonly keyHead: number;
  /** [queryLength] */
  readonly queries: readonly TransformedRow[];
  /** [keyLength] */
  readonly keys: readonly TransformedRow[];
  /** prepare(v_j), [keyLength][valueDim]. */
  readonly values: readonly Float64Array[];
  readonly place: Place;
}

/** Everything that happens to one query row; arrays of keys run over `keys`. */
export interface Row {
  /** Allowed keys with a score above −∞, ascending. */
  readonly keys: readonly number[];
  /** Combined and scaled, then after each modifier; the last is final. */
  readonly scores: readonly Float64Array[];
  /** The final scores through the normalization's own expression. */
  readonly normalizedFrom: Float64Array;
  readonly sink: number;
  readonly epsilon: number;
  readonly normalized: NormalizedRow;
  /** After reweighing. */
  readonly weights: Float64Array;
  /** A NaN or +∞ score at an allowed key: the whole row is NaN (L1). */
  readonly poisoned: boolean;
}

/**
 * The meaning of a call, head by head and row by row:
 *   1 rows are transformed and values prepared   2 pairs are scored   3 modified   4 masked   5 normalized   6 reweighed   7 aggregated   8 finished
 */
export class Forward {
  readonly operands: Operands;
  readonly #place: Place;
  readonly #visibility: Visibility;

  constructor(operands: Operands) {
    this.operands = operands;
    this.#place = new Place(operands.call, operands.tables);
    this.#visibility = visibilityOf(operands.call);
    this.#place.edgeOf = this.#visibility.edgeOf;
  }

  /** Pass 1 for every head of every sequence, one at a time. */
  *heads(): Generator<Head> {
    const { call } = this.operands;
    for (const sequence of call.sequences) {
      for (let head = 0; head < call.heads; head++) yield this.#enter(sequence, head);
    }
  }

  #enter(sequence: BoundSequence, head: number): Head {
    const { call, query, key, value, queryDim, keyDim, valueDim } = this.operands;
    const { scoring } = call.request.variant;
    const place = this.#place;
    place.enterSequence(sequence);
    place.enterHead(head);
    const keyHead = place.values.keyHead;
    const queryRows = rowsOf(query, call.heads, call.queryRows, queryDim, sequence.tensorBatch, head, sequence.queryStart, sequence.queryRows);
    const keyRows = rowsOf(key, call.keyHeads, call.keyRows, keyDim, sequence.tensorBatch, keyHead, sequence.keyStart, sequence.keyRows);
    const valueRows = rowsOf(value, call.keyHeads, call.keyRows, valueDim, sequence.tensorBatch, keyHead, sequence.keyStart, sequence.keyRows);
    const queries = rows(queryRows, queryDim, sequence.queryLength).map((row, index) => {
      place.enterQuery(index);
      enterRow(place, head, index, place.values.queryPosition);
      return transformRow(scoring.queryTransforms, row, place);
    });
    const keys = rows(keyRows, keyDim, sequence.keyLength).map((row, index) => {
      place.enterKey(index);
      enterRow(place, keyHead, index, place.values.keyPosition);
      return transformRow(call.keysTransformed ? [] : scoring.keyTransforms, row, place);
    });
    place.enterHead(head);
    const values = rows(valueRows, valueDim, sequence.keyLength).map((row, index) => {
      place.enterKey(index);
      return this.prepareValue(row);
    });
    return { sequence, head, keyHead, queries, keys, values, place };
  }

  /** prepare(v_j); the place stands at the key. */
  prepareValue(row: Float64Array): Float64Array {
    const { prepare } = this.operands.call.request.variant.aggregation;
    if (prepare.kind === 'input') return row;
    return row.map((element, channel) => {
      this.#place.values.value = element;
      this.#place.values.channel = channel;
      return evaluate(prepare, this.#place);
    });
  }

  /** Keys that query row `query` of a head may see, scores of −∞ included. */
  visibleKeys(head: Head, query: number): readonly number[] {
    this.#stand(head, query);
    return this.#visibility.keysOf(head.sequence, head.head, query, head.place);
  }

  /** Passes 2 and 3: the score of each of these keys, first combined and scaled, then after each modifier. */
  scores(head: Head, query: number, keys: readonly number[]): readonly Float64Array[] {
    this.#stand(head, query);
    const { scoring } = this.operands.call.request.variant;
    const scale = evaluate(scoring.scale, head.place);
    const steps = [Float64Array.from(keys, (key) => scale * this.#combine(scoring.combine, head, query, key))];
    for (const modifier of scoring.modifiers) {
      const before = steps.at(-1);
      steps.push(Float64Array.from(keys, (key, index) => {
        head.place.enterKey(key);
        head.place.values.score = before?.[index] ?? Number.NaN;
        return evaluate(modifier.expression, head.place);
      }));
    }
    return steps;
  }

  #combine(combine: Expression, head: Head, query: number, key: number): number {
    const queryRow = head.queries[query]?.result ?? new Float64Array(0);
    const keyRow = head.keys[key]?.result ?? new Float64Array(0);
    let sum = 0;
    if (isProduct(combine)) {
      for (let channel = 0; channel < queryRow.length; channel++) sum += (queryRow[channel] ?? 0) * (keyRow[channel] ?? 0);
      return sum;
    }
    const { values } = head.place;
    head.place.enterKey(key);
    for (let channel = 0; channel < queryRow.length; channel++) {
      values.channel = channel;
      values.queryElement = queryRow[channel] ?? 0;
      values.keyElement = keyRow[channel] ?? 0;
      sum += evaluate(combine, head.place);
    }
    return sum;
  }

  /** Passes 2 to 6 of one query row. A partial result leaves out what is applied once at the end: the sink, and the division of rowSum. */
  row(head: Head, query: number, extent: 'whole' | 'partial' = 'whole'): Row {
    const { rule: wholeRule, reweigh } = this.operands.call.request.variant.normalization;
    const rule: NormalizationRule = extent === 'partial' && wholeRule.kind === 'rowSum' ? { kind: 'elementwise', score: wholeRule.score } : wholeRule;
    const allowed = this.visibleKeys(head, query);
    const all = this.scores(head, query, allowed);
    const final = all.at(-1) ?? new Float64Array(0);
    const kept = allowed.map((_, index) => index).filter((index) => final[index] !== -Infinity);
    const keys = kept.map((index) => allowed[index] ?? 0);
    const scores = all.map((step) => Float64Array.from(kept, (index) => step[index] ?? Number.NaN));
    const last = scores.at(-1) ?? new Float64Array(0);
    const { place } = head;
    const atKeys = (values: Float64Array, name: 'score' | 'weight', expression: Expression): Float64Array => {
      if (expression.kind === 'input') return values;
      return values.map((value, index) => {
        place.enterKey(keys[index] ?? 0);
        place.values[name] = value;
        return evaluate(expression, place);
      });
    };
    const normalizedFrom = atKeys(last, 'score', rule.score);
    const sink = extent === 'whole' && rule.kind === 'softmax' && rule.sink !== null ? evaluate(rule.sink, place) : -Infinity;
    const epsilon = rule.kind === 'rowSum' ? evaluate(rule.epsilon, place) : 0;
    const normalized = normalizeRow(rule, normalizedFrom, sink, epsilon);
    const poisoned = last.some((score) => Number.isNaN(score) || score === Infinity);
    return { keys, scores, normalizedFrom, sink, epsilon, normalized, weights: atKeys(normalized.weights, 'weight', reweigh), poisoned };
  }

  /** Pass 7: ⊕ over the row's keys, one number for each channel; NaN throughout a poisoned row. The row is not empty. */
  aggregate(head: Head, row: Row): Float64Array {
    const { reduction } = this.operands.call.request.variant.aggregation;
    const { valueDim } = this.operands;
    if (row.poisoned) return new Float64Array(valueDim).fill(Number.NaN);
    const values = row.keys.map((key) => head.values[key] ?? new Float64Array(valueDim).fill(Number.NaN));
    if (reduction !== 'sum') return new Float64Array(valueDim).map((_, channel) => reduceChannel(reduction, row.weights, values.map((value) => value[channel] ?? Number.NaN)));
    const sum = new Float64Array(valueDim);
    values.forEach((value, index) => {
      const weight = row.weights[index] ?? Number.NaN;
      for (let channel = 0; channel < valueDim; channel++) sum[channel] = (sum[channel] ?? 0) + weight * (value[channel] ?? Number.NaN);
    });
    return sum;
  }

  /** Pass 8: finish, at a query row. */
  finish(head: Head, query: number, aggregated: Float64Array): Float64Array {
    this.#stand(head, query);
    return finishRow(this.operands.call.request.variant.aggregation.finish, aggregated, head.place);
  }

  #stand(head: Head, query: number): void {
    head.place.enterSequence(head.sequence);
    head.place.enterHead(head.head);
    head.place.enterQuery(query);
    head.place.queryRow = head.queries[query]?.result ?? new Float64Array(0);
  }
}

/** ⊕ of the weighted values of one channel that is no plain sum: their largest, or ln Σ w e^v around its largest term. A weight of 0 brings nothing, however large its value. */
export function reduceChannel(reduction: Exclude<Reduction, 'sum'>, weights: Float64Array, values: readonly number[]): number {
  if (reduction === 'max') return values.reduce((largest, value, index) => Math.max(largest, (weights[index] ?? 0) * value), -Infinity);
  const exponents = weights.map((weight, index) => (weight === 0 ? -Infinity : Math.log(Math.abs(weight)) + (values[index] ?? 0)));
  const largest = exponents.reduce((a, b) => Math.max(a, b), -Infinity);
  if (largest === -Infinity) return -Infinity;
  return largest + Math.log(exponents.reduce((sum, exponent, index) => sum + Math.sign(weights[index] ?? 0) * Math.exp(exponent - largest), 0));
}

/** finish(aggregated), channel by channel; the place stands at the query row. */
export function finishRow(finish: Expression, aggregated: Float64Array, place: Place): Float64Array {
  if (finish.kind === 'input') return aggregated;
  return aggregated.map((element, channel) => {
    place.values.output = element;
    place.values.channel = channel;
    return evaluate(finish, place);
  });
}

function enterRow(place: Place, head: number, index: number, position: number): void {
  place.values.head = head;
  place.values.index = index;
  place.values.position = position;
}

function rows(flat: Float64Array, dim: number, count: number): readonly Float64Array[] {
  return Array.from({ length: count }, (_, index) => flat.subarray(index * dim, (index + 1) * dim));
}
