import { describe, expect, test } from 'vitest';
import { additive, Aggregation, alibi, attention, causal, input, modifier, Normalization, projection, rope, scaledDot, softcap, softmax, tensor, toFloat64, weightedSum, write } from '../../src/index.ts';
import type { AttentionInputs, AttentionVariant, GradientName, HostTensor, NormalizationRule, RowTransform } from '../../src/index.ts';
import { noDeclarations } from '../../src/expression/declarations.ts';
import { ReferenceKernel } from '../../src/reference/attention/kernel.ts';

// Expected values are central differences of the forward pass, error O(h²) with h = 1e-5 in float64 (L19).
const step = 1e-5;

function numbers(seed: number, count: number): Float64Array {
  let state = seed;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 0) / 2 ** 31 - 1;
  });
}

function random(seed: number, shape: readonly number[]): HostTensor {
  return tensor(numbers(seed, shape.reduce((a, b) => a * b, 1)), shape);
}

interface Case {
  readonly variant: AttentionVariant;
  readonly tables?: Readonly<Record<string, HostTensor>>;
  readonly queryDim?: number;
}

const heads = 2;
const length = 4;

async function check({ variant, tables = {}, queryDim = 4 }: Case): Promise<void> {
  const valueDim = 3;
  const floats = Object.keys(tables).filter((name) => variant.tables[name]?.type === 'f32');
  const gradients: GradientName[] = ['query', 'key', 'value', ...floats.map((name): GradientName => `tables.${name}`)];
  const kernel = new ReferenceKernel({ variant, queryDim, keyDim: queryDim, valueDim, dtypes: { query: 'f64', key: 'f64', value: 'f64' }, gradients }, () => false);
  const inputs: AttentionInputs & { readonly tables: Readonly<Record<string, HostTensor>> } = {
    query: random(1, [1, heads, length, queryDim]),
    key: random(2, [1, 1, length, queryDim]),
    value: random(3, [1, 1, length, valueDim]),
    tables,
  };
  const outputGradient = random(4, [1, heads, length, valueDim]);
  const logGradient = random(5, [1, heads, length]);
  const objective = async (changed: AttentionInputs): Promise<number> => {
    const { output, logSumExp } = await kernel.run(changed);
    const dot = (a: HostTensor, b: HostTensor): number => toFloat64(a).reduce((sum, each, index) => sum + each * (toFloat64(b)[index] ?? 0), 0);
    return dot(output, outputGradient) + (logSumExp === undefined ? 0 : dot(logSumExp, logGradient));
  };
  const { saved, logSumExp } = await kernel.run(inputs);
  if (saved === undefined) throw new Error('a kernel prepared with gradients saves nothing');
  const got = await kernel.backward(inputs, saved, { output: outputGradient, ...(logSumExp === undefined ? {} : { logSumExp: logGradient }) });
  for (const name of gradients) {
    const original = name === 'query' || name === 'key' || name === 'value' ? (inputs[name] as HostTensor) : inputs.tables[name.slice(7)];
    const gradient = got[name];
    if (original === undefined || gradient === undefined) throw new Error(`no gradient of ${name}`);
    const base = toFloat64(original);
    for (let index = 0; index < base.length; index++) {
      const moved = async (by: number): Promise<number> => {
        const copy = tensor(base.map((each, at) => (at === index ? each + by : each)), original.shape);
        const isTable = name.startsWith('tables.');
        return objective(isTable ? { ...inputs, tables: { ...tables, [name.slice(7)]: copy } } : { ...inputs, [name]: copy });
      };
      const expected = ((await moved(step)) - (await moved(-step))) / (2 * step);
      expect(Math.abs((toFloat64(gradient)[index] ?? Number.NaN) - expected), `${name}[${index}]`).toBeLessThan(1e-7 + 1e-6 * Math.abs(expected));
    }
  }
}

function withRule(rule: NormalizationRule): Normalization {
  return new Normalization({ ...noDeclarations, name: rule.kind, rule, reweigh: input('weight').node });
}

const score = input('score').node;
const sum = { ...noDeclarations, name: 'test', prepare: input('value').node, finish: input('output').node };

function map(rule: Extract<RowTransform, { kind: 'featureMap' }>['map'], tables: RowTransform['tables'] = {}): RowTransform {
  return { kind: 'featureMap', name: 'map', map: rule, uniforms: {}, tables };
}

