/** α, β and the coefficients of gradients of one piece: numbers, one after another. */
import { exp, instructions, type Local, type Value } from '@heed/runtime-wasm';
import type { Matrix } from '../layout.ts';
import { scalarNames, type ScalarName, type RateMatrices } from '../plan.ts';
import { addressOf, type LaneCode } from './lane-code.ts';
import { overTokens } from './rows.ts';

const { f32, f32x4, i32 } = instructions;

/** What the rates of a token are made of. */
export interface RateInputs {
  readonly writeStrength: (token: Local<'i32'>) => Value<'f32'>;
  readonly logDecay: (token: Local<'i32'>) => Value<'f32'>;
  readonly momentum: (token: Local<'i32'>) => Value<'f32'>;
  /** rate / width. */
  readonly rate: Value<'f32'>;
  /** Tokens of the mini-batch before this piece. */
  readonly filled: Local<'i32'>;
}

export function emitRates(code: LaneCode, rates: RateMatrices, inputs: RateInputs): void {
  if (rates.optimizer === 'accumulate') accumulate(code, rates, inputs);
  else momentum(code, rates, inputs);
}

const element = (code: LaneCode, matrix: Matrix, index: Value<'i32'>): Value<'i32'> => i32.add(addressOf(code, matrix), i32.shl(index, 2));

function keepScalar(code: LaneCode, { scalars }: RateMatrices, name: ScalarName, value: Value<'f32'>): void {
  code.f.do(f32.store(addressOf(code, scalars), value, scalarNames.indexOf(name) * 4));
}

/** next_j = s_j; β_i = −rate/width · max(1/i + tokenRate_i, 0); c_ij = −β_i s_j. */
function accumulate(code: LaneCode, rates: RateMatrices, { writeStrength, rate, filled }: RateInputs): void {
  const { f } = code;
  const { next, beta, coefficients, tokenRate } = rates;
  const row = f.let('row', addressOf(code, coefficients));
  const other = f.local('other', 'i32');
  overTokens(code, (token) => {
    f.do(f32.store(element(code, next, token), writeStrength(token)));
    const place = f.let('place', i32.add(filled, token));
    const first = f32.div(f32.const(1), f32.convert_i32_s(i32.add(place, 1)));
    const raised = tokenRate === null ? first : f32.add(first, f32.load(element(code, tokenRate, place)));
    const factor = f.let('factor', f32.mul(rate, f32.max(raised, 0)));
    f.do(f32.store(element(code, beta, token), f32.neg(factor)));
    keepScalar(code, rates, 'beta', f32.neg(factor));
    f.for(other, { to: i32.add(token, 1), atLeastOnce: true }, () => {
      f.do(f32.store(i32.add(row, i32.shl(other, 2)), f32.mul(factor, f32.load(element(code, next, other)))));
    });
    f.set(row, i32.add(row, coefficients.stride * 4));
  });
}

/**
 * With d = exp(logDecay), m the momentum and θ the strength of token i:
 * M ← m M, α ← d α, β ← d β + M, n_j ← m n_j, c_j ← d c_j + n_j for j < i, n_i = c_i = θ.
 */
function momentum(code: LaneCode, rates: RateMatrices, inputs: RateInputs): void {
  const { f } = code;
  const { next, last, alpha, beta, coefficients } = rates;
  const [kept, carried, product] = [f.let('alpha', f32.const(1)), f.let('beta', f32.const(0)), f.let('momentum', f32.const(1))];
  const row = f.let('row', addressOf(code, coefficients));
  const other = f.local('other', 'i32');
  overTokens(code, (token) => {
    const decay = f.let('decay', f32x4.extract_lane(exp(code, f32x4.splat(inputs.logDecay(token))), 0));
    const [moving, strength] = [f.let('moving', inputs.momentum(token)), f.let('strength', inputs.writeStrength(token))];
    f.set(product, f32.mul(product, moving));
    f.set(kept, f32.mul(kept, decay));
    f.set(carried, f32.add(f32.mul(carried, decay), product));
    f.do(f32.store(element(code, alpha, token), kept));
    f.do(f32.store(element(code, beta, token), carried));
    f.for(other, { to: token }, () => {
      const ahead = f.let('ahead', element(code, next, other));
      const through = f.let('through', element(code, last, other));
      f.do(f32.store(ahead, f32.mul(moving, f32.load(ahead))));
      f.do(f32.store(through, f32.add(f32.mul(decay, f32.load(through)), f32.load(ahead))));
      f.do(f32.store(i32.add(row, i32.shl(other, 2)), f32.load(through)));
    });
    for (const target of [next, last]) f.do(f32.store(element(code, target, token), strength));
    f.do(f32.store(i32.add(row, i32.shl(token, 2)), strength));
    f.set(row, i32.add(row, coefficients.stride * 4));
  });
  keepScalar(code, rates, 'alpha', kept);
  keepScalar(code, rates, 'beta', carried);
  keepScalar(code, rates, 'momentum', product);
}
