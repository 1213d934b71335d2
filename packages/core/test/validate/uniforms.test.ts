import { describe, expect, test } from 'vitest';
import type { AttentionStages } from '../../src/index.ts';
import {
  causal, chunkedLocal, cosine, cosformer, dilated, dropout, fixedPattern, gumbel, l2Norm, lengthScaling, modifier, neighbourhood, positionWeight, relu, rope, rowSum, scaledDot, sinkTokens, softcap, softmax, stridedPattern, temperature, temperatureTuning, window, zeros,
} from '../../src/index.ts';
import { bind } from '../../src/bind.ts';
import { expectRefusal, inputsOf, requestOf } from './calls.ts';

// What a member refuses as an option, a call refuses as the uniform of that option: another window at run time is a window too (L4, L20).
const least = 2 ** -126;

describe('uniforms keep to their ranges at each call', () => {
  test.each<[string, AttentionStages, good: number, bad: number]>([
    ['window.left', { masking: window({ left: 3, right: 0 }) }, 0, -1],
    ['window.right', { masking: window({ left: 3, right: 0 }) }, 2 ** 30, 2 ** 30 + 1],
    ['sinkTokens.count', { masking: causal().and(sinkTokens(2)) }, 0, -1],
    ['chunkedLocal.size', { masking: chunkedLocal(4) }, 1, 0],
    ['dilated.keys', { masking: dilated({ keys: 2, dilation: 2 }) }, 1, 0],
    ['stridedPattern.stride', { masking: stridedPattern(4) }, 1, 0],
    ['fixedPattern.summary', { masking: fixedPattern({ stride: 4, summary: 1 }) }, 1, 0],
    ['neighbourhood.kernel', { masking: neighbourhood({ shape: [5], kernel: 3 }) }, 1, 0],
    ['softcap.cap', { scoring: scaledDot().modify(softcap(30)) }, least, 0],
    ['temperature.value', { scoring: scaledDot().modify(temperature(2)) }, least, -1],
    ['lengthScaling.trained', { scoring: scaledDot().modify(lengthScaling({ trained: 512 })) }, 2, 1],
    ['temperatureTuning.step', { scoring: scaledDot().modify(temperatureTuning()) }, 1, 0],
    ['rope.base', { scoring: scaledDot().transform(rope({ pairing: 'half' })) }, least, 0],
    ['cosformer.horizon', { scoring: scaledDot().transform(cosformer({ horizon: 8 })) }, least, 0],
    ['l2Norm.epsilon', { scoring: scaledDot().transform(l2Norm()) }, least, 0],
    ['l2Norm.epsilon#2', { scoring: cosine() }, least, 0],
    ['softmax.temperature', { normalization: softmax({ temperature: 2 }) }, least, Infinity],
    ['gumbel.temperature', { normalization: gumbel({ seed: 1 }) }, least, 0],
    ['relu.length', { normalization: relu({ length: 5 }) }, 0.5, 0],
    ['rowSum.epsilon', { normalization: rowSum() }, 0, -1e-6],
    ['dropout.probability', { normalization: softmax().reweighBy(dropout({ probability: 0.1, seed: 1 })) }, 0, 1],
    ['positionWeight.deviation', { normalization: softmax().reweighBy(positionWeight({ deviation: 1 })) }, least, 0],
  ])('%s', (name, stages, good, bad) => {
    const request = requestOf(stages);
    const tables = name === 'positionWeight.deviation' ? { tables: { centers: zeros([1, 1, 1]) } } : {};
    const call = (value: number) => () => bind(request, { ...inputsOf(), ...tables, uniforms: { [name]: value } });
    expect(call(good)().uniforms[name]).toBe(good);
    expectRefusal(call(bad), 'invalid-uniform', name, String(bad), 'from');
  });

  test('a member of the user\'s own says its range', () => {
    const shifted = (value: number): ReturnType<typeof modifier> => modifier('shifted', ({ score, uniform }) => score.add(uniform('by', value, 'f32', [-1, 1])));
    expectRefusal(() => shifted(2), 'invalid-uniform', 'shifted.by', '2', 'from -1 to 1');
    expectRefusal(() => bind(requestOf({ scoring: scaledDot().modify(shifted(0)) }), { ...inputsOf(), uniforms: { 'shifted.by': -2 } }), 'invalid-uniform', 'from -1 to 1');
  });
});
