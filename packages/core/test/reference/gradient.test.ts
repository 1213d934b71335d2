import { describe, test } from 'vitest';
import { additive, Aggregation, alibi, attention, causal, input, modifier, Normalization, projection, rope, scaledDot, softcap, softmax, weightedSum, write } from '../../src/index.ts';
import type { NormalizationRule, RowTransform } from '../../src/index.ts';
import { noDeclarations } from '../../src/expression/declarations.ts';
import { random } from '../plain.ts';
import { checkGradients, heads, length } from './central-differences.ts';

// Expected values are central differences of the forward pass in float64 (L19).

function withRule(rule: NormalizationRule): Normalization {
  return new Normalization({ ...noDeclarations, name: rule.kind, rule, reweigh: input('weight').node });
}

const score = input('score').node;
const sum = { ...noDeclarations, name: 'test', prepare: input('value').node, finish: input('output').node };

function map(rule: Extract<RowTransform, { kind: 'featureMap' }>['map'], tables: RowTransform['tables'] = {}): RowTransform {
  return { kind: 'featureMap', name: 'map', map: rule, uniforms: {}, tables };
}

describe('gradients are the central differences of the forward pass', () => {
  test('causal softmax', () => checkGradients({ variant: attention({ masking: causal() }) }));
  test('softmax with a sink and a temperature', () => checkGradients({ variant: attention({ normalization: softmax({ sink: true, temperature: 2 }) }), tables: { sink: random(6, [heads]) } }));
  test('ALiBi under a softcap', () => checkGradients({ variant: attention({ scoring: scaledDot().modify(alibi(), softcap(2)) }), tables: { slopes: random(6, [heads]) } }));
  test('an additive bias shared by the heads', () =>
    checkGradients({
      variant: attention({ scoring: scaledDot().modify(modifier('bias', ({ score: s, head, queryIndex, keyIndex, table }) => s.add(table('bias', ['head', 'queryLength', 'keyLength']).at(head, queryIndex, keyIndex).tanh()))) }),
      tables: { bias: random(6, [1, length, length]) },
    }));
  test('a table of query vectors by clipped distance', () =>
    checkGradients({
      variant: attention({
        scoring: scaledDot().modify(modifier('relative', ({ score: s, queryPosition, keyPosition, queryTable }) => s.add(queryTable('relative', 3).at(keyPosition.sub(queryPosition).max(-1).min(1).add(1)).exp()))),
      }),
      tables: { relative: random(6, [3, 4]) },
    }));
  test('additive scoring with its projections', () =>
    checkGradients({
      variant: attention({ scoring: additive({ width: 3, bias: true }) }),
      tables: { queryProjection: random(6, [3, 4]), keyProjection: random(7, [3, 4]), vector: random(8, [3]), queryProjectionBias: random(9, [3]) },
    }));
  test('rotary positions with learned frequencies, half and interleaved', async () => {
    await checkGradients({ variant: attention({ scoring: scaledDot().transform(rope({ pairing: 'half', frequencies: 'frequencies' })) }), tables: { frequencies: random(6, [2]) } });
    await checkGradients({ variant: attention({ scoring: scaledDot().transform(rope({ pairing: 'interleaved', width: 2 })) }) });
  });
  test.each(['l2', 'rms', 'layer'] as const)('%s norm with gain and shift', (norm) => {
    const gain = write('transform', 'norm', ({ channel, table }) => table('gain', ['queryDim']).at(channel));
    const shift = write('transform', 'norm', ({ channel, table }) => table('shift', ['queryDim']).at(channel));
    const transform: RowTransform = { kind: 'norm', name: norm, norm, epsilon: { kind: 'constant', type: 'f32', value: 1e-3 }, gain: gain.expression, shift: shift.expression, uniforms: {}, tables: { ...gain.tables, ...shift.tables } };
    return checkGradients({ variant: attention({ scoring: scaledDot().transform(transform) }), tables: { gain: random(6, [4]), shift: random(7, [4]) } });
  });
  test.each([
    map({ rule: 'hedgehog', softmax: true }),
    map({ rule: 'hedgehog', softmax: false }),
    map({ rule: 'based' }),
    map({ rule: 'dpfp', order: 2 }),
    map({ rule: 'cosformer', horizon: { kind: 'constant', type: 'f32', value: 16 } }),
  ])('feature map $map', (transform) => checkGradients({ variant: attention({ scoring: scaledDot({ scale: 1 }).transform(transform), normalization: withRule({ kind: 'elementwise', score }) }) }));
  test('FAVOR+ features and their frequencies', () =>
    checkGradients({
      variant: attention({
        scoring: scaledDot({ scale: 1 }).transform(map({ rule: 'favor', table: 'omega', features: 5 }, { omega: { type: 'f32', axes: [5, 'queryDim'] } })),
        normalization: withRule({ kind: 'rowSum', score, epsilon: { kind: 'constant', type: 'f32', value: 1e-3 } }),
      }),
      tables: { omega: random(6, [5, 4]) },
    }));
  test('projection for each head, shared keys', () =>
    checkGradients({ variant: attention({ scoring: scaledDot().transformQuery(projection({ width: 4, perHead: 'head', bias: true })) }), tables: { projection: random(6, [heads, 4, 4]), projectionBias: random(7, [heads, 4]) } }));
  test.each([2, 1.5, 1.3])('entmax with α = %d', (alpha) => checkGradients({ variant: attention({ normalization: withRule({ kind: 'threshold', score, alpha }) }) }));
  test('weights reweighed by a table', () => {
    const reweighing = write('reweigh', 'gain', ({ weight, keyIndex, table }) => weight.mul(table('keyGain', ['keyLength']).at(keyIndex)));
    return checkGradients({ variant: attention({ normalization: softmax().reweighBy(reweighing) }), tables: { keyGain: random(6, [length]) } });
  });
  test('ln Σ w e^v, and the largest weighted value', async () => {
    await checkGradients({ variant: attention({ aggregation: new Aggregation({ ...sum, reduction: 'logSumExp' }) }) });
    await checkGradients({ variant: attention({ aggregation: new Aggregation({ ...sum, reduction: 'max' }) }) });
  });
  test('prepared values and gated outputs', () => {
    const prepare = write('prepare', 'prepare', ({ value, channel, table }) => value.mul(table('valueGain', ['valueDim']).at(channel)).tanh());
    const finish = write('finish', 'gate', ({ output, head, queryIndex, channel, table }) => output.mul(table('gate', ['head', 'queryLength', 'valueDim']).at(head, queryIndex, channel)));
    return checkGradients({ variant: attention({ aggregation: weightedSum().prepareBy(prepare).finishBy(finish) }), tables: { valueGain: random(6, [3]), gate: random(7, [heads, length, 3]) } });
  });
});
