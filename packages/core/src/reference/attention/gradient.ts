import type { GradientName, OutputGradients } from '../../backend.ts';
import { differentiate } from '../../expression/differentiate.ts';
import { evaluate } from '../../expression/evaluate.ts';
import type { Expression } from '../../expression/node.ts';
import { onHost } from '../../place.ts';
import type { HostTensor } from '../../tensor.ts';
import { toFloat64 } from '../../tensor.ts';
import { isProduct } from '../../variant.ts';
import type { Head, Row } from './forward.ts';
import { Forward, reduceChannel } from './forward.ts';
import { normalizeRowBackward } from './normalize.ts';
import type { Operands } from './operands.ts';
import { rowsOf } from './operands.ts';
import { denseTensor } from '../../dense-tensor.ts';
import { TableGradients } from './table-gradients.ts';
import { transformRowBackward } from './transforms-backward.ts';

const score: Expression = { kind: 'input', type: 'f32', name: 'score' };
const weight: Expression = { kind: 'input', type: 'f32', name: 'weight' };
const value: Expression = { kind: 'input', type: 'f32', name: 'value' };
const output: Expression = { kind: 'input', type: 'f32', name: 'output' };
const queryElement: Expression = { kind: 'input', type: 'f32', name: 'queryElement' };
const keyElement: Expression = { kind: 'input', type: 'f32', name: 'keyElement' };

/** Gradients of the inputs asked for, f64, in the shapes of the inputs: the forward passes in reverse, row by row (L19). */
export function computeGradients(operands: Operands, gradients: OutputGradients, names: readonly GradientName[]): Readonly<Record<string, HostTensor>> {
  const backward = new Backward(operands, gradients);
  return Object.fromEntries(names.map((name) => [name, backward.gradientOf(name)]));
}

class Backward {
  readonly #operands: Operands;
  readonly #forward: Forward;
  readonly #query: Float64Array;
  readonly #key: Float64Array;
  readonly #value: Float64Array;
  readonly #tables: TableGradients;

