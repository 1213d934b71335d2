import { describe, expect, test } from 'vitest';
import type { Immediates, Operand } from '../src/emit/instruction.ts';
import { ModuleBuilder } from '../src/emit/module.ts';
import { opcodes, type Opcode } from '../src/emit/opcodes.ts';
import { instantiate } from './harness.ts';

const plain = [...opcodes.values()].filter((row) => !row.contextual && row.name.includes('.'));

function immediatesFor({ immediate }: Opcode): Immediates {
  if (immediate === 'shuffle') return { lanes: Array.from({ length: 16 }, (_, lane) => lane) };
  if (immediate === 'i64') return { constant: 5n };
  if (immediate === 'v128') return { constant: new Uint8Array(16) };
  return { constant: 5 };
}

/** A module that applies one opcode to parameters of exactly the types of its row. */
function moduleOf(row: Opcode): Uint8Array<ArrayBuffer> {
  const builder = new ModuleBuilder('one');
  builder.importMemory('env', 'memory', { shared: true, maximum: 1 });
  const parameters = Object.fromEntries(row.operands.map((type, index) => [`p${index}`, type] as const));
  builder.function('one', { parameters, results: row.results, export: false }, (f, locals) => {
    f.push(...(Object.values(locals) as Exclude<Operand, number | bigint>[]));
    f.op(row.name, immediatesFor(row));
  });
  return builder.bytes();
}

describe('the opcode table', () => {
  // The engine's validator is the other implementation: it knows the types and immediates of every code.
  test.each(plain.map((row) => [row.name, row] as const))('%s has the types and immediates the engine gives its code', (_, row) => {
    expect(WebAssembly.validate(moduleOf(row))).toBe(true);
  });

  test('no two rows share bytes', () => {
    expect(new Set([...opcodes.values()].map(({ bytes }) => bytes.join(' '))).size).toBe(opcodes.size);
  });

  // Rows of equal type could be swapped without the validator noticing; these answers come from IEEE 754 and integer arithmetic.
  test.each<[string, number[], number]>([
    ['i32.add', [7, 3], 10],
    ['i32.sub', [7, 3], 4],
    ['i32.mul', [7, 3], 21],
    ['i32.div_s', [-7, 2], -3],
    ['i32.div_u', [-1, 2], 2 ** 31 - 1],
    ['i32.rem_s', [-7, 2], -1],
    ['i32.and', [12, 10], 8],
    ['i32.or', [12, 10], 14],
    ['i32.xor', [12, 10], 6],
    ['i32.shl', [3, 2], 12],
    ['i32.shr_s', [-8, 1], -4],
    ['i32.shr_u', [-8, 1], 0x7ffffffc],
    ['i32.lt_u', [-1, 1], 0],
    ['i32.lt_s', [-1, 1], 1],
    ['i32.ge_u', [-1, 1], 1],
    ['i32.gt_s', [-1, 1], 0],
    ['f32.sub', [7, 3], 4],
    ['f32.div', [7, 2], 3.5],
    ['f32.min', [7, 2], 2],
    ['f32.max', [7, 2], 7],
    ['f64.sub', [7, 3], 4],
    ['f64.mul', [7, 3], 21],
    ['f64.copysign', [7, -1], -7],
  ])('%s(%j) = %d', (name, operands, want) => {
    const row = opcodes.get(name as never)!;
    const parameters = Object.fromEntries(row.operands.map((type, index) => [`p${index}`, type] as const));
    const { run } = instantiate(parameters, row.results, (f, locals) => {
      f.push(...(Object.values(locals) as Exclude<Operand, number | bigint>[]));
      f.op(row.name);
    });
    expect(run(...operands)).toBe(want);
  });

  const lanes = (name: string): number => Number(/x(\d+)/.exec(name)![1]);
  type Lanewise = (a: number, b: number) => number;
  const float: Readonly<Record<string, Lanewise>> = {
    add: (a, b) => a + b,
    sub: (a, b) => a - b,
    mul: (a, b) => a * b,
    div: (a, b) => a / b,
    min: (a, b) => Math.min(a, b),
    max: (a, b) => Math.max(a, b),
    pmin: (a, b) => (b < a ? b : a),
    pmax: (a, b) => (a < b ? b : a),
  };
  test.each(['f32x4', 'f64x2'].flatMap((shape) => Object.keys(float).map((method) => `${shape}.${method}`)))('%s, lane by lane', (name) => {
    const count = lanes(name);
    const Lanes = count === 4 ? Float32Array : Float64Array;
    const { run, memory } = instantiate({}, [], (f) => {
      f.op('i32.const', { constant: 32 });
      f.op('i32.const', { constant: 0 });
      f.op('v128.load');
      f.op('i32.const', { constant: 16 });
      f.op('v128.load');
      f.op(name as never);
      f.op('v128.store');
    });
    const [a, b] = [[1.5, NaN, -3, 8], [2.5, 2, NaN, -4]] as const;
    new Lanes(memory.buffer, 0, count).set(a.slice(0, count));
    new Lanes(memory.buffer, 16, count).set(b.slice(0, count));
    run();
    const want = Array.from({ length: count }, (_, lane) => float[name.split('.')[1]!]!(a[lane]!, b[lane]!));
    expect([...new Lanes(memory.buffer, 32, count)]).toEqual([...new Lanes(want)]);
  });

  test('relaxed multiply-add is a · b + c, relaxed negative multiply-add c − a · b', () => {
    for (const [name, want] of [['f32x4.relaxed_madd', 17], ['f32x4.relaxed_nmadd', -7]] as const) {
      const { run } = instantiate({ a: 'f32', b: 'f32', c: 'f32' }, ['f32'], (f, { a, b, c }) => {
        for (const one of [a, b, c]) {
          f.push(one);
          f.op('f32x4.splat');
        }
        f.op(name);
        f.op('f32x4.extract_lane', { lane: 3 });
      });
      expect(run(3, 4, 5)).toBe(want);
    }
  });
});
