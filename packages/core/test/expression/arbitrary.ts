import fc from 'fast-check';
import type { Environment } from '../../src/expression/evaluate.ts';
import type { Expression, InputName, Operator, ScalarType } from '../../src/expression/node.ts';
import { inputTypes, operators } from '../../src/expression/node.ts';
import { constant, input, operation } from '../../src/expression/build.ts';

/** Names that trees read, each with one type: what the declarations of a variant say. */
export const uniformTypes: Readonly<Record<string, 'f32' | 'i32'>> = { cap: 'f32', size: 'i32' };
export const tableTypes: Readonly<Record<string, ScalarType>> = { slopes: 'f32', documents: 'i32', visible: 'bool' };

const inputNames: readonly InputName[] = ['score', 'head', 'queryPosition', 'keyPosition'];

function leavesOf(type: ScalarType): fc.Arbitrary<Expression> {
  const inputs = inputNames.filter((name) => inputTypes[name] === type).map((name) => fc.constant<Expression>(input(name).node));
  const uniforms = Object.entries(uniformTypes).filter(([, own]) => own === type).map(([name]) => fc.constant<Expression>({ kind: 'uniform', type: uniformTypes[name] ?? 'f32', name }));
  const constants: Record<ScalarType, fc.Arbitrary<Expression>> = {
    f32: fc.oneof(fc.constantFrom(0, -0, 1, -1, 0.5, 2), fc.double({ min: -8, max: 8, noNaN: true })).map((value) => constant(value).node),
    i32: fc.oneof(fc.constantFrom(0, 1, -1, 2 ** 31 - 1, -(2 ** 31)), fc.integer({ min: -20, max: 20 })).map((value) => constant(value, 'i32').node),
    bool: fc.boolean().map((value) => constant(value).node),
  };
  const random: fc.Arbitrary<Expression>[] = type === 'f32' ? [fc.constantFrom(0, 1).map((stream) => ({ kind: 'random', type: 'f32', seed: 'size', stream }))] : [];
  return fc.oneof(constants[type], ...inputs, ...uniforms, ...random);
}

/** Any well-typed tree over the operators given. */
export function expressions(type: ScalarType, depth = 4, allowed: readonly Operator[] = Object.keys(operators) as Operator[]): fc.Arbitrary<Expression> {
  // Depth by depth, since every tree is made of shallower ones of all types.
  let shallower: Record<ScalarType, fc.Arbitrary<Expression>> = { f32: leavesOf('f32'), i32: leavesOf('i32'), bool: leavesOf('bool') };
  for (let level = 0; level < depth; level++) {
    const parts = shallower;
    shallower = { f32: wholes('f32', parts, allowed), i32: wholes('i32', parts, allowed), bool: wholes('bool', parts, allowed) };
  }
  return shallower[type];
}

function wholes(type: ScalarType, parts: Readonly<Record<ScalarType, fc.Arbitrary<Expression>>>, allowed: readonly Operator[]): fc.Arbitrary<Expression> {
  const choices: fc.Arbitrary<Expression>[] = [leavesOf(type)];
  for (const [name, own] of Object.entries(tableTypes)) {
    if (own === type) choices.push(parts.i32.map((index) => ({ kind: 'table', type, name, indices: [index] })));
  }
  if (type === 'f32') choices.push(parts.i32.map((row) => ({ kind: 'queryTable', type: 'f32', name: 'rows', row })));
  for (const operator of allowed) {
    const { operands, result } = operators[operator];
    const fits = result === type || result === 'any' || (result === 'number' && type !== 'bool');
    if (!fits) continue;
    const generics: readonly ScalarType[] = result !== type ? [type] : operands.includes('number') ? ['f32', 'i32'] : operands.includes('any') ? ['i32', 'bool'] : [type];
    for (const generic of generics) {
      choices.push(fc.tuple(...operands.map((operand) => parts[operand === 'number' || operand === 'any' ? generic : operand])).map((chosen) => operation(operator, chosen)));
    }
  }
  return fc.oneof(...choices);
}

/** Values of everything that trees read. Tables depend on their index, so that a wrong index shows. */
export interface Point {
  readonly inputs: Readonly<Partial<Record<InputName, number>>>;
  readonly cap: number;
  readonly size: number;
}

/** Exact in float32, so that both evaluations start alike. */
const float32 = fc.float({ min: -4, max: 4, noNaN: true });

export const points = fc.record({
  inputs: fc.record({ score: float32, head: fc.integer({ min: 0, max: 7 }), queryPosition: fc.integer({ min: -9, max: 40 }), keyPosition: fc.integer({ min: -9, max: 40 }) }),
  cap: float32,
  size: fc.integer({ min: -3, max: 9 }),
});

export function tableValue(name: string, index: number): number {
  const type = tableTypes[name];
  if (type === 'bool') return index & 1;
  return type === 'i32' ? (Math.imul(index, 7) % 5) | 0 : Math.fround(Math.sin(index));
}

export function environmentAt(point: Point): Environment {
  return {
    input: (name) => point.inputs[name] ?? Number.NaN,
    uniform: (name) => (name === 'cap' ? point.cap : point.size),
    table: (name, indices) => tableValue(name, indices[0] ?? 0),
    queryTable: (_, row) => Math.fround(Math.cos(row)),
    random: (seed, stream) => ((Math.abs(seed) + stream) % 16) / 16 + 1 / 32,
  };
}
