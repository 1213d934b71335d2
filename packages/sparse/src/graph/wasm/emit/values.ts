import { constantF32x4, exp, instructions, loadFloats, log, minusInfinity, multiplyAdd, storageBytes, type FloatStorage, type FunctionBuilder, type Local, type Value } from '@heed/runtime-wasm';
import type { Callee, Emission } from './context.ts';

const { f32x4, i32, v128 } = instructions;

/** Most vectors of channels whose sums stay in registers. */
const widest = 8;

const parameters = { weights: 'i32', rows: 'i32', rowBytes: 'i32', keys: 'i32', count: 'i32', target: 'i32' } as const;

/** values(weights, rows, rowBytes, keys, count, target): Σ weight · gathered value row, a panel of channels at a time, edge after edge. */
export function emitValues({ module, plan }: Emission, storage: FloatStorage): Callee {
  return module.function(`values.${storage}`, { parameters }, (f, { weights, rows, rowBytes, keys, count, target }) => {
    const bytes = storageBytes[storage];
    const vectors = plan.valueFloats / 4;
    const panels = Math.ceil(vectors / widest);
    const width = Math.ceil(vectors / panels);
    for (let first = 0; first < vectors; first += width) {
      const sums = f.localArray('sum', 'v128', Math.min(width, vectors - first));
      for (const sum of sums) f.set(sum, constantF32x4(0));
      overEdges(f, { weights, rows: f.let('panel', i32.add(rows, first * 4 * bytes)), rowBytes, keys, count }, (row, weight) => {
        sums.forEach((sum, vector) => f.set(sum, multiplyAdd(plan.machine, weight, loadFloats(f, storage, row, vector * 4 * bytes), sum)));
      });
      sums.forEach((sum, vector) => f.do(v128.store(target, sum, (first + vector) * 16)));
    }
  });
}

/** values(…): the largest weighted value, or ln Σ weight · e^value, channel by channel. */
export function emitReduce({ module, plan, request }: Emission, storage: FloatStorage): Callee {
  const { reduction } = request.variant.aggregation;
  return module.function(`values.${storage}`, { parameters }, (f, { weights, rows, rowBytes, keys, count, target }) => {
    const lanes = { f, ...plan.machine };
    const [channel, peak, sum] = [f.local('channel', 'i32'), f.local('peak', 'v128'), f.local('sum', 'v128')];
    f.for(channel, { to: plan.valueFloats, step: 4, atLeastOnce: true }, () => {
      const panel = f.let('panel', i32.add(rows, i32.mul(channel, storageBytes[storage])));
      const walk = (body: (weight: Local<'v128'>, value: Local<'v128'>) => void): void => {
        overEdges(f, { weights, rows: panel, rowBytes, keys, count }, (row, weight) => {
          body(weight, f.let('value', loadFloats(f, storage, row)));
        });
      };
      f.set(peak, minusInfinity());
      walk((weight, value) => {
        // A weight of 0 brings nothing, however large its value.
        const counted = reduction === 'max' ? f32x4.mul(weight, value) : v128.bitselect(minusInfinity(), value, f32x4.eq(weight, constantF32x4(0)));
        f.set(peak, f32x4.max(peak, counted));
      });
      if (reduction === 'logSumExp') {
        f.set(sum, constantF32x4(0));
        const origin = f.let('origin', v128.bitselect(constantF32x4(0), peak, f32x4.eq(peak, minusInfinity())));
        walk((weight, value) => {
          const power = f32x4.mul(weight, exp(lanes, f32x4.sub(value, origin)));
          f.set(sum, f32x4.add(sum, v128.andnot(power, f32x4.eq(weight, constantF32x4(0)))));
        });
        f.set(peak, v128.bitselect(peak, f32x4.add(origin, log(lanes, sum)), f32x4.eq(peak, minusInfinity())));
      }
      f.do(v128.store(i32.add(target, i32.shl(channel, 2)), peak));
    });
  });
}

interface GatheredRows {
  readonly weights: Local<'i32'>;
  readonly rows: Value<'i32'>;
  readonly rowBytes: Local<'i32'>;
  readonly keys: Local<'i32'>;
  readonly count: Local<'i32'>;
}

/** Runs over the edges; `body` gets the address of the value row and the weight in four lanes. */
function overEdges(f: FunctionBuilder, { weights, rows, rowBytes, keys, count }: GatheredRows, body: (row: Local<'i32'>, weight: Local<'v128'>) => void): void {
  const [offset, row, weight] = [f.local('offset', 'i32'), f.local('row', 'i32'), f.local('weight', 'v128')];
  f.for(offset, { to: i32.shl(count, 2), step: 4 }, () => {
    f.set(row, i32.add(rows, i32.mul(i32.load(i32.add(keys, offset)), rowBytes)));
    f.set(weight, v128.load32_splat(i32.add(weights, offset)));
    body(row, weight);
  });
}
