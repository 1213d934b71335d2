import { instructions } from '@heed/runtime-wasm';
import { panelBytes, queryRowBytes, scoreRowBytes, valueRowBytes, type Callee, type Emission } from './context.ts';
import { roundUp } from '../plan.ts';
import { clearSums, declareSums, product } from './product.ts';

const { f32x4, i32, v128 } = instructions;

/**
 * scores(queries, panel, width, groups, target): a tile of products of queries [row][scoreDim] and key panels [scoreDim][columns],
 * row groups innermost, so that a panel stays in the first cache while all rows pass by.
 */
export function emitProductScores({ module, plan }: Emission): Callee {
  const { rows, columns } = plan.tile;
  return module.function('scores', { parameters: { call: 'i32', sequence: 'i32', head: 'i32', queries: 'i32', panel: 'i32', width: 'i32', groups: 'i32', target: 'i32' } }, (f, { queries, panel, width, groups, target }) => {
    const [left, right, tile, group] = [f.local('left', 'i32'), f.local('right', 'i32'), f.local('tile', 'i32'), f.local('group', 'i32')];
    const column = f.local('firstColumn', 'i32');
    const query = f.local('query', 'i32');
    const sums = declareSums(f, rows, columns);
    f.for(column, { to: width, step: columns, atLeastOnce: true }, () => {
      f.set(query, queries);
      f.set(tile, i32.add(target, i32.shl(column, 2)));
      f.for(group, { to: groups, atLeastOnce: true }, () => {
        clearSums(f, sums);
        f.set(left, query);
        f.set(right, panel);
        product(f, { sums, fused: plan.machine.fused, left, leftRow: queryRowBytes(plan), right, rightStep: columns * 4, depth: plan.scoreDim, unroll: 4 });
        sums.forEach((row, index) => row.forEach((sum, part) => f.do(v128.store(tile, sum, index * scoreRowBytes(plan) + part * 16))));
        f.set(query, i32.add(query, rows * queryRowBytes(plan)));
        f.set(tile, i32.add(tile, rows * scoreRowBytes(plan)));
      });
      f.set(panel, i32.add(panel, panelBytes(plan)));
    });
  });
}

/**
 * values(weights, value, width, groups, factors, sums): sums[row] ← factor[row] · sums[row] + Σ_key weight[row][key] · value[key].
 * Columns of values outermost, so that the few numbers that all rows need stay close.
 */
export function emitValues({ module, plan }: Emission, scaled: boolean): Callee {
  const { columns } = plan.tile;
  const rows = plan.valueRows;
  return module.function('values', { parameters: { weights: 'i32', value: 'i32', width: 'i32', groups: 'i32', factors: 'i32', target: 'i32' } }, (f, { weights, value, width, groups, factors, target }) => {
    const [left, right, tile, group] = [f.local('left', 'i32'), f.local('right', 'i32'), f.local('tile', 'i32'), f.local('group', 'i32')];
    const column = f.local('firstColumn', 'i32');
    const [row, factor] = [f.local('row', 'i32'), f.local('factor', 'i32')];
    const sums = declareSums(f, rows, columns);
    const spread = f.local('spreadFactor', 'v128');
    f.for(column, { to: roundUp(plan.valueDim, columns) * 4, step: columns * 4, atLeastOnce: true }, () => {
      f.set(row, weights);
      f.set(factor, factors);
      f.set(tile, i32.add(target, column));
      f.for(group, { to: groups, atLeastOnce: true }, () => {
        sums.forEach((parts, index) => {
          if (scaled) f.set(spread, v128.load32_splat(factor, index * 4));
          parts.forEach((sum, part) => {
            const held = v128.load(tile, index * valueRowBytes(plan) + part * 16);
            f.set(sum, scaled ? f32x4.mul(spread, held) : held);
          });
        });
        f.set(left, row);
        f.set(right, i32.add(value, column));
        product(f, { sums, fused: plan.machine.fused, left, leftRow: scoreRowBytes(plan), right, rightStep: valueRowBytes(plan), depth: width, unroll: 4 });
        sums.forEach((parts, index) => parts.forEach((sum, part) => f.do(v128.store(tile, sum, index * valueRowBytes(plan) + part * 16))));
        f.set(row, i32.add(row, rows * scoreRowBytes(plan)));
        f.set(factor, i32.add(factor, rows * 4));
        f.set(tile, i32.add(tile, rows * valueRowBytes(plan)));
      });
    });
  });
}

