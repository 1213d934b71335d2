import type { FunctionBuilder, Local } from '@heed/runtime-wasm';
import { constantF32x4, instructions } from '@heed/runtime-wasm';
import { scoreRowBytes, stateWords, type Emission } from './context.ts';
import { boundKeys, PairPlace, type KeyBounds } from './pairs.ts';

const { f32x4, i32, i32x4, v128 } = instructions;

/** Parameters of functions that make weights of a tile's scores. */
export const weighParameters = {
  call: 'i32', sequence: 'i32', head: 'i32', rows: 'i32', rowCount: 'i32', tableProducts: 'i32',
  first: 'i32', width: 'i32', low: 'i32', high: 'i32', mixed: 'i32', scores: 'i32', target: 'i32', states: 'i32', factors: 'i32',
} as const;

export type WeighLocals = { readonly [Name in keyof typeof weighParameters]: Local<'i32'> };

/** Code for tiles where the mask decides, and code for those that are seen whole. */
export function overBounds(f: FunctionBuilder, { mixed, low, high }: WeighLocals, body: (bounds: KeyBounds | null) => void): void {
  f.if(mixed, () => {
    f.comment('tiles where the mask decides');
    body(boundKeys(f, low, high));
  }, () => {
    f.comment('tiles that are seen whole');
    body(null);
  });
}

/** Four neighbouring pairs of a row, with the addresses of their scores and of their weights. */
export interface PairsAt {
  readonly pairs: PairPlace;
  readonly key: Local<'i32'>;
  readonly from: Local<'i32'>;
  readonly to: Local<'i32'>;
  readonly state: Local<'i32'>;
}

/** Runs over the pairs of a tile, four keys of a row at a time. */
export function overPairs(f: FunctionBuilder, emission: Emission, locals: WeighLocals, body: (at: PairsAt) => void): void {
  const { plan } = emission;
  const { first, width, rowCount, scores, target, states } = locals;
  const [row, key] = [f.local('row', 'i32'), f.local('key', 'i32')];
  const [score, weight, state] = [f.let('scoreRow', scores), f.let('weightRow', target), f.let('state', states)];
  const [from, to, end] = [f.local('from', 'i32'), f.local('to', 'i32'), f.let('end', i32.add(first, width))];
  f.for(row, { to: rowCount, atLeastOnce: true }, () => {
    const pairs = new PairPlace(f, emission, { ...locals, blockQuery: plan.blockQuery }, row, key);
    f.set(from, score);
    f.set(to, weight);
    f.for(key, { from: first, to: end, step: 4, atLeastOnce: true }, () => {
      pairs.enterKeys();
      body({ pairs, key, from, to, state });
      f.set(from, i32.add(from, 16));
      f.set(to, i32.add(to, 16));
    });
    f.set(score, i32.add(score, scoreRowBytes(plan)));
    f.set(weight, i32.add(weight, scoreRowBytes(plan)));
    f.set(state, i32.add(state, stateWords.bytes));
  });
}

/** Adds 0 for finite scores and NaN for others, and one for each key that counts. */
export function watch(f: FunctionBuilder, state: Local<'i32'>, score: Local<'v128'>, kept: Local<'v128'>, counted: boolean): void {
  f.do(v128.store(state, f32x4.add(v128.load(state, stateWords.poison), f32x4.mul(v128.and(score, kept), constantF32x4(0))), stateWords.poison));
  if (counted) f.do(v128.store(state, i32x4.sub(v128.load(state, stateWords.count), kept), stateWords.count));
}
