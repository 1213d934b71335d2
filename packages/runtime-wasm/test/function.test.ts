import { describe, expect, test } from 'vitest';
import { EmitError } from '../src/emit/emit-error.ts';
import { FunctionBuilder } from '../src/emit/function.ts';
import type { Label } from '../src/emit/type-stack.ts';
import { call, constantF32x4, constantI32x4, instructions, lanesI32x4, select, tee, type Instruction } from '../src/emit/instruction.ts';
import { ModuleBuilder } from '../src/emit/module.ts';
import { instantiate } from './harness.ts';

const { i32, i64, f32, f32x4, i32x4, i8x16, v128 } = instructions;

describe('functions run as written', () => {
  test('a counted loop visits from, from + step, … below to, and nothing when to ≤ from', () => {
    const { run } = instantiate({ from: 'i32', to: 'i32' }, ['i32'], (f, { from, to }) => {
      const row = f.local('row', 'i32');
      const sum = f.local('sum', 'i32');
      f.for(row, { from, to, step: 3 }, () => {
        f.set(sum, i32.add(i32.mul(sum, 10), row));
      });
      f.return(sum);
    });
    expect(run(1, 8)).toBe(147);
    expect(run(1, 7)).toBe(14);
    expect(run(5, 5)).toBe(0);
    expect(run(5, -5)).toBe(0);
  });

  test('constantsOnce: each vector constant is made once, before the code, and computes the same', () => {
    const module = new ModuleBuilder('test');
    module.function('run', { parameters: { rounds: 'i32' }, results: ['f32'], export: true, constantsOnce: true }, (f, { rounds }) => {
      const [round, sum] = [f.local('round', 'i32'), f.local('sum', 'v128')];
      f.for(round, { to: rounds }, () => {
        f.set(sum, f32x4.add(f32x4.mul(sum, constantF32x4(3)), constantF32x4(0.5)));
        f.set(sum, f32x4.add(sum, constantF32x4(0.5)));
      });
      f.return(f32x4.extract_lane(sum, 0));
    });
    expect(module.text().match(/v128\.const/g)).toHaveLength(2);
    const { run } = new WebAssembly.Instance(new WebAssembly.Module(module.bytes())).exports as { readonly run: (rounds: number) => number };
    // x ← 3 x + 1 from 0, by hand: 1, 4, 13.
    expect([run(0), run(1), run(3)]).toEqual([0, 1, 13]);
  });

  test('an unsigned loop counts across 2 GiB', () => {
    const { run } = instantiate({ from: 'i32', to: 'i32' }, ['i32'], (f, { from, to }) => {
      const address = f.local('address', 'i32');
      const rounds = f.local('rounds', 'i32');
      f.for(address, { from, to, step: 16, unsigned: true }, () => {
        f.set(rounds, i32.add(rounds, 1));
      });
      f.return(rounds);
    });
    expect(run(0x7ffffff0, 0x80000020)).toBe(3);
  });

  test('while, if and else, blocks and branches', () => {
    // Collatz steps; 27 takes 111 (OEIS A006577).
    const { run } = instantiate({ n: 'i32' }, ['i32'], (f, { n }) => {
      const steps = f.local('steps', 'i32');
      f.while('more', () => i32.ne(n, 1), () => {
        f.if(
          i32.and(n, 1),
          () => {
            f.set(n, i32.add(i32.mul(n, 3), 1));
          },
          () => {
            f.set(n, i32.shr_u(n, 1));
          },
        );
        f.set(steps, i32.add(steps, 1));
      });
      f.return(steps);
    });
    expect(run(27)).toBe(111);
    expect(run(1)).toBe(0);
  });

  test('br_table branches by index', () => {
    const { run } = instantiate({ index: 'i32' }, ['i32'], (f, { index }) => {
      f.block('two', (two) => {
        f.block('one', (one) => {
          f.block('zero', (zero) => {
            f.brTable(index, [zero, one], two);
          });
          f.return(100);
        });
        f.return(101);
      });
      f.return(102);
    });
    expect([0, 1, 2, 9].map((index) => run(index))).toEqual([100, 101, 102, 102]);
  });

  test('select, tee, calls, 64-bit numbers and lanes', () => {
    const builder = new ModuleBuilder('calls');
    const twice = builder.importFunction('host', 'twice', ['i32'], ['i32']);
    const square = builder.function('square', { parameters: { x: 'i32' }, results: ['i32'] }, (f, { x }) => {
      f.return(i32.mul(x, x));
    });
    builder.function('run', { parameters: { x: 'i32' }, results: ['i32'], export: true }, (f, { x }) => {
      const y = f.local('y', 'i32');
      const big = f.let('big', i64.add(i64.extend_i32_s(x), 0x1_0000_0000n));
      const high = f.let('high', i32.wrap_i64(i64.shr_u(big, 32n)));
      const lane = f.let('lane', i32x4.extract_lane(i32x4.add(lanesI32x4([1, 2, 3, -4]), constantI32x4(10)), 3));
      f.do(call(square, 3));
      f.return(i32.add(i32.add(call(twice, tee(y, call(square, x))), select(y, high, i32.eqz(0))), i32.add(high, lane)));
    });
    const module = new WebAssembly.Module(builder.bytes());
    const { exports } = new WebAssembly.Instance(module, { host: { twice: (x: number) => 2 * x } });
    // 2 · 25 + 25 + 1 + 6
    expect((exports.run as (x: number) => number)(5)).toBe(82);
  });

  test('shuffles and vector constants keep their lanes', () => {
    const { run, memory } = instantiate({}, [], (f) => {
      const halves = Array.from({ length: 16 }, (_, lane) => (lane < 8 ? lane + 8 : lane + 8));
      f.do(v128.store(0, i8x16.shuffle(constantF32x4(1.5), constantF32x4(-2), halves)));
      f.do(v128.store(0, f32x4.add(v128.load(0), constantF32x4(0.25)), 16));
    });
    run();
    expect([...new Float32Array(memory.buffer, 0, 8)]).toEqual([1.5, 1.5, -2, -2, 1.75, 1.75, -1.75, -1.75]);
  });

  test('data lies in memory, offsets beyond 127 are encoded whole', () => {
    const builder = new ModuleBuilder('data');
    builder.importMemory('env', 'memory', { shared: false });
    builder.data(70_000, new Uint8Array([1, 2, 3, 4]));
    builder.function('run', { parameters: {}, results: ['i32'], export: true }, (f) => {
      f.return(i32.load(1, 69_999));
    });
    const memory = new WebAssembly.Memory({ initial: 2 });
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(builder.bytes()), { env: { memory } });
    expect((exports.run as () => number)()).toBe(0x04030201);
  });
});

