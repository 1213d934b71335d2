import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { constantF32x4, exp, instructions, multiplyAdd, multiplySubtract, sumOfLanes } from '@heed/runtime-wasm';
import { forVectors, rowOf, type Callee, type Emission, type Vector } from './context.ts';

const { f32, f32x4, i32, v128 } = instructions;

/**
 * What a token does to the state and what it reads from it, with all steps of the rule, in any order, brought to one form:
 *
 *     p = Gᵀb      G ← d ⊙ G − a pᵀ + c vᵀ      output = Gᵀu − σ p + τ v,   G on the right as it was before the token
 *
 * So one pass over G finds p and Gᵀu, and a second one, over what lies in the nearest cache, writes G.
 */
interface TokenForm {
  /** Addresses of the vectors [W] in scratch; null: not there. */
  readonly recall: Local<'i32'> | null;
  readonly remove: Local<'i32'> | null;
  readonly write: Local<'i32'>;
  readonly read: Local<'i32'>;
  readonly decay: Local<'i32'> | null;
  readonly sigma: Local<'f32'> | null;
  readonly tau: Local<'f32'> | null;
}

type Address = Local<'i32'> | null;
type Factor = Local<'f32'> | null;

/** Vectors of one row of G in registers: one cache line of 64 bytes. */
const blockVectors = 4;

/**
 * token(scratch, index, from, fromRow, to, toRow, columns, normalizerFrom, normalizer): the token in row `index` of scratch. Reads G at `from` and writes it at `to`, which may be the same, rows `fromRow`
 * and `toRow` bytes apart; `columns` is a multiple of 4. The output's row in scratch gets what is read, unscaled. z, where it does not stand in G, is read and written at its own places (0: it does).
 */
export function emitToken(emission: Emission): Callee {
  const { module, plan, scratch: places } = emission;
  const parameters = { scratch: 'i32', index: 'i32', from: 'i32', fromRow: 'i32', to: 'i32', toRow: 'i32', columns: 'i32', normalizerFrom: 'i32', normalizer: 'i32' } as const;
  return module.function('token', { parameters }, (f, { scratch, index, from, fromRow, to, toRow, columns, normalizerFrom, normalizer }) => {
    const form = tokenForm(f, emission, scratch, index);
    const [value, output] = [places.value, places.output].map((matrix) => f.let('row', rowOf(scratch, matrix, index, plan.valueStride)));
    if (value === undefined || output === undefined) throw new RangeError('two rows meet');
    const column = f.local('column', 'i32');
    const block = (vectors: number): void => {
      updateBlock(f, emission, form, vectors, { from: f.let('blockFrom', i32.add(from, column)), fromRow, to: f.let('blockTo', i32.add(to, column)), toRow, value: f.let('blockValue', i32.add(value, column)), output: f.let('blockOutput', i32.add(output, column)) });
    };
    const end = f.let('columnsEnd', i32.shl(columns, 2));
    const whole = f.let('whole', i32.and(end, -16 * blockVectors));
    f.for(column, { to: whole, step: 16 * blockVectors }, () => {
      block(blockVectors);
    });
    f.for(column, { from: whole, to: end, step: 16 }, () => {
      block(1);
    });
    if (plan.epsilon === null) return;
    f.if(normalizer, () => {
      const sum = f.let('sum', constantF32x4(0));
      forVectors(f, plan.widthStride, (bytes) => {
        const before = f.let('before', v128.load(i32.add(normalizerFrom, bytes)));
        f.set(sum, multiplyAdd(plan.machine, before, v128.load(i32.add(form.read, bytes)), sum));
        const kept = form.decay === null ? before : f32x4.mul(before, v128.load(i32.add(form.decay, bytes)));
        f.do(v128.store(i32.add(normalizer, bytes), f32x4.add(kept, v128.load(i32.add(form.write, bytes)))));
      });
      const own = form.tau === null ? sumOfLanes(sum) : f32.add(sumOfLanes(sum), form.tau);
      f.do(f32.store(i32.add(output, end), own));
    });
  });
}

