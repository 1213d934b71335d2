import { describe, expect, test } from 'vitest';
import { disassemble } from '../src/emit/disassemble.ts';
import { constantF32x4, constantI32x4, instructions, lanesI32x4, select, tee } from '../src/emit/instruction.ts';
import { ModuleBuilder } from '../src/emit/module.ts';

const { i32, f32x4, v128, memory } = instructions;

function example(): ModuleBuilder {
  const builder = new ModuleBuilder('example');
  builder.importMemory('env', 'memory', { shared: true, maximum: 16 });
  builder.importFunction('host', 'report', ['i32']);
  builder.data(1024, new Uint8Array(8));
  builder.function('scale', { parameters: { pointer: 'i32', rows: 'i32' }, results: ['i32'], export: true }, (f, { pointer, rows }) => {
    const factor = f.let('factor', constantF32x4(0.125));
    const row = f.local('row', 'i32');
    const end = f.local('end', 'i32');
    f.comment('rows: one vector each');
    f.for(row, { to: rows }, () => {
      f.do(v128.store(tee(end, i32.add(pointer, i32.shl(row, 4))), f32x4.mul(v128.load(end, 16), factor)));
      f.do(v128.store(end, v128.and(constantI32x4(-1), lanesI32x4([0, 1, 2, 3]))));
      f.do(v128.store32_lane(end, factor, 2, 8));
    });
    // The first load must be listed before the fill that follows it.
    f.push(i32.load(pointer));
    f.do(memory.fill(pointer, 0, 64));
    f.op('drop');
    f.return(select(end, row, i32.eqz(rows)));
  });
  return builder;
}

describe('the listing of a module', () => {
  test('names locals, labels and comments, folds expressions, and keeps the order of effects', () => {
    expect(example().text()).toBe(`module $example
  import "host" "report" function
  import "env" "memory" memory 0 16 shared

  function $scale ($pointer i32) ($rows i32) → i32 export "scale"
    local $factor v128, $row i32, $end i32
    $factor = v128.const(f32x4 0.125)
    ;; rows: one vector each
    $row = 0
    if i32.lt_s($row, $rows)
      loop $row
        v128.store(($end := i32.add($pointer, i32.shl($row, 4))), f32x4.mul(v128.load($end, offset=16), $factor))
        v128.store($end, v128.and(v128.const(i32x4 0xffffffff), v128.const(0x00000000 0x00000001 0x00000002 0x00000003)))
        v128.store32_lane($end, $factor, offset=8, lane=2)
        $row = i32.add($row, 1)
        br_if $row i32.lt_s($row, $rows)
      end
    end
    %0 = i32.load($pointer)
    memory.fill($pointer, 0, 64)
    drop %0
    return select($end, $row, i32.eqz($rows))

  data offset=1024 8 bytes
`);
  });

  test('reads a module without names', () => {
    const text = disassemble(example().bytes());
    expect(text).toContain('$3 = i32.add($3, 1)');
    expect(text).not.toContain('factor');
  });

  test('refuses bytes that are no module', () => {
    expect(() => disassemble(new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]))).toThrow(SyntaxError);
    expect(() => disassemble(example().bytes().subarray(0, 60))).toThrow(RangeError);
  });
});
