import { instructions, queryTableProducts, queryTableRows, transformRow } from '@heed/runtime-wasm';
import { readWords, rowAddress, surroundings, word, type Callee, type Emission } from './context.ts';

const { i32 } = instructions;

/** loadQuery(…) → address: a node's own row where it lies, or transformed in scratch; its products with the query tables to theirs. */
export function emitLoadQuery(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const parameters = { call: 'i32', sequence: 'i32', head: 'i32', row: 'i32', work: 'i32', products: 'i32' } as const;
  return module.function('loadQuery', { parameters, results: ['i32'] }, (f, { call, sequence, head, row, work, products }) => {
    const address = rowAddress(f, emission, 'query', call, sequence, head, row);
    if (plan.readsQueryInPlace) {
      f.if(word(call, layouts.call.offset('queryInPlace')), () => {
        f.return(address);
      });
    }
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
      address,
      channelBytes: f.let('channelBytes', word(call, layouts.call.offset('query.channel'))),
      work,
    });
    const target = f.let('productsAt', products);
    for (const name of plan.queryTables) {
      queryTableProducts(f, at, { name, head, source, width: plan.scoreDim, target });
      f.set(target, i32.add(target, i32.shl(queryTableRows(at, name), 2)));
    }
    f.return(source);
  });
}
