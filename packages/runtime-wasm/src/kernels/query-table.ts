import type { FunctionBuilder } from '../emit/function.ts';
import { constantF32x4, instructions, type Local, type Value } from '../emit/instruction.ts';
import { sumOfLanes } from './lanes.ts';
import { queryTableRows, type Surroundings } from './place.ts';
import { tableStrideWord, tableWord } from './word-names.ts';

const { f32, f32x4, i32, v128 } = instructions;

export interface QueryTableProducts {
  readonly name: string;
  readonly head: Local<'i32'>;
  /** The transformed query row, float32, not scaled, and its width. */
  readonly source: Local<'i32'>;
  readonly width: number;
  /** Where the products go, four bytes for each row of the table. */
  readonly target: Local<'i32'>;
}

/** Writes: Σ_d q'_d · table[n, d] for every row n of a query table. */
export function queryTableProducts(f: FunctionBuilder, at: Surroundings, { name, head, source, width, target }: QueryTableProducts): void {
  const { call, layouts, tables } = at;
  const axes = tables[name]?.axes.length ?? 2;
  const word = (word: string): Value<'i32'> => i32.load(call, layouts.call.offset(word));
  const strideOf = (axis: number): Value<'i32'> => word(tableStrideWord(name, axis));
  const base = word(tableWord(name));
  const count = f.let('tableRows', queryTableRows(at, name));
  const table = f.let('tableRow', axes === 3 ? i32.add(base, i32.mul(head, strideOf(0))) : base);
  const [rowBytes, channelBytes] = [f.let('rowBytes', strideOf(axes - 2)), f.let('tableChannelBytes', strideOf(axes - 1))];
  const place = f.let('target', target);
  const [n, d, sum, total] = [f.local('n', 'i32'), f.local('d', 'i32'), f.local('sum', 'v128'), f.local('total', 'f32')];
  const whole = Math.floor(width / 4) * 4;
  f.for(n, { to: count }, () => {
    f.set(total, 0);
    const scalars = (from: number): void => {
      f.for(d, { from, to: width }, () => {
        f.set(total, f32.add(total, f32.mul(f32.load(i32.add(source, i32.shl(d, 2))), f32.load(i32.add(table, i32.mul(d, channelBytes))))));
      });
    };
    f.if(i32.eq(channelBytes, 4), () => {
      f.set(sum, constantF32x4(0));
      if (whole > 0) {
        f.for(d, { to: whole * 4, step: 16, atLeastOnce: true }, () => {
          f.set(sum, f32x4.add(sum, f32x4.mul(v128.load(i32.add(source, d)), v128.load(i32.add(table, d)))));
        });
        f.set(total, sumOfLanes(sum));
      }
      if (whole < width) scalars(whole);
    }, () => {
      scalars(0);
    });
    f.do(f32.store(place, total));
    f.set(place, i32.add(place, 4));
    f.set(table, i32.add(table, rowBytes));
  });
}
