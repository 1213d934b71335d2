import { constant, evaluate, input, operation, operators, print, type Expression, type Operator, type ScalarType, type Term } from '@heed/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Lowering } from '../src/emit/expression.ts';
import { constantF32x4, instructions } from '../src/emit/instruction.ts';
import { instantiate } from './harness.ts';

const { i32, v128 } = instructions;

/** Two f32 inputs and two i32 inputs, whatever their names mean elsewhere. */
const names = { x: 'score', y: 'weight', i: 'queryPosition', j: 'keyPosition' } as const;
const [x, y, i, j] = [input('score'), input('weight'), input('queryPosition'), input('keyPosition')] as const;

interface Place {
  readonly x: number;
  readonly y: number;
  readonly i: number;
  readonly j: number;
}

/** The emitted values at four places. */
function emitted(expression: Expression, places: readonly Place[], fused = true): number[] {
  const addresses: Readonly<Record<string, number>> = { [names.x]: 0, [names.y]: 16, [names.i]: 32, [names.j]: 48 };
  const { run, memory } = instantiate({}, [], (f) => {
    const lowering = new Lowering({
      f,
      fused,
      environment: {
        input: (name) => v128.load(i32.add(0, 0), addresses[name]!),
        uniform: () => constantF32x4(2.5),
        table: () => constantF32x4(0),
        queryTable: () => constantF32x4(0),
        random: () => constantF32x4(0),
        isFixed: (name) => name === names.y,
      },
    });
    lowering.hoist(expression);
    lowering.begin();
    f.do(v128.store(64, lowering.lower(expression)));
  });
  const floats = new Float32Array(memory.buffer, 0, 20);
  const integers = new Int32Array(memory.buffer, 0, 20);
  places.forEach((place, lane) => {
    floats[lane] = place.x;
    floats[4 + lane] = place.y;
    integers[8 + lane] = place.i;
    integers[12 + lane] = place.j;
  });
  run();
  if (expression.type === 'f32') return [...floats.slice(16, 20)];
  return [...integers.slice(16, 20)].map((value) => (expression.type === 'bool' && value !== 0 ? -value : value));
}

function meaning(expression: Expression, place: Place): number {
  const read: Readonly<Record<string, number>> = { [names.x]: place.x, [names.y]: place.y, [names.i]: place.i, [names.j]: place.j };
  return evaluate(expression, { input: (name) => read[name]!, uniform: () => 2.5, table: () => 0, queryTable: () => 0, random: () => 0 });
}

const places: readonly Place[] = [
  { x: 1.5, y: 0.25, i: 7, j: 3 },
  { x: 0.75, y: 2, i: -7, j: 3 },
  { x: 3, y: 3, i: 2 ** 31 - 1, j: 1 },
  { x: 0.001, y: 10, i: -(2 ** 31), j: 2 ** 31 - 1 },
];

/** Every operator with operands of its signature. */
function every(): (readonly [string, Expression])[] {
  return Object.entries(operators).flatMap(([name, { operands }]) => {
    const types: readonly ScalarType[] = operands.some((kind) => kind === 'number' || kind === 'any') ? (name === 'toF32' ? ['i32', 'bool'] : ['f32', 'i32']) : ['f32'];
    return types.map((type) => {
      const pick = (kind: string, index: number): Expression => {
        const actual = kind === 'number' || kind === 'any' ? type : kind;
        if (actual === 'f32') return (index % 2 === 0 ? x : y).node;
        if (actual === 'i32') return (index % 2 === 0 ? i : j).node;
        return (index % 2 === 0 ? x.lt(y) : i.lt(j)).node;
      };
      return [`${name} of ${type}`, operation(name as Operator, operands.map(pick))] as const;
    });
  });
}