describe('gradients are the central differences of the forward pass', () => {
  test('causal softmax', () => check({ variant: attention({ masking: causal() }) }));
  test('softmax with a sink and a temperature', () => check({ variant: attention({ normalization: softmax({ sink: true, temperature: 2 }) }), tables: { sink: random(6, [heads]) } }));
  test('ALiBi under a softcap', () => check({ variant: attention({ scoring: scaledDot().modify(alibi(), softcap(2)) }), tables: { slopes: random(6, [heads]) } }));
  test('an additive bias shared by the heads', () =>
    check({
      variant: attention({ scoring: scaledDot().modify(modifier('bias', ({ score: s, head, queryIndex, keyIndex, table }) => s.add(table('bias', ['head', 'queryLength', 'keyLength']).at(head, queryIndex, keyIndex).tanh()))) }),
      tables: { bias: random(6, [1, length, length]) },
    }));
  test('a table of query vectors by clipped distance', () =>
    check({
      variant: attention({
        scoring: scaledDot().modify(modifier('relative', ({ score: s, queryPosition, keyPosition, queryTable }) => s.add(queryTable('relative', 3).at(keyPosition.sub(queryPosition).max(-1).min(1).add(1)).exp()))),
      }),
      tables: { relative: random(6, [3, 4]) },
    }));
  test('additive scoring with its projections', () =>
    check({
      variant: attention({ scoring: additive({ width: 3, bias: true }) }),
      tables: { queryProjection: random(6, [3, 4]), keyProjection: random(7, [3, 4]), vector: random(8, [3]), queryProjectionBias: random(9, [3]) },
    }));
  test('rotary positions with learned frequencies, half and interleaved', async () => {
    await check({ variant: attention({ scoring: scaledDot().transform(rope({ pairing: 'half', frequencies: 'frequencies' })) }), tables: { frequencies: random(6, [2]) } });
    await check({ variant: attention({ scoring: scaledDot().transform(rope({ pairing: 'interleaved', width: 2 })) }) });
  });
  test.each(['l2', 'rms', 'layer'] as const)('%s norm with gain and shift', (norm) => {
    const gain = write('transform', 'norm', ({ channel, table }) => table('gain', ['queryDim']).at(channel));
    const shift = write('transform', 'norm', ({ channel, table }) => table('shift', ['queryDim']).at(channel));
    const transform: RowTransform = { kind: 'norm', name: norm, norm, epsilon: { kind: 'constant', type: 'f32', value: 1e-3 }, gain: gain.expression, shift: shift.expression, uniforms: {}, tables: { ...gain.tables, ...shift.tables } };
    return check({ variant: attention({ scoring: scaledDot().transform(transform) }), tables: { gain: random(6, [4]), shift: random(7, [4]) } });
  });
  test.each([
    map({ rule: 'hedgehog', softmax: true }),
    map({ rule: 'hedgehog', softmax: false }),
    map({ rule: 'based' }),
    map({ rule: 'dpfp', order: 2 }),
    map({ rule: 'cosformer', horizon: { kind: 'constant', type: 'f32', value: 16 } }),
  ])('feature map $map', (transform) => check({ variant: attention({ scoring: scaledDot({ scale: 1 }).transform(transform), normalization: withRule({ kind: 'elementwise', score }) }) }));
  test('FAVOR+ features and their frequencies', () =>
    check({
      variant: attention({
        scoring: scaledDot({ scale: 1 }).transform(map({ rule: 'favor', table: 'omega', features: 5 }, { omega: { type: 'f32', axes: [5, 'queryDim'] } })),
        normalization: withRule({ kind: 'rowSum', score, epsilon: { kind: 'constant', type: 'f32', value: 1e-3 } }),
      }),
      tables: { omega: random(6, [5, 4]) },
    }));
  test('projection for each head, shared keys', () =>
    check({ variant: attention({ scoring: scaledDot().transformQuery(projection({ width: 4, perHead: 'head', bias: true })) }), tables: { projection: random(6, [heads, 4, 4]), projectionBias: random(7, [heads, 4]) } }));
  test.each([2, 1.5, 1.3])('entmax with α = %d', (alpha) => check({ variant: attention({ normalization: withRule({ kind: 'threshold', score, alpha }) }) }));
  test('weights reweighed by a table', () => {
    const reweighing = write('reweigh', 'gain', ({ weight, keyIndex, table }) => weight.mul(table('keyGain', ['keyLength']).at(keyIndex)));
    return check({ variant: attention({ normalization: softmax().reweighBy(reweighing) }), tables: { keyGain: random(6, [length]) } });
  });
  test('ln Σ w e^v, and the largest weighted value', async () => {
    await check({ variant: attention({ aggregation: new Aggregation({ ...sum, reduction: 'logSumExp' }) }) });
    await check({ variant: attention({ aggregation: new Aggregation({ ...sum, reduction: 'max' }) }) });
  });
  test('prepared values and gated outputs', () => {
    const prepare = write('prepare', 'prepare', ({ value, channel, table }) => value.mul(table('valueGain', ['valueDim']).at(channel)).tanh());
    const finish = write('finish', 'gate', ({ output, head, queryIndex, channel, table }) => output.mul(table('gate', ['head', 'queryLength', 'valueDim']).at(head, queryIndex, channel)));
    return check({ variant: attention({ aggregation: weightedSum().prepareBy(prepare).finishBy(finish) }), tables: { valueGain: random(6, [3]), gate: random(7, [heads, length, 3]) } });
  });
});
