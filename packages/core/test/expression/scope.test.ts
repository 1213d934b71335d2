import { describe, expect, test } from 'vitest';
import { constant, input, operation } from '../../src/expression/build.ts';
import type { Term } from '../../src/expression/build.ts';
import { print } from '../../src/expression/print.ts';
import { slots, write } from '../../src/expression/scope.ts';
import type { Slot } from '../../src/expression/scope.ts';
import { inputTypes } from '../../src/expression/node.ts';
import { codeOf } from '../code-of.ts';

const f32 = (value: number): Term<'f32'> => constant(value);

describe('write', () => {
  test('keeps what the author wrote, simplified, with what it needs bound', () => {
    const formula = write('modify', 'distance', ({ score, head, queryPosition, keyPosition, table, uniform }) =>
      score.sub(table('slopes', ['head']).at(head).mul(queryPosition.sub(keyPosition).toF32()).mul(uniform('factor', 0.5))).mul(1));
    expect(print(formula.expression)).toBe('score - slopes[head] * toF32(queryPosition - keyPosition) * $distance.factor');
    expect(formula.tables).toEqual({ slopes: { type: 'f32', axes: ['head'] } });
    expect(formula.uniforms).toEqual({ 'distance.factor': { type: 'f32', value: 0.5 } });
    expect(Object.isFrozen(formula) && Object.isFrozen(formula.expression) && Object.isFrozen(formula.tables)).toBe(true);
  });

  test('a member without a name does not prefix', () => {
    expect(Object.keys(write('combine', '', ({ uniform }) => uniform('scale', 'inverseSqrtDim')).uniforms)).toEqual(['scale']);
  });

  test('a query table is declared over the rows that are combined', () => {
    const { tables } = write('modify', 'relative', ({ score, head, queryTable }) => score.add(queryTable('shared', 5).at(head)).add(queryTable('own', 'distances', { perHead: true }).at(2)));
    expect(tables).toEqual({ shared: { type: 'f32', axes: [5, 'scoreDim'] }, own: { type: 'f32', axes: ['head', 'distances', 'scoreDim'] } });
  });

  test.each(Object.keys(slots) as Slot[])('%s refuses every input of another slot', (slot) => {
    const result = slot === 'mask' ? constant(true) : f32(0);
    for (const name of Object.keys(inputTypes) as (keyof typeof inputTypes)[]) {
      const foreign = input(name) as Term;
      const used = foreign.type === 'i32' ? new (result.constructor as typeof Term)(operation('ge', [foreign.node, constant(0, 'i32').node]), 'bool') : null;
      const author = (): Term => {
        if (slot === 'mask') return used ?? (foreign as Term<'f32'>).ge(0);
        return used === null ? foreign : (used).toF32();
      };
      const allowed = (slots[slot] as readonly string[]).includes(name) && !(slot === 'mask' && foreign.type === 'f32');
      expect(codeOf(() => write(slot, 'test', author)), name).toBe(allowed ? null : 'invalid-expression');
    }
  });

  test.each<[string, () => unknown]>([
    ['a mask that compares floats', () => write('mask', 'm', ({ queryPosition, keyPosition }) => queryPosition.toF32().le(keyPosition.toF32()))],
    ['a mask that reads a float table', () => write('mask', 'm', ({ head, table }) => table('t', ['head']).at(head).gt(0))],
    ['a mask that reads a float uniform', () => write('mask', 'm', ({ uniform }) => uniform('u', 1).gt(0))],
    ['a mask that is no boolean', () => write('mask', 'm', ({ keyPosition }) => keyPosition)],
    ['a modifier that is a boolean', () => write('modify', 'm', ({ score }) => score.gt(0))],
    ['an integer result', () => write('modify', 'm', ({ head }) => head)],
    ['no term', () => write('modify', 'm', () => 1 as unknown as Term<'f32'>)],
    ['a query table outside modifiers', () => write('reweigh', 'm', ({ weight, queryTable }) => weight.add(queryTable('t', 3).at(0)))],
    ['random numbers of a row', () => write('finish', 'm', ({ output, random, uniform }) => output.mul(random(uniform('seed', 1, 'i32'))))],
    ['a seed that is no uniform', () => write('modify', 'm', ({ random, head }) => random(head))],
    ['a seed that is a float', () => write('modify', 'm', ({ random, uniform }) => random(uniform('seed', 1) as unknown as Term<'i32'>))],
    ['a stream that is no integer', () => write('modify', 'm', ({ random, uniform }) => random(uniform('seed', 1, 'i32'), 0.5))],
    ['too few indices', () => write('modify', 'm', ({ head, table }) => table('t', ['head', 4]).at(head))],
    ['a float index', () => write('modify', 'm', ({ score, table }) => table('t', ['head']).at(score as unknown as Term<'i32'>))],
    ['a fractional index', () => write('modify', 'm', ({ table }) => table('t', [4]).at(0.5))],
    ['a float row of a query table', () => write('modify', 'm', ({ score, queryTable }) => queryTable('t', 4).at(score as unknown as Term<'i32'>))],
    ['a table declared in two ways', () => write('modify', 'm', ({ head, table }) => table('t', ['head']).at(head).add(table('t', [4]).at(head)))],
    ['a uniform declared in two ways', () => write('modify', 'm', ({ uniform }) => uniform('u', 1).add(uniform('u', 2)))],
    ['a table named like an expression', () => write('modify', 'm', ({ head, table }) => table('t[head] + u', ['head']).at(head))],
    ['a table named __proto__', () => write('modify', 'm', ({ head, table }) => table('__proto__', ['head']).at(head))],
    ['a uniform of another formula', () => write('modify', 'm', () => write('modify', 'other', ({ uniform }) => uniform('u', 1)).expression as unknown as Term<'f32'>)],
    ['a node whose uniform is not declared', () => write('modify', 'm', ({ score }) => score.add({ node: { kind: 'uniform', type: 'f32', name: 'toString' } } as unknown as Term<'f32'>))],
  ])('refuses %s', (_, write) => {
    expect(codeOf(write)).toBe('invalid-expression');
  });

  test.each<[string, () => unknown]>([
    ['NaN', () => write('modify', 'm', ({ uniform }) => uniform('u', Number.NaN))],
    ['a fraction for i32', () => write('modify', 'm', ({ uniform }) => uniform('u', 0.5, 'i32').toF32())],
    ['1/√dim for i32', () => write('modify', 'm', ({ uniform }) => uniform('u', 'inverseSqrtDim', 'i32').toF32())],
    ['a string', () => write('modify', 'm', ({ uniform }) => uniform('u', '1' as unknown as number))],
  ])('refuses a uniform whose value is %s', (_, write) => {
    expect(codeOf(write)).toBe('invalid-uniform');
  });
});