/** The steps of the rule, in their order, as vectors in scratch. */
function tokenForm(f: FunctionBuilder, { plan, scratch: places }: Emission, scratch: Local<'i32'>, index: Local<'i32'>): TokenForm {
  const { widthStride, decay: decayAxis } = plan;
  const lanes = { f, fused: plan.machine.fused };
  const row = (matrix: number): Local<'i32'> => f.let('tokenRow', rowOf(scratch, matrix, index, widthStride));
  const number = (matrix: number): Value<'i32'> => i32.add(i32.add(scratch, matrix), i32.shl(index, 2));
  let used = 0;
  const vector = (): Local<'i32'> => f.let('vector', i32.add(scratch, places.token + used++ * widthStride * 4));
  const each = (target: Local<'i32'>, element: (bytes: Local<'i32'>) => Vector): Local<'i32'> => {
    forVectors(f, widthStride, (bytes) => {
      f.do(v128.store(i32.add(target, bytes), element(bytes)));
    });
    return target;
  };
  const at = (address: Local<'i32'>, bytes: Local<'i32'>): Vector => v128.load(i32.add(address, bytes));
  const dot = (x: Local<'i32'>, y: Local<'i32'>): Local<'f32'> => {
    const sum = f.let('dot', constantF32x4(0));
    forVectors(f, widthStride, (bytes) => {
      f.set(sum, multiplyAdd(plan.machine, at(x, bytes), at(y, bytes), sum));
    });
    return f.let('product', sumOfLanes(sum));
  };
  let [decay, recall, remove, write, read]: [Address, Address, Address, Address, Address] = [null, null, null, null, null];
  // What is removed, as long as nothing decayed it: a delta rule writes it.
  let fresh: Local<'i32'> | null = null;
  let [rho, sigma, tau]: [Factor, Factor, Factor] = [null, null, null];
  const decayed = (x: Local<'i32'>, by: Local<'i32'> | null): Local<'i32'> => (by === null ? x : each(vector(), (bytes) => f32x4.mul(at(x, bytes), at(by, bytes))));
  for (const step of plan.rule.steps) {
    switch (step.step) {
      case 'decay': {
        const logs = row(places.decay);
        const factor = decayAxis === 'channel' ? null : f.let('factor', exp(lanes, v128.load32_splat(number(places.decay))));
        const own: Local<'i32'> = each(vector(), (bytes) => factor ?? exp(lanes, at(logs, bytes)));
        decay = own;
        if (remove !== null) remove = decayed(remove, own);
        fresh = null;
        if (write !== null) write = decayed(write, own);
        break;
      }
      case 'recall': {
        const by = row(step.by === 'key' ? places.key : places.recall);
        if (write !== null) rho = dot(write, by);
        recall = decayed(by, decay);
        break;
      }
      case 'remove': {
        const along = plan.recall?.isDelta === true ? row(places.key) : row(places.remove);
        const strength = plan.recall?.isDelta === true && step.strength === 'writeStrength' ? f.let('strength', v128.load32_splat(number(places.strength))) : null;
        const own: Local<'i32'> = strength === null ? along : each(vector(), (bytes) => f32x4.mul(at(along, bytes), strength));
        remove = own;
        if (plan.recall?.isDelta === true) fresh = own;
        const weight = rho === null ? null : f.let('weight', f32x4.splat(rho));
        if (write !== null && weight !== null) {
          const written: Local<'i32'> = write;
          write = each(vector(), (bytes) => multiplySubtract(plan.machine, weight, at(own, bytes), at(written, bytes)));
        }
        break;
      }
      case 'write': {
        const key = row(places.key);
        const strength = step.strength === null ? null : f.let('strength', v128.load32_splat(number(places.strength)));
        write = fresh ?? (strength === null ? key : each(vector(), (bytes) => f32x4.mul(at(key, bytes), strength)));
        break;
      }
      case 'read': {
        const query = row(places.query);
        if (remove !== null) sigma = dot(remove, query);
        if (write !== null) tau = dot(write, query);
        read = decayed(query, decay);
      }
    }
  }
  if (write === null || read === null) throw new RangeError('a rule writes and reads');
  return { decay, recall, remove, write, read, sigma, tau };
}

interface Block {
  readonly from: Local<'i32'>;
  readonly fromRow: Local<'i32'>;
  readonly to: Local<'i32'>;
  readonly toRow: Local<'i32'>;
  readonly value: Local<'i32'>;
  readonly output: Local<'i32'>;
}

