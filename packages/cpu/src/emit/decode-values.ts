import type { Value } from '@heed/runtime-wasm';
import { instructions, loadFloats, storageBytes } from '@heed/runtime-wasm';
import { scoreRowBytes, valueRowBytes, type Callee, type Emission } from './context.ts';
import { multiplyAdd } from './product.ts';

const { f32x4, i32, v128 } = instructions;

/**
 * readValues(weights, value, rowBytes, count, groups, factors, sums): as `values`, over `count` value rows where they lie, an even number; `rows` query rows meet each.
 *
 * Values are read once, in the order in which they lie, and the sums, which are few, stay in the first cache. Two keys at a time spare half of the loads and stores of sums;
 * first one word of each of their cache lines is read in order, since processors fetch ahead of a walk that never turns back, and of two keys side by side they do not.
 */
export function emitReadValues({ module, plan, request }: Emission, rows: 1 | 4, scaled: boolean): Callee {
  const storage = plan.dtypes.value;
  const bytes = storageBytes[storage];
  const keys = 2;
  const vectors = request.valueDim % 16 === 0 ? 4 : 1;
  return module.function(rows === 1 ? 'readValuesOfOne' : 'readValues', { parameters: { weights: 'i32', value: 'i32', rowBytes: 'i32', count: 'i32', groups: 'i32', factors: 'i32', target: 'i32' } }, (f, { weights, value, rowBytes, count, groups, factors, target }) => {
    const [row, channel, factor, tile] = [f.local('row', 'i32'), f.local('channel', 'i32'), f.local('factor', 'v128'), f.let('tile', target)];
    if (scaled) f.for(row, { to: i32.mul(groups, rows), atLeastOnce: true }, () => {
      f.set(factor, v128.load32_splat(i32.add(factors, i32.shl(row, 2))));
      f.for(channel, { to: request.valueDim * 4, step: 16 * vectors, atLeastOnce: true }, () => {
        const at = f.let('at', i32.add(tile, channel));
        for (let vector = 0; vector < vectors; vector += 1) f.do(v128.store(at, f32x4.mul(factor, v128.load(at, vector * 16)), vector * 16));
      });
      f.set(tile, i32.add(tile, valueRowBytes(plan)));
    });
    const [group, left, weightRow, end] = [f.local('group', 'i32'), f.let('left', weights), f.local('weightRow', 'i32'), f.let('end', i32.add(weights, i32.shl(count, 2)))];
    const [places, reads, elements] = [f.localArray('place', 'i32', keys), f.localArray('read', 'i32', keys), f.localArray('element', 'v128', keys)];
    const spreads = Array.from({ length: rows }, (_, index) => f.localArray(`weight${index}_`, 'v128', keys));
    places.forEach((place, key) => f.set(place, i32.add(value, i32.mul(rowBytes, key))));
    f.loop('keys', (again) => {
      for (const place of places) for (let line = 0; line < request.valueDim * bytes; line += 64) f.do(i32.load8_u(place, line));
      f.set(weightRow, left);
      f.set(tile, target);
      f.for(group, { to: groups, atLeastOnce: true }, () => {
        spreads.forEach((row, index) => row.forEach((spread, key) => f.set(spread, v128.load32_splat(weightRow, index * scoreRowBytes(plan) + key * 4))));
        reads.forEach((read, key) => {
          const place = places[key];
          if (place !== undefined) f.set(read, place);
        });
        const at = f.let('at', tile);
        f.for(channel, { to: request.valueDim * 4, step: 16 * vectors, atLeastOnce: true }, () => {
          for (let vector = 0; vector < vectors; vector += 1) {
            elements.forEach((element, key) => {
              const read = reads[key];
              if (read !== undefined) f.set(element, loadFloats(f, storage, read, vector * 4 * bytes));
            });
            spreads.forEach((row, index) => {
              const offset = index * valueRowBytes(plan) + vector * 16;
              const sum = row.reduce<Value<'v128'>>((earlier, spread, key) => multiplyAdd(plan.machine.fused, spread, elements[key] ?? spread, earlier), v128.load(at, offset));
              f.do(v128.store(at, sum, offset));
            });
          }
          for (const read of reads) f.set(read, i32.add(read, vectors * 4 * bytes));
          f.set(at, i32.add(at, vectors * 16));
        });
        f.set(weightRow, i32.add(weightRow, rows * scoreRowBytes(plan)));
        f.set(tile, i32.add(tile, rows * valueRowBytes(plan)));
      });
      for (const place of places) f.set(place, i32.add(place, i32.mul(rowBytes, keys)));
      f.set(left, i32.add(left, keys * 4));
      f.brIf(again, i32.lt_u(left, end));
    });
  });
}
