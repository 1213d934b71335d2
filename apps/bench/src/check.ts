/**
 * Compares results with the float64 reference, on the whole result where that is affordable and else on a sample of rows and heads.
 */
import { type Bound, compare, float32Attention, float32Threshold } from '@heed/conformance';
import { type AttentionKernel, type HostTensor, isHostTensor, restride, slice, tensor, toFloat64 } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import type { Inputs, Parameters } from './inputs.ts';
import type { Verdict } from './measure.ts';
import { tablesOf, variantOf } from './variants.ts';
import type { Workload } from './workloads.ts';

/** Evenly spaced query rows of one key head's group in one sequence. */
export interface Sample {
  readonly sequence: number;
  readonly keyHead: number;
  readonly firstRow: number;
  readonly rowStep: number;
  readonly rows: number;
}

/** What the reference says, for each sample [heads of the group, rows, valueDim]. */
export interface Expected {
  readonly samples: readonly Sample[];
  readonly values: readonly Float64Array[];
}

/** Products that the reference may compute for one workload: a second or two of its time. */
const defaultBudget = 1.2e8;

// A term of an additive score is an expression that the reference evaluates, which costs it as much as so many products.
const expressionCost = 40;

/**
 * Which part of the result to check: everything within the budget; else the first and last sequence, their first and last key head, and
 * evenly spaced rows that end with the last one.
 */
export function chooseSamples({ layer, batch, queryLength, keyLength }: Workload, budget: number = defaultBudget): readonly Sample[] {
  const perPair = layer.valueDim + (layer.scoring.kind === 'additive' ? expressionCost * layer.scoring.width : layer.queryDim);
  const perRow = keyLength * perPair * (layer.heads / layer.keyHeads);
  const whole = perRow * queryLength * layer.keyHeads * batch <= budget;
  const sequences = whole ? indices(batch) : ends(batch);
  const keyHeads = whole ? indices(layer.keyHeads) : ends(layer.keyHeads);
  const affordable = Math.max(1, Math.floor(budget / (perRow * sequences.length * keyHeads.length)));
  const rows = whole ? queryLength : Math.min(queryLength, affordable);
  const rowStep = Math.max(1, Math.floor((queryLength - 1) / Math.max(1, rows - 1)));
  const firstRow = queryLength - 1 - (rows - 1) * rowStep;
  return sequences.flatMap((sequence) => keyHeads.map((keyHead) => ({ sequence, keyHead, firstRow, rowStep, rows })));
}

function indices(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index);
}

function ends(count: number): readonly number[] {
  return count === 1 ? [0] : [0, count - 1];
}

/** Asks the reference for the samples. */
export async function computeExpected(workload: Workload, inputs: Inputs, samples: readonly Sample[] = chooseSamples(workload)): Promise<Expected> {
  const { layer, dtype } = workload;
  const backend = createReferenceBackend();
  const kernel = await backend.prepare({
    variant: variantOf(layer),
    queryDim: layer.queryDim,
    keyDim: layer.queryDim,
    valueDim: layer.valueDim,
    dtypes: { query: dtype, key: dtype, value: dtype, output: 'f64' },
  });
  try {
    const values: Float64Array[] = [];
    for (const sample of samples) values.push(await expectedSample(kernel, workload, inputs, sample));
    return { samples, values };
  } finally {
    await kernel.dispose();
    await backend.dispose();
  }
}

async function expectedSample(kernel: AttentionKernel, { layer, queryOffset }: Workload, inputs: Inputs, sample: Sample): Promise<Float64Array> {
  const group = layer.heads / layer.keyHeads;
  const head = sample.keyHead * group;
  const positions = Int32Array.from({ length: sample.rows }, (_, row) => queryOffset + sample.firstRow + row * sample.rowStep);
  const { output } = await kernel.run({
    query: rowsOf(part(inputs.query, sample.sequence, head, group), sample),
    key: part(inputs.key, sample.sequence, sample.keyHead, 1),
    value: part(inputs.value, sample.sequence, sample.keyHead, 1),
    tables: tablesOf(headsOf(inputs.parameters, head, group)),
    queryPositions: tensor(positions, [1, sample.rows]),
  });
  if (!isHostTensor(output)) throw new TypeError('The reference keeps its results on the host.');
  return toFloat64(output);
}