/** A few vectors of columns of G: see {@link TokenForm}. */
function updateBlock(f: FunctionBuilder, { plan }: Emission, form: TokenForm, vectors: number, at: Block): void {
  const { machine, width } = plan;
  const [recalled, read, value] = [f.localArray('recalled', 'v128', vectors), f.localArray('read', 'v128', vectors), f.localArray('value', 'v128', vectors)];
  const [byRecall, byRead, byDecay, byRemove, byWrite] = ['byRecall', 'byRead', 'byDecay', 'byRemove', 'byWrite'].map((name) => f.local(name, 'v128'));
  if (byRecall === undefined || byRead === undefined || byDecay === undefined || byRemove === undefined || byWrite === undefined) throw new RangeError('five factors meet');
  const element = f.local('element', 'v128');
  const [offset, from, to] = [f.local('offset', 'i32'), f.local('from', 'i32'), f.local('to', 'i32')];
  value.forEach((local, index) => {
    f.set(local, v128.load(at.value, index * 16));
  });
  const splat = (address: Local<'i32'>): Vector => v128.load32_splat(i32.add(address, offset));
  const clear = (locals: readonly Local<'v128'>[]): void => {
    for (const local of locals) f.set(local, constantF32x4(0));
  };
  /** d ⊙ G + … of one row, from the element at hand. */
  const kept = (): Vector => (form.decay === null ? element : f32x4.mul(byDecay, element));
  clear(read);
  if (form.recall === null) {
    f.comment('one pass: read, then write');
    f.set(from, at.from);
    f.set(to, at.to);
    f.for(offset, { to: width * 4, step: 4, atLeastOnce: true }, () => {
      f.set(byRead, splat(form.read));
      f.set(byWrite, splat(form.write));
      if (form.decay !== null) f.set(byDecay, splat(form.decay));
      read.forEach((sum, index) => {
        const own = value[index];
        if (own === undefined) return;
        f.set(element, v128.load(from, index * 16));
        f.set(sum, multiplyAdd(machine, byRead, element, sum));
        f.do(v128.store(to, multiplyAdd(machine, byWrite, own, kept()), index * 16));
      });
      f.set(from, i32.add(from, at.fromRow));
      f.set(to, i32.add(to, at.toRow));
    });
  } else {
    clear(recalled);
    f.set(from, at.from);
    f.for(offset, { to: width * 4, step: 4, atLeastOnce: true }, () => {
      if (form.recall !== null) f.set(byRecall, splat(form.recall));
      f.set(byRead, splat(form.read));
      read.forEach((sum, index) => {
        const other = recalled[index];
        if (other === undefined) return;
        f.set(element, v128.load(from, index * 16));
        f.set(sum, multiplyAdd(machine, byRead, element, sum));
        f.set(other, multiplyAdd(machine, byRecall, element, other));
      });
      f.set(from, i32.add(from, at.fromRow));
    });
    const sameRow = form.remove === form.write;
    if (sameRow) {
      f.comment('what is removed is what is written: one difference serves both');
      value.forEach((own, index) => {
        const known = recalled[index];
        if (known !== undefined) f.set(own, f32x4.sub(own, known));
      });
    }
    f.set(from, at.from);
    f.set(to, at.to);
    f.for(offset, { to: width * 4, step: 4, atLeastOnce: true }, () => {
      f.set(byWrite, splat(form.write));
      if (form.remove !== null && !sameRow) f.set(byRemove, splat(form.remove));
      if (form.decay !== null) f.set(byDecay, splat(form.decay));
      value.forEach((own, index) => {
        const known = recalled[index];
        if (known === undefined) return;
        f.set(element, v128.load(from, index * 16));
        f.set(element, multiplyAdd(machine, byWrite, own, kept()));
        f.do(v128.store(to, sameRow ? element : multiplySubtract(machine, byRemove, known, element), index * 16));
      });
      f.set(from, i32.add(from, at.fromRow));
      f.set(to, i32.add(to, at.toRow));
    });
    if (!sameRow && form.sigma !== null) {
      const sigma = f.let('sigmas', f32x4.splat(form.sigma));
      read.forEach((sum, index) => {
        const known = recalled[index];
        if (known !== undefined) f.set(sum, multiplySubtract(machine, sigma, known, sum));
      });
    }
  }
  // Where one difference serves both, `value` is that difference: σ = τ.
  if (form.tau !== null) {
    const tau = f.let('taus', f32x4.splat(form.tau));
    read.forEach((sum, index) => {
      const own = value[index];
      if (own !== undefined) f.set(sum, multiplyAdd(machine, tau, own, sum));
    });
  }
  read.forEach((sum, index) => {
    f.do(v128.store(at.output, sum, index * 16));
  });
}
