import type { FunctionBuilder, Local } from '@heed/runtime-wasm';
import { constantF32x4, instructions, queryTableRows, sumOfLanes, tableStrideWord, tableWord, transformRow } from '@heed/runtime-wasm';
import { queryRowBytes, readWords, surroundings, word, type Callee, type Emission } from './context.ts';
import { rowAddress } from './pack.ts';

const { f32, f32x4, i32, v128 } = instructions;

/**
 * loadQueries(…): a block's query rows, transformed, to scratch; their products with the query tables, not scaled; then, for products, times the scale,
 * so that scores need no other factor.
 */
export function emitLoadQueries(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const parameters = { call: 'i32', sequence: 'i32', head: 'i32', rows: 'i32', rowCount: 'i32', work: 'i32', queries: 'i32', tableProducts: 'i32' } as const;
  return module.function('loadQueries', { parameters }, (f, { call, sequence, head, rows, rowCount, work, queries, tableProducts }) => {
    const { queryPositions } = readWords(f, sequence, layouts.sequence, ['queryPositions']);
    const channelBytes = f.let('channelBytes', word(call, layouts.call.offset('query.channel')));
    const scale = f.let('scale', v128.load32_splat(call, layouts.call.offset('scale')));
    const [row, target, part] = [f.local('row', 'i32'), f.let('target', queries), f.local('part', 'i32')];
    f.for(row, { to: rowCount, atLeastOnce: true }, () => {
      const index = f.let('index', i32.load(i32.add(rows, i32.shl(row, 2))));
      const position = f.let('position', i32.load(i32.add(queryPositions, i32.shl(index, 2))));
      const address = rowAddress(f, emission, 'query', call, sequence, head, index);
      const source = transformRow(f, surroundings(emission, call), {
        side: 'query', transforms: request.variant.scoring.queryTransforms, dim: request.queryDim, dtype: plan.dtypes.query, sequence, head, index, position, address, channelBytes, work,
      });
      multiplyTables(f, emission, { call, head, row, source, tableProducts });
      f.for(part, { to: queryRowBytes(plan), step: 16, atLeastOnce: true }, () => {
        const element = v128.load(i32.add(source, part));
        f.do(v128.store(i32.add(target, part), plan.scoring === 'product' ? f32x4.mul(element, scale) : element));
      });
      f.set(target, i32.add(target, queryRowBytes(plan)));
    });
  });
}

interface TableRow {
  readonly call: Local<'i32'>;
  readonly head: Local<'i32'>;
  readonly row: Local<'i32'>;
  readonly source: Local<'i32'>;
  readonly tableProducts: Local<'i32'>;
}

/** Σ_d q'_d · table[n, d] for every row n of every query table. */
function multiplyTables(f: FunctionBuilder, emission: Emission, { call, head, row, source, tableProducts }: TableRow): void {
  const { plan, layouts, request } = emission;
  const at = surroundings(emission, call);
  let products = tableProducts;
  for (const name of plan.queryTables) {
    const axes = request.variant.tables[name]?.axes.length ?? 2;
    const strideOf = (axis: number): ReturnType<typeof word> => word(call, layouts.call.offset(tableStrideWord(name, axis)));
    const base = word(call, layouts.call.offset(tableWord(name)));
    const count = f.let('tableRows', queryTableRows(at, name));
    const table = f.let('tableRow', axes === 3 ? i32.add(base, i32.mul(head, strideOf(0))) : base);
    const [rowBytes, channelBytes] = [f.let('rowBytes', strideOf(axes - 2)), f.let('tableChannelBytes', strideOf(axes - 1))];
    const target = f.let('target', i32.add(products, i32.shl(i32.mul(row, count), 2)));
    const [n, d, sum, total] = [f.local('n', 'i32'), f.local('d', 'i32'), f.local('sum', 'v128'), f.local('total', 'f32')];
    const whole = Math.floor(plan.scoreDim / 4) * 4;
    f.for(n, { to: count }, () => {
      f.set(total, 0);
      const scalars = (from: number): void => {
        f.for(d, { from, to: plan.scoreDim }, () => {
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
        if (whole < plan.scoreDim) scalars(whole);
      }, () => {
        scalars(0);
      });
      f.do(f32.store(target, total));
      f.set(target, i32.add(target, 4));
      f.set(table, i32.add(table, rowBytes));
    });
    products = f.let('nextProducts', i32.add(products, i32.mul(i32.shl(count, 2), plan.blockQuery)));
  }
}