function part(source: HostTensor, sequence: number, head: number, heads: number): HostTensor {
  return slice(slice(source, 0, sequence, sequence + 1), 1, head, head + heads);
}

function rowsOf(source: HostTensor, { firstRow, rowStep, rows }: Sample): HostTensor {
  const [batch = 1, heads = 1, , dim = 1] = source.shape;
  const [alongBatch = 0, alongHeads = 0, alongRows = 0, alongDim = 0] = source.strides;
  return restride(source, [batch, heads, rows, dim], [alongBatch, alongHeads, alongRows * rowStep, alongDim], [0, 0, firstRow, 0]);
}

/** The parameters of some query heads. */
function headsOf({ sink, slopes, ...shared }: Parameters, head: number, heads: number): Parameters {
  const some = (table: HostTensor): HostTensor => slice(table, 0, head, head + heads);
  return { ...shared, ...(sink === undefined ? {} : { sink: some(sink) }), ...(slopes === undefined ? {} : { slopes: some(slopes) }) };
}

/**
 * The suite's bound for this workload: a formula in the number of keys, the width of the rows and the storage type, which knows how large
 * scores and results are.
 */
export function boundOf(workload: Workload, inputs: Inputs, expected: Expected): Bound {
  const { layer, keyLength, dtype } = workload;
  const dim = layer.scoring.kind === 'additive' ? layer.scoring.width : layer.queryDim;
  const magnitude = expected.values.reduce((largest, values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), largest), 0);
  const tolerance = layer.normalization === 'softmax' ? float32Attention : float32Threshold;
  return tolerance.bound({ length: keyLength, dim, dtype, score: largestScore(workload, inputs, expected.samples), magnitude });
}

/** Largest |scale · q · k| over a few rows of each sample; additive scores are small by themselves. */
function largestScore({ layer, keyLength }: Workload, inputs: Inputs, samples: readonly Sample[]): number {
  if (layer.scoring.kind === 'additive') return 4;
  let largest = 0;
  for (const sample of samples) {
    const rows = Math.min(sample.rows, rowsForScores);
    const query = toFloat64(rowsOf(part(inputs.query, sample.sequence, sample.keyHead * (layer.heads / layer.keyHeads), 1), { ...sample, rows }));
    const key = toFloat64(part(inputs.key, sample.sequence, sample.keyHead, 1));
    for (let row = 0; row < rows; row++) {
      for (let j = 0; j < keyLength; j++) {
        let score = 0;
        for (let d = 0; d < layer.queryDim; d++) score += (query[row * layer.queryDim + d] ?? 0) * (key[j * layer.queryDim + d] ?? 0);
        largest = Math.max(largest, Math.abs(score * layer.scale));
      }
    }
  }
  return largest;
}

const rowsForScores = 8;

/**
 * Compares a whole result with what the reference says of its samples.
 *
 * @param output dense [batch, heads, queryLength, valueDim]
 */
export function judge({ layer, dtype, batch, queryLength }: Workload, output: Float64Array, expected: Expected, bound: Bound): Verdict {
  const { heads, keyHeads, valueDim } = layer;
  const group = heads / keyHeads;
  const worst = { absolute: 0, relative: 0, share: 0 };
  let compared = 0;
  expected.samples.forEach(({ sequence, keyHead, firstRow, rowStep, rows }, index) => {
    const values = expected.values[index] ?? new Float64Array(0);
    for (let inGroup = 0; inGroup < group; inGroup++) {
      const headRow = (sequence * heads + keyHead * group + inGroup) * queryLength + firstRow;
      for (let row = 0; row < rows; row++) {
        const got = output.subarray((headRow + row * rowStep) * valueDim, (headRow + row * rowStep + 1) * valueDim);
        const want = values.subarray((inGroup * rows + row) * valueDim, (inGroup * rows + row + 1) * valueDim);
        const difference = compare(got, want, bound, dtype);
        for (const measure of ['absolute', 'relative', 'share'] as const) worst[measure] = Math.max(worst[measure], difference[measure]);
        compared += valueDim;
      }
    }
  });
  return {
    passed: compared > 0 && worst.share <= 1,
    maxAbsError: worst.absolute,
    maxRelError: worst.relative,
    bound,
    worstShare: worst.share,
    compared,
    elements: batch * heads * queryLength * valueDim,
  };
}