// Expected values: core's float64 evaluation, which defines the meaning.
describe('expressions as SIMD', () => {
  test.each(every())('%s', (_, expression) => {
    const got = emitted(expression, places);
    places.forEach((place, lane) => {
      const want = meaning(expression, place);
      if (expression.type === 'f32') expect(Math.abs(got[lane]! - want)).toBeLessThanOrEqual(1e-6 * Math.max(1, Math.abs(want)));
      else expect(got[lane]).toBe(want);
    });
  });

  test.each<[string, Term]>([
    ['division by a power of two', i.floorDiv(16)],
    ['rest of a power of two', i.mod(16)],
    ['division by another constant', i.floorDiv(7)],
    ['rest of another constant', i.mod(7)],
    ['a choice', x.lt(y).select(x, y)],
    ['a constant', constant(-2.5)],
    ['wrap-around', i.mul(i).add(j)],
  ])('%s', (_, { node }) => {
    const want = places.map((place) => meaning(node, place));
    expect(emitted(node, places)).toEqual(node.type === 'f32' ? want.map(Math.fround) : want);
  });

  test('floor division is exact for any dividend and positive divisor', () => {
    const integer = fc.oneof(fc.integer(), fc.constantFrom(2 ** 31 - 1, -(2 ** 31), -1, 0, 1));
    const quotient = operation('floorDiv', [i.node, j.node]);
    const rest = operation('mod', [i.node, j.node]);
    fc.assert(
      fc.property(fc.tuple(integer, integer, integer, integer), fc.oneof(fc.integer({ min: 1 }), fc.integer({ min: 1, max: 9 })), (dividends, divisor) => {
        const four = dividends.map((dividend) => ({ x: 0, y: 0, i: dividend, j: divisor }));
        expect(emitted(quotient, four)).toEqual(four.map((place) => Math.floor(place.i / divisor)));
        expect(emitted(rest, four)).toEqual(four.map((place) => place.i - divisor * Math.floor(place.i / divisor)));
      }),
      { numRuns: 40 },
    );
  });

  test('random integer and boolean expressions agree with their meaning', () => {
    const { integer } = fc.letrec<{ integer: Expression; boolean: Expression }>((tie) => {
      const binary = (names: readonly Operator[], operand: fc.Arbitrary<Expression>): fc.Arbitrary<Expression> =>
        fc.tuple(fc.constantFrom(...names), operand, operand).map(([name, a, b]) => operation(name, [a, b]));
      return {
        integer: fc.oneof(
          { maxDepth: 5 },
          fc.constantFrom(i.node, j.node),
          fc.integer().map((value) => constant(value, 'i32').node),
          binary(['add', 'sub', 'mul', 'min', 'max'], tie('integer')),
          fc.tuple(tie('integer'), fc.integer({ min: 1, max: 1000 })).map(([a, by]) => operation('mod', [a, constant(by, 'i32').node])),
          fc.tuple(tie('boolean'), tie('integer'), tie('integer')).map((parts) => operation('select', parts)),
          tie('integer').map((a) => operation('neg', [a])),
        ),
        boolean: fc.oneof(
          { maxDepth: 5 },
          binary(['eq', 'ne', 'lt', 'le', 'gt', 'ge'], tie('integer')),
          binary(['and', 'or'], tie('boolean')),
          tie('boolean').map((a) => operation('not', [a])),
        ),
      };
    });
    fc.assert(
      fc.property(integer, (expression) => {
        expect(emitted(expression, places), print(expression)).toEqual(places.map((place) => meaning(expression, place)));
      }),
      { numRuns: 60 },
    );
  });

  test('equal nodes are computed once', () => {
    const shared = x.exp();
    const { text } = instantiate({}, [], (f) => {
      const lowering = new Lowering({
        f,
        fused: true,
        environment: { input: () => v128.load(i32.add(0, 0)), uniform: () => constantF32x4(0), table: () => constantF32x4(0), queryTable: () => constantF32x4(0), random: () => constantF32x4(0) },
      });
      f.do(v128.store(0, lowering.lower(shared.add(shared.mul(shared)).node)));
    });
    expect(text.split('i32x4.shr_s').length - 1).toBe(1);
  });
});