describe('terms', () => {
  const [score, head] = [input('score'), input('head')];
  test.each<[string, () => unknown]>([
    ['i32 and f32 together', () => score.add(head as unknown as Term<'f32'>)],
    ['a boolean summand', () => score.add(true as unknown as number)],
    ['an i32 constant with a fraction', () => head.add(0.5)],
    ['an i32 constant beyond 32 bits', () => head.add(2 ** 31)],
    ['a NaN constant', () => score.add(Number.NaN)],
    ['nothing', () => score.add(undefined as unknown as number)],
    ['division of integers', () => (head as unknown as Term<'f32'>).div(2)],
    ['a choice between types', () => score.gt(0).select(score, head)],
    ['too many operands', () => operation('neg', [score.node, score.node])],
  ])('refuse %s', (_, build) => {
    expect(codeOf(build)).toBe('invalid-expression');
  });

  test('an i32 zero has no sign', () => {
    expect(Object.is(head.add(-0).node, head.node)).toBe(false);
    expect(print(head.add(-0).node)).toBe('head + 0');
  });

  test('nodes are frozen', () => {
    const { node } = score.add(1).mul(2);
    expect(Object.isFrozen(node) && node.kind === 'operation' && Object.isFrozen(node.operands)).toBe(true);
  });
});