describe('the type stack fails while emitting, and says what it found', () => {
  const emit = (body: (f: FunctionBuilder) => void): (() => void) => () => {
    const f = new FunctionBuilder('kernel', [['x', 'f32']], ['i32']);
    body(f);
    f.finish();
  };
  const untyped = (value: unknown): never => value as never;

  test.each<[string, (f: FunctionBuilder) => void, RegExp]>([
    [
      'an operand of another type',
      (f) => {
        f.let('y', f32x4.mul(constantF32x4(1), untyped(f32.add(1, 2))));
      },
      /^\$kernel: f32x4\.mul: expected v128 v128, found v128 f32$/,
    ],
    [
      'a missing operand',
      (f) => {
        f.loop('keys', () => {
          f.op('i32.const', { constant: 1 });
          f.op('i32.add');
        });
      },
      /^\$kernel, loop \$keys: i32\.add: expected i32 i32, found i32$/,
    ],
    [
      'an operand from outside the block',
      (f) => {
        f.op('i32.const', { constant: 1 });
        f.block('inner', () => {
          f.op('i32.const', { constant: 1 });
          f.op('i32.add');
        });
      },
      /block \$inner: i32\.add: expected i32 i32, found i32$/,
    ],
    [
      'a value left in a block',
      (f) => {
        f.if(1, () => {
          f.push(f32.add(1, 2));
        });
      },
      /^\$kernel, if \$if: end: f32 left on the stack/,
    ],
    [
      'a local of another type',
      (f) => {
        f.set(f.local('row', 'i32'), untyped(f.parameters[0]));
      },
      /local\.set \$row: expected i32, found f32$/,
    ],
    [
      'a foreign local',
      (f) => {
        f.return(new FunctionBuilder('other', [], []).local('row', 'i32'));
      },
      /\$row belongs to another function/,
    ],
    [
      'a label that is closed',
      (f) => {
        let kept: Label | undefined;
        f.block('gone', (label) => {
          kept = label;
        });
        f.br(kept!);
      },
      /branch to \$gone, which is not open here/,
    ],
    ['a missing result', () => undefined, /end: expected i32, found nothing/],
    [
      'a second result',
      (f) => {
        f.push(i32.add(1, 2), i32.add(1, 2));
      },
      /end: i32 left on the stack/,
    ],
    [
      'a lane that is not there',
      (f) => {
        f.let('y', f32x4.extract_lane(constantF32x4(1), 4));
      },
      /f32x4\.extract_lane: lane 4 is not below 4/,
    ],
    [
      'a fraction for an integer',
      (f) => {
        f.return(1.5);
      },
      /1\.5 is not a 32-bit integer/,
    ],
    [
      'a number for a vector',
      (f) => {
        f.let('y', f32x4.neg(untyped(1)));
      },
      /the number 1 stands where v128 is expected/,
    ],
    [
      'an offset below zero',
      (f) => {
        f.return(i32.load(0, -4));
      },
      /offset -4 is not between 0 and 2³²/,
    ],
    [
      'a store used as a value',
      (f) => {
        f.let('y', untyped(v128.store(0, constantF32x4(1)) as Instruction));
      },
      /leaves no value/,
    ],
  ])('%s', (_, body, message) => {
    expect(emit(body)).toThrow(EmitError);
    expect(emit(body)).toThrow(message);
  });

  test('code after a branch may lack operands, as the specification allows', () => {
    expect(
      emit((f) => {
        f.block('out', (out) => {
          f.br(out);
          f.op('i32.add');
          f.op('drop');
        });
        f.return(1);
      }),
    ).not.toThrow();
  });
});
