import { instructions, queryTableProducts, queryTableRows, transformRow } from '@heed/runtime-wasm';
import { readWords, rowAddress, surroundings, word, type Callee, type Emission } from './context.ts';

const { f32x4, i32, v128 } = instructions;

/**
 * loadQuery(…): a node's own row, transformed, to scratch; its products with the query tables, not scaled; then, for dot products, times the scale, so that
 * scores need no other factor.
 */
export function emitLoadQuery(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const parameters = { call: 'i32', sequence: 'i32', head: 'i32', row: 'i32', work: 'i32', query: 'i32', products: 'i32' } as const;
  return module.function('loadQuery', { parameters }, (f, { call, sequence, head, row, work, query, products }) => {
    const { queryPositions } = readWords(f, sequence, layouts.sequence, ['queryPositions']);
    const at = surroundings(emission, call);
    const source = transformRow(f, at, {
      side: 'query',
      transforms: request.variant.scoring.queryTransforms,
      dim: request.queryDim,
      dtype: plan.dtypes.query,
      sequence,
      head,
      index: row,
      position: f.let('position', i32.load(i32.add(queryPositions, i32.shl(row, 2)))),
      address: rowAddress(f, emission, 'query', call, sequence, head, row),
      channelBytes: f.let('channelBytes', word(call, layouts.call.offset('query.channel'))),
      work,
    });
    const target = f.let('productsAt', products);
    for (const name of plan.queryTables) {
      queryTableProducts(f, at, { name, head, source, width: plan.scoreDim, target });
      f.set(target, i32.add(target, i32.shl(queryTableRows(at, name), 2)));
    }
    const scale = f.let('scale', v128.load32_splat(call, layouts.call.offset('scale')));
    const part = f.local('part', 'i32');
    f.for(part, { to: plan.scoreFloats * 4, step: 16, atLeastOnce: true }, () => {
      const element = v128.load(i32.add(source, part));
      f.do(v128.store(i32.add(query, part), plan.scoring === 'product' ? f32x4.mul(element, scale) : element));
    });
  });
}
