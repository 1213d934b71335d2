import { describe, expect, test } from 'vitest';
import { favorFrequencies } from '../../src/compute.ts';
import * as core from '../../src/index.ts';
import { expectRefusal } from '../validate/calls.ts';

const { attention, causal, elementwise, mask, modifier, scaledDot, softcap, softmax, tensor, weightedSum, zeros } = core;

/** A function of core as a caller without types sees it. */
const untyped = (name: string): ((...values: readonly unknown[]) => unknown) => Reflect.get({ ...core, favorFrequencies }, name) as (...values: readonly unknown[]) => unknown;

/** A scope as a caller without types sees it: any name might be there. */
interface Loose {
  readonly score: core.Term<'f32'>;
  readonly queryPos: core.Term<'f32'>;
}

describe('a member called without the options that it needs says which', () => {
  test.each([
    ['window', 'left'], ['keyPadding', 'side'], ['dilated', 'keys'], ['fixedPattern', 'stride'], ['neighbourhood', 'shape'], ['additive', 'width'], ['bilinear', 'width'], ['lowRank', 'rank'],
    ['gatV2', 'width'], ['gaussian', 'bandwidth'], ['rope', 'pairing'], ['projection', 'width'], ['favor', 'features'], ['favorFrequencies', 'features'], ['cosformer', 'horizon'],
    ['shaw', 'maxOffset'], ['lengthScaling', 'trained'], ['decomposedBias', 'height'], ['relativeQuery', 'rows'], ['gumbel', 'seed'], ['dropout', 'seed'], ['positionWeight', 'deviation'],
    ['decayRule', 'by'],
  ])('%s: %s', (name, option) => {
    for (const values of [[], [{}], [null], ['x']]) expectRefusal(() => untyped(name)(...values), 'invalid-argument', option);
  });

  test('fastWeights: its rule; attention: its stages', () => {
    for (const values of [[], [{}], [null]]) expectRefusal(() => untyped('fastWeights')(...values), 'invalid-variant', 'rule');
    expectRefusal(() => untyped('attention')(null), 'invalid-variant', 'scoring');
  });

  test.each(['modifier', 'mask', 'elementwise', 'normalization', 'scoring', 'reweighing'])('%s: its function', (name) => {
    expectRefusal(() => untyped(name)('mine'), 'invalid-expression', "'mine'", 'a function');
    expectRefusal(() => untyped(name)(() => 1), 'invalid-expression', 'a function');
  });
});

test.each([undefined, null, 4, 'x', {}])('a tensor of shape %j is refused', (shape) => {
  expectRefusal(() => untyped('tensor')([1, 2, 3, 4], shape), 'invalid-shape', 'shape');
  expectRefusal(() => untyped('zeros')(shape), 'invalid-shape', 'shape');
});

test('strides that are no list are refused', () => {
  expectRefusal(() => untyped('tensor')([1, 2], [2], { strides: 1 }), 'invalid-tensor', 'strides');
});

test('an array may be longer than its tensor', () => {
  expect([...core.toFloat64(tensor([1, 2, 3, 4], [2]))]).toEqual([1, 2]);
  expect(zeros([2]).view()).toHaveLength(2);
});

describe('an author’s function', () => {
  test('that asks for what its slot does not have is told what it has, also by destructuring', () => {
    expectRefusal(() => mask('m', (scope) => (scope as never as core.Scope<'modify'>).score.lt(3)), 'invalid-expression', "mask 'm'", "'score'", 'queryPosition', 'table');
    expectRefusal(() => modifier('d', (({ score, queryPos }: Loose) => score.add(queryPos)) as never), 'invalid-expression', "modifier 'd'", "'queryPos'", 'queryPosition');
    expectRefusal(() => elementwise('e', (({ score }: Loose) => score) as never), 'invalid-expression', "transform 'e'", 'element');
  });

  test('that mixes types is told which, and where', () => {
    const mixed = (): unknown => modifier('d', ({ score, queryPosition }) => score.sub(queryPosition as never));
    expectRefusal(mixed, 'invalid-expression', "modifier 'd'", 'score (f32) and queryPosition (i32)', 'two of one type', 'toF32()');
    expectRefusal(() => modifier('d', ({ score, queryPosition }) => score.gt(0).select(score, queryPosition as never)), 'invalid-expression', 'bool and two of one type');
    expectRefusal(() => modifier('d', ({ head }) => (head as never as core.Term<'f32'>).exp()), 'invalid-expression', 'exp got head (i32)', 'expected f32');
  });

  test('that reads a table without axes, or at nothing, is told so', () => {
    expectRefusal(() => modifier('d', ({ score, table }) => score.add((table as (name: string) => core.TableTerm<'f32'>)('slopes').at(0))), 'invalid-expression', "'slopes'", 'axes');
    expectRefusal(() => modifier('d', ({ score, table }) => score.add(table('slopes', ['head']).at(undefined as never))), 'invalid-expression', 'undefined');
    expectRefusal(() => modifier('d', ({ score, random }) => score.add(random(undefined as never))), 'invalid-expression', 'seed');
  });

  test('may use everything that its slot has', () => {
    expect(core.print(modifier('d', ({ score, ...rest }) => score.add(rest.head.toF32())).expression)).toBe('score + toF32(head)');
  });
});

describe('a piece of one kind in the place of another says where it belongs', () => {
  test.each<[string, () => unknown, readonly string[]]>([
    ['a mask as a modifier', () => scaledDot().modify(causal() as never), ['a mask', 'a modifier', 'masking']],
    ['a modifier as a transform', () => scaledDot().transformQuery(softcap(3) as never), ['a modifier', 'a row transform', 'scoring.modify']],
    ['a modifier as a mask', () => causal().and(softcap(3) as never), ['a modifier', 'a mask']],
    ['a mask as a reweighing', () => softmax().reweighBy(causal() as never), ['a mask', 'masking']],
    ['a scoring as a gate', () => weightedSum().finishBy(scaledDot() as never), ['a scoring']],
    ['a mask as scoring', () => attention({ scoring: causal() as never }), ['a mask', 'scoring']],
  ])('%s', (_, work, parts) => {
    expectRefusal(work, 'invalid-variant', ...parts);
  });
});
