import { instructions, Place } from '@heed/runtime-wasm';
import { panelBytes, queryRowBytes, readWords, scoreRowBytes, surroundings, type Callee, type Emission } from './context.ts';
import { clearSums, declareSums } from './product.ts';

const { f32x4, i32, v128 } = instructions;

/**
 * scores(…) for a sum over channels that is no product: scale · Σ_channel combine(q, k). Keys lie in the lanes; what depends on the channel alone
 * is computed once for all rows and keys of the register tile.
 */
export function emitPairwiseScores(emission: Emission): Callee {
  const { module, request, plan, layouts } = emission;
  const { combine } = request.variant.scoring;
  const { rows, columns } = plan.tile;
  const parameters = { call: 'i32', sequence: 'i32', head: 'i32', queries: 'i32', panel: 'i32', width: 'i32', groups: 'i32', target: 'i32' } as const;
  return module.function('scores', { parameters, constantsOnce: true }, (f, { call, sequence, head, queries, panel, width, groups, target }) => {
    const [left, right, tile, group] = [f.local('left', 'i32'), f.local('right', 'i32'), f.local('tile', 'i32'), f.local('group', 'i32')];
    const { batch } = readWords(f, sequence, layouts.sequence, ['batch']);
    const keyHead = f.let('keyHead', i32.div_u(head, i32.load(call, layouts.call.offset('group'))));
    const scale = f.let('scale', v128.load32_splat(call, layouts.call.offset('scale')));
    const [channel, last, column, query] = [f.local('channel', 'i32'), f.let('last', i32.sub(plan.scoreDim, 1)), f.local('firstColumn', 'i32'), f.local('query', 'i32')];
    const sums = declareSums(f, rows, columns);
    const keys = f.localArray('key', 'v128', columns / 4);
    const queryElement = f.local('queryElement', 'v128');
    f.for(column, { to: width, step: columns, atLeastOnce: true }, () => {
      f.set(query, queries);
      f.set(tile, i32.add(target, i32.shl(column, 2)));
      f.for(group, { to: groups, atLeastOnce: true }, () => {
        clearSums(f, sums);
        f.set(left, query);
        f.set(right, panel);
        f.for(channel, { to: plan.scoreDim, atLeastOnce: true }, () => {
          const place = new Place(f, surroundings(emission, call), {
            inputs: { channel, batch, head, keyHead }, fixed: ['channel', 'batch', 'head', 'keyHead'], lanes: { input: 'keyIndex', first: channel, last },
          });
          place.hoist(combine);
          keys.forEach((key, index) => f.set(key, v128.load(right, index * 16)));
          sums.forEach((row, index) => {
            f.set(queryElement, v128.load32_splat(left, index * queryRowBytes(plan)));
            row.forEach((sum, part) => {
              const keyElement = keys[part];
              if (keyElement !== undefined) f.set(sum, f32x4.add(sum, place.evaluate(combine, { queryElement, keyElement })));
            });
          });
          f.set(left, i32.add(left, 4));
          f.set(right, i32.add(right, columns * 4));
        });
        sums.forEach((row, index) => row.forEach((sum, part) => f.do(v128.store(tile, f32x4.mul(sum, scale), index * scoreRowBytes(plan) + part * 16))));
        f.set(query, i32.add(query, rows * queryRowBytes(plan)));
        f.set(tile, i32.add(tile, rows * scoreRowBytes(plan)));
      });
      f.set(panel, i32.add(panel, panelBytes(plan)));
    });
  });
}
