import { constantF32x4, instructions, lanesI32x4, multiplyAdd, sumOfLanes } from '@heed/runtime-wasm';
import type { WasmPlan } from '../plan/machine-plan.ts';
import { forVectors, rowOf, type Callee, type Emission } from './context.ts';

const { f32, f32x4, i32, v128 } = instructions;

/**
 * Whether row sums are kept apart from the products. As one more column of values, all ones, they cost a whole tile of columns where the values fill theirs; apart, a sum of each row. Rules that decay,
 * weigh or remove treat that column as they treat the others.
 */
export function sumsApart({ epsilon, recall, decay, strength, valueDim, tile }: WasmPlan): boolean {
  return epsilon !== null && recall === null && decay === null && !strength && valueDim % tile.columns === 0;
}

/** readSums(scratch, rows): behind the last column of output row i, q_i · z + Σ_{j ≤ i} pairs[i, j]. `rows` is a multiple of 4. */
export function emitReadSums({ module, plan, scratch: places }: Emission): Callee {
  const { widthStride, valueStride, valueDim, rows: chunkRows, machine } = plan;
  return module.function('readSums', { parameters: { scratch: 'i32', rows: 'i32' }, constantsOnce: true }, (f, { scratch, rows }) => {
    const [row, channel, column] = [f.local('row', 'i32'), f.local('channel', 'i32'), f.local('column', 'i32')];
    const sum = f.local('sum', 'v128');
    const z = f.let('z', i32.add(scratch, places.token));
    const sums = f.let('sums', i32.add(scratch, places.memory + valueDim * 4));
    f.comment('z, out of the column of G where it stands');
    f.for(channel, { to: widthStride, atLeastOnce: true }, () => {
      f.do(i32.store(i32.add(z, i32.shl(channel, 2)), i32.load(i32.add(sums, i32.mul(channel, valueStride * 4)))));
    });
    f.for(row, { to: rows, step: 4, atLeastOnce: true }, () => {
      const query = f.let('query', rowOf(scratch, places.query, row, widthStride));
      const pairs = f.let('pairs', rowOf(scratch, places.queryKey, row, chunkRows));
      const output = f.let('output', rowOf(scratch, places.output, row, valueStride));
      const before = f.let('before', i32.shl(row, 2));
      for (const place of [0, 1, 2, 3]) {
        f.set(sum, constantF32x4(0));
        forVectors(f, widthStride, (bytes) => {
          f.set(sum, multiplyAdd(machine, v128.load(i32.add(query, bytes), place * widthStride * 4), v128.load(i32.add(z, bytes)), sum));
        });
        f.for(column, { to: before, step: 16 }, () => {
          f.set(sum, f32x4.add(sum, v128.load(i32.add(pairs, column), place * chunkRows * 4)));
        });
        // What is right of the diagonal is undefined.
        const own = lanesI32x4([-1, place > 0 ? -1 : 0, place > 1 ? -1 : 0, place > 2 ? -1 : 0]);
        f.set(sum, f32x4.add(sum, v128.and(own, v128.load(i32.add(pairs, before), place * chunkRows * 4))));
        f.do(f32.store(output, sumOfLanes(sum), (place * valueStride + valueDim) * 4));
      }
    });
  });
}

/** writeSums(scratch, rows): z, the column of G behind the last, takes in the keys of the chunk, as they lie turned. */
export function emitWriteSums({ module, plan, scratch: places }: Emission): Callee {
  const { widthStride, valueStride, valueDim, rows: chunkRows } = plan;
  return module.function('writeSums', { parameters: { scratch: 'i32', rows: 'i32' } }, (f, { scratch, rows }) => {
    const [channel, sum] = [f.local('channel', 'i32'), f.local('sum', 'v128')];
    f.for(channel, { to: widthStride, atLeastOnce: true }, () => {
      const keys = f.let('keys', rowOf(scratch, places.keyTurned, channel, chunkRows));
      const place = f.let('place', rowOf(scratch, places.memory, channel, valueStride));
      f.set(sum, constantF32x4(0));
      forVectors(f, rows, (bytes) => {
        f.set(sum, f32x4.add(sum, v128.load(i32.add(keys, bytes))));
      });
      f.do(f32.store(place, f32.add(f32.load(place, valueDim * 4), sumOfLanes(sum)), valueDim * 4));
    });
  });
}
