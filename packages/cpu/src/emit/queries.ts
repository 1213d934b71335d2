import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { instructions, loadFloats, queryTableProducts, queryTableRows, storageBytes, transformRow } from '@heed/runtime-wasm';
import { queryRowBytes, readWords, surroundings, word, type Callee, type Emission } from './context.ts';
import { rowAddress } from './pack.ts';

const { f32x4, i32, v128 } = instructions;

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
    const bytes = storageBytes[plan.dtypes.query];
    const unroll = request.queryDim % 16 === 0 ? 4 : 1;
    const [row, target, part] = [f.local('row', 'i32'), f.let('target', queries), f.local('part', 'i32')];
    f.for(row, { to: rowCount, atLeastOnce: true }, () => {
      const index = f.let('index', i32.load(i32.add(rows, i32.shl(row, 2))));
      const position = f.let('position', i32.load(i32.add(queryPositions, i32.shl(index, 2))));
      const address = rowAddress(f, emission, 'query', call, sequence, head, index);
      const scaled = (element: Value<'v128'>): Value<'v128'> => (plan.scoring === 'product' ? f32x4.mul(element, scale) : element);
      const throughWork = (): void => {
        const source = transformRow(f, surroundings(emission, call), {
          side: 'query', transforms: request.variant.scoring.queryTransforms, dim: request.queryDim, dtype: plan.dtypes.query, sequence, head, index, position, address, channelBytes, work,
        });
        multiplyTables(f, emission, { call, head, row, source, tableProducts });
        f.for(part, { to: queryRowBytes(plan), step: 16, atLeastOnce: true }, () => {
          f.do(v128.store(i32.add(target, part), scaled(v128.load(i32.add(source, part)))));
        });
      };
      const asTheyLie = request.variant.scoring.queryTransforms.length === 0 && plan.queryTables.length === 0 && request.queryDim % 4 === 0;
      if (asTheyLie) f.if(i32.eq(channelBytes, bytes), () => {
        const from = f.let('from', address);
        f.for(part, { to: queryRowBytes(plan), step: 16 * unroll, atLeastOnce: true }, () => {
          for (let step = 0; step < unroll; step += 1) f.do(v128.store(i32.add(target, part), scaled(loadFloats(f, plan.dtypes.query, from, step * 4 * bytes)), step * 16));
          f.set(from, i32.add(from, unroll * 4 * bytes));
        });
      }, throughWork);
      else throughWork();
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

/** Products of a query row with every query table, table after table: [row of the block][row of the table]. */
function multiplyTables(f: FunctionBuilder, emission: Emission, { call, head, row, source, tableProducts }: TableRow): void {
  const { plan } = emission;
  const at = surroundings(emission, call);
  let products = tableProducts;
  for (const name of plan.queryTables) {
    const bytes = f.let('productBytes', i32.shl(queryTableRows(at, name), 2));
    queryTableProducts(f, at, { name, head, source, width: plan.scoreDim, target: f.let('target', i32.add(products, i32.mul(row, bytes))) });
    products = f.let('nextProducts', i32.add(products, i32.mul(bytes, plan.blockQuery)));
  }
}
