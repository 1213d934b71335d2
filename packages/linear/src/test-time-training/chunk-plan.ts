/** In-Place test-time training (Feng 2026) with the steps of training plans: a piece reads the weights that its chunk began with; a full chunk is written at once. */
import type { ChunkRule, FastWeightRequest } from '@heed/core';
import { widthOf } from '@heed/core/compute';
import { Layout } from './layout.ts';
import { largestBlock, type TrainingPlan, type TrainingStep } from './plan.ts';

/** The plan of a chunk rule. */
export function chunkPlan(request: FastWeightRequest, rule: ChunkRule): TrainingPlan {
  const width = widthOf(request);
  const { valueDim } = request;
  const { chunk, taps } = rule;
  const block = Math.min(chunk, largestBlock);
  const layout = new Layout();
  const tokens = (name: string, columns: number): ReturnType<Layout['matrix']> => layout.matrix(name, block, columns);
  const [key, query, target, output] = [tokens('key', width), tokens('query', width), tokens('target', valueDim), tokens('output', valueDim)];
  const read = tokens('read', valueDim);
  const weight = layout.matrix('weight', width, valueDim);
  const [keys, values] = [layout.matrix('keys', chunk, width), layout.matrix('values', chunk, valueDim)];
  const targets = layout.matrix('targets', chunk, valueDim);
  const convolution = taps === null ? null : layout.matrix('convolution', taps, valueDim);
  const projection = rule.projection ? layout.matrix('projection', valueDim, valueDim) : null;
  const projected = rule.projection ? layout.matrix('projected', chunk, valueDim) : targets;
  const write: readonly TrainingStep[] = [
    { step: 'convolve', to: targets, from: values, taps: convolution },
    ...(projection === null ? [] : [{ step: 'product', form: 'plain', to: projected, left: targets, right: projection, rows: chunk, columns: valueDim, depth: valueDim, effect: 'set' } as const]),
    { step: 'product', form: 'leftTransposed', to: weight, left: keys, right: projected, rows: width, columns: valueDim, depth: chunk, effect: 'add' },
    { step: 'clear', to: keys },
    { step: 'clear', to: values },
  ];
  return {
    name: rule.name,
    description: [
      `the rule '${rule.name}' reads a ${width} × ${valueDim} weight and writes it anew after each chunk of ${chunk} tokens`,
      `pieces of at most ${block} tokens as one matrix product; a full chunk, ${taps === null ? 'its values as they are' : `its values convolved over ${taps} tokens`}${rule.projection ? ' and projected' : ''}, as one more`,
    ],
    width, valueDim, batch: chunk, block, key, query, target, output,
    subtractsKey: false, residual: false, rates: null, gain: null, shift: null,
    rate: rule.rate, rateDivisor: 1, epsilon: null,
    tables: [
      ...(convolution === null ? [] : [{ source: { table: 'convolution', perHead: false, rowAxis: 1, columnAxis: 0 }, matrix: convolution }]),
      ...(projection === null ? [] : [{ source: { table: 'projection', perHead: true, rowAxis: 1, columnAxis: 2 }, matrix: projection }]),
    ],
    state: [
      { state: 'weight', of: 'valueHead', source: { table: 'weight', perHead: true, rowAxis: 1, columnAxis: 2 }, matrix: weight, row: 0, rows: width, columns: valueDim },
      { state: 'keys', of: 'head', source: null, matrix: keys, row: 0, rows: chunk, columns: width },
      { state: 'values', of: 'valueHead', source: null, matrix: values, row: 0, rows: chunk, columns: valueDim },
    ],
    steps: [
      { step: 'product', form: 'plain', to: read, left: query, right: weight, rows: 'tokens', columns: valueDim, depth: width, effect: 'set' },
      { step: 'finish', from: read },
      { step: 'append', to: keys, from: key },
      { step: 'append', to: values, from: target },
      { step: 'when', condition: 'batchEnds', steps: write },
    ],
    size: layout.size,
  };
}