  constructor(operands: Operands, gradients: OutputGradients) {
    this.#operands = operands;
    this.#forward = new Forward(operands);
    this.#query = new Float64Array(operands.query.length);
    this.#key = new Float64Array(operands.key.length);
    this.#value = new Float64Array(operands.value.length);
    this.#tables = new TableGradients(operands);
    const outputGradient = toFloat64(onHost('outputGradients.output', gradients.output));
    const logSumExpGradient = gradients.logSumExp === undefined ? null : toFloat64(onHost('outputGradients.logSumExp', gradients.logSumExp));
    for (const head of this.#forward.heads()) this.#head(head, outputGradient, logSumExpGradient);
  }

  gradientOf(name: GradientName): HostTensor {
    const { inputs } = this.#operands.call;
    if (name === 'query') return denseTensor(this.#query, inputs.query.shape, 'f64');
    if (name === 'key') return denseTensor(this.#key, inputs.key.shape, 'f64');
    if (name === 'value') return denseTensor(this.#value, inputs.value.shape, 'f64');
    return this.#tables.toTensor(name.slice('tables.'.length));
  }

  #head(head: Head, outputGradient: Float64Array, logSumExpGradient: Float64Array | null): void {
    const { call, queryDim, keyDim, valueDim } = this.#operands;
    const { sequence, place } = head;
    const { scoring, aggregation } = call.request.variant;
    const keyGradients = head.keys.map((key) => new Float64Array(key.result.length));
    const valueGradients = head.values.map(() => new Float64Array(valueDim));
    // Rows that no score came from get no gradient, though they hold NaN: 0 · NaN never arises.
    const seen = new Set<number>();
    const outputRows = rowsOf(outputGradient, call.heads, call.queryRows, valueDim, sequence.tensorBatch, head.head, sequence.queryStart, sequence.queryRows);
    const queryRows = rowsOf(this.#query, call.heads, call.queryRows, queryDim, sequence.tensorBatch, head.head, sequence.queryStart, sequence.queryRows);
    for (let query = 0; query < sequence.queryRows; query++) {
      const row = this.#forward.row(head, query);
      if (row.keys.length === 0) continue;
      row.keys.forEach((key) => seen.add(key));
      const logSumExpAt = rowsOf(logSumExpGradient ?? new Float64Array(0), call.heads, call.queryRows, 1, sequence.tensorBatch, head.head, sequence.queryStart + query, 1)[0] ?? 0;
      const gradient = outputRows.subarray(query * valueDim, (query + 1) * valueDim);
      const queryGradient = this.#row(head, query, row, gradient, logSumExpAt, keyGradients, valueGradients);
      place.enterQuery(query);
      this.#enterRow(head, head.head, query, place.values.queryPosition);
      const transformed = head.queries[query];
      if (transformed !== undefined) add(queryRows.subarray(query * queryDim, (query + 1) * queryDim), transformRowBackward(scoring.queryTransforms, transformed, queryGradient, place, this.#tables));
    }
    const keyRows = rowsOf(this.#key, call.keyHeads, call.keyRows, keyDim, sequence.tensorBatch, head.keyHead, sequence.keyStart, sequence.keyRows);
    const valueRows = rowsOf(this.#value, call.keyHeads, call.keyRows, valueDim, sequence.tensorBatch, head.keyHead, sequence.keyStart, sequence.keyRows);
    const rawValues = rowsOf(this.#operands.value, call.keyHeads, call.keyRows, valueDim, sequence.tensorBatch, head.keyHead, sequence.keyStart, sequence.keyRows);
    const byValue = differentiate(aggregation.prepare, value);
    head.keys.forEach((key, index) => {
      if (!seen.has(index)) return;
      place.enterKey(index);
      place.enterHead(head.head);
      valueGradients[index]?.forEach((amount, channel) => {
        place.values.value = rawValues[index * valueDim + channel] ?? 0;
        place.values.channel = channel;
        this.#tables.through(aggregation.prepare, amount, place);
        valueRows[index * valueDim + channel] = (valueRows[index * valueDim + channel] ?? 0) + amount * evaluate(byValue, place);
      });
      this.#enterRow(head, head.keyHead, index, place.values.keyPosition);
      const transforms = call.keysTransformed ? [] : scoring.keyTransforms;
      add(keyRows.subarray(index * keyDim, (index + 1) * keyDim), transformRowBackward(transforms, key, keyGradients[index] ?? new Float64Array(0), place, this.#tables));
    });
  }

  /** Passes 8 to 2 of one row that is not empty; returns the gradient of its transformed query row. */
  #row(head: Head, query: number, row: Row, outputGradient: Float64Array, logSumExpGradient: number, keyGradients: readonly Float64Array[], valueGradients: readonly Float64Array[]): Float64Array {
    const { aggregation, normalization, scoring } = this.#operands.call.request.variant;
    const { place } = head;
    const queryGradient = new Float64Array(place.queryRow.length);
    const { rule } = normalization;
    // 8 finish
    const aggregated = this.#forward.aggregate(head, row);
    const byOutput = differentiate(aggregation.finish, output);
    const gradient = outputGradient.map((amount, channel) => {
      place.values.output = aggregated[channel] ?? 0;
      place.values.channel = channel;
      this.#tables.through(aggregation.finish, amount, place);
      return amount * evaluate(byOutput, place);
    });
    // 7 aggregate
    const weightGradient = this.#aggregateBackward(head, row, aggregated, gradient, valueGradients);
    // 6 reweigh
    const normalizedGradient = this.#throughPairs(head, row, normalization.reweigh, weight, 'weight', row.normalized.weights, weightGradient, queryGradient);
    // 5 normalize
    const normalized = normalizeRowBackward(rule, row.normalized, normalizedGradient, logSumExpGradient, row.sink);
    if (rule.kind === 'softmax' && rule.sink !== null) this.#tables.through(rule.sink, normalized.sink, place);
    const final = row.scores.at(-1) ?? new Float64Array(0);
    let current = this.#throughPairs(head, row, rule.score, score, 'score', final, normalized.scores, queryGradient);
    // 3 modify, last to first
    for (let step = scoring.modifiers.length - 1; step >= 0; step--) {
      const modifier = scoring.modifiers[step];
      if (modifier !== undefined) current = this.#throughPairs(head, row, modifier.expression, score, 'score', row.scores[step] ?? final, current, queryGradient);
    }
    // 2 combine
    this.#combineBackward(head, query, row, current, keyGradients, queryGradient);
    return queryGradient;
  }

  #aggregateBackward(head: Head, row: Row, aggregated: Float64Array, gradient: Float64Array, valueGradients: readonly Float64Array[]): Float64Array {
    const { reduction } = this.#operands.call.request.variant.aggregation;
    const weightGradient = new Float64Array(row.keys.length);
    gradient.forEach((amount, channel) => {
      const values = row.keys.map((key) => head.values[key]?.[channel] ?? 0);
      const winner = reduction === 'max' ? values.findIndex((each, index) => (row.weights[index] ?? 0) * each === aggregated[channel]) : -1;
      const total = reduction === 'logSumExp' ? reduceChannel(reduction, row.weights, values) : 0;
      row.keys.forEach((key, index) => {
        if (reduction === 'max' && index !== winner) return;
        const own = row.weights[index] ?? 0;
        const share = reduction === 'logSumExp' ? Math.exp((values[index] ?? 0) - total) : null;
        const target = valueGradients[key];
        if (target !== undefined) target[channel] = (target[channel] ?? 0) + amount * own * (share ?? 1);
        weightGradient[index] = (weightGradient[index] ?? 0) + amount * (share ?? values[index] ?? 0);
      });
    });
    return weightGradient;
  }

  /** Through one expression at every key of a row: the gradient of its input `leaf`, with tables and query tables on the way. */
  #throughPairs(head: Head, row: Row, expression: Expression, leaf: Expression, name: 'score' | 'weight', inputs: Float64Array, gradient: Float64Array, queryGradient: Float64Array): Float64Array {
    if (expression.kind === 'input') return gradient;
    const { place } = head;
    const byLeaf = differentiate(expression, leaf);
    const queryReads = this.#tables.queryReads(expression);
    return gradient.map((amount, index) => {
      place.enterKey(row.keys[index] ?? 0);
      place.values[name] = inputs[index] ?? 0;
      this.#tables.through(expression, amount, place);
      for (const { read, derivative } of queryReads) {
        const outer = amount * evaluate(derivative, place);
        const tableRow = evaluate(read.row, place);
        place.queryRow.forEach((element, channel) => {
          const indices = place.queryTableIndices(read.name, tableRow, channel);
          this.#tables.add(read.name, indices, outer * element);
          queryGradient[channel] = (queryGradient[channel] ?? 0) + outer * place.tableNamed(read.name).at(indices);
        });
      }
      return amount * evaluate(byLeaf, place);
    });
  }

  #combineBackward(head: Head, query: number, row: Row, gradient: Float64Array, keyGradients: readonly Float64Array[], queryGradient: Float64Array): void {
    const { scoring } = this.#operands.call.request.variant;
    const { place } = head;
    const scale = evaluate(scoring.scale, place);
    const queryRow = head.queries[query]?.result ?? new Float64Array(0);
    const product = isProduct(scoring.combine);
    const byQuery = differentiate(scoring.combine, queryElement);
    const byKey = differentiate(scoring.combine, keyElement);
    row.keys.forEach((key, index) => {
      const amount = scale * (gradient[index] ?? 0);
      const keyRow = head.keys[key]?.result ?? new Float64Array(0);
      const keyGradient = keyGradients[key] ?? new Float64Array(0);
      place.enterKey(key);
      for (let channel = 0; channel < queryRow.length; channel++) {
        place.values.channel = channel;
        place.values.queryElement = queryRow[channel] ?? 0;
        place.values.keyElement = keyRow[channel] ?? 0;
        queryGradient[channel] = (queryGradient[channel] ?? 0) + amount * (product ? place.values.keyElement : evaluate(byQuery, place));
        keyGradient[channel] = (keyGradient[channel] ?? 0) + amount * (product ? place.values.queryElement : evaluate(byKey, place));
        if (!product) this.#tables.through(scoring.combine, amount, place);
      }
    });
  }

  #enterRow(head: Head, rowHead: number, index: number, position: number): void {
    head.place.values.head = rowHead;
    head.place.values.index = index;
    head.place.values.position = position;
  }
}

function add(target: Float64Array, source: Float64Array): void {
  source.forEach((amount, index) => (target[index] = (target[index] ?? 0) + amount));
}
