import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { constantF32x4, exp, instructions, multiplyAdd, multiplySubtract, sumOfLanes } from '@heed/runtime-wasm';
import { forVectors, rowOf, type Callee, type Emission, type Vector } from './context.ts';
import { tokenForm, type TokenAlgebra, type TokenForm } from './token-form.ts';

const { f32, f32x4, i32, v128 } = instructions;

type Form = TokenForm<Local<'i32'>, Local<'f32'>>;

/** Vectors of one row of G in registers: one cache line of 64 bytes. */
const blockVectors = 4;
/** Rows of one round of the loop. */
const rowsUnroll = 4;

/**
 * One pass over G finds p and Gᵀu of the token's form, and a second one, over what lies in the nearest cache, writes G.
 *
 * name(scratch, index, from, to, columns, normalizerFrom, normalizer): the token in row `index` of scratch. Reads G at `from` and writes it at `to`, which may be the same, rows `rowBytes`
 * apart; `columns` is a multiple of 4. The output's row in scratch gets what is read, unscaled. z, where it does not stand in G, is read and written at its own places (0: it does).
 */
export function emitToken(emission: Emission, name: string, rowBytes: number): Callee {
  const { module, plan, scratch: places } = emission;
  const parameters = { scratch: 'i32', index: 'i32', from: 'i32', to: 'i32', columns: 'i32', normalizerFrom: 'i32', normalizer: 'i32' } as const;
  return module.function(name, { parameters }, (f, { scratch, index, from, to, columns, normalizerFrom, normalizer }) => {
    const form = tokenForm(plan, forwardAlgebra(f, emission, scratch, index));
    const [value, output] = [places.value, places.output].map((matrix) => f.let('row', rowOf(scratch, matrix, index, plan.valueStride)));
    if (value === undefined || output === undefined) throw new RangeError('two rows meet');
    const column = f.local('column', 'i32');
    const block = (vectors: number): void => {
      updateBlock(f, emission, form, vectors, { from: f.let('blockFrom', i32.add(from, column)), to: f.let('blockTo', i32.add(to, column)), rowBytes, value: f.let('blockValue', i32.add(value, column)), output: f.let('blockOutput', i32.add(output, column)) });
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

/** Code for one token that stands in scratch: vectors are addresses, new ones in the `token` area. */
function forwardAlgebra(f: FunctionBuilder, { plan, scratch: places }: Emission, scratch: Local<'i32'>, index: Local<'i32'>): TokenAlgebra<Local<'i32'>, Local<'f32'>> {
  const { widthStride, decay: decayAxis, machine, recall } = plan;
  const lanes = { f, fused: machine.fused };
  const row = (matrix: number): Local<'i32'> => f.let('tokenRow', rowOf(scratch, matrix, index, widthStride));
  const number = (matrix: number): Value<'i32'> => i32.add(i32.add(scratch, matrix), i32.shl(index, 2));
  let used = 0;
  const each = (element: (bytes: Local<'i32'>) => Vector): Local<'i32'> => {
    const target = f.let('vector', i32.add(scratch, places.token + used * widthStride * 4));
    used += 1;
    forVectors(f, widthStride, (bytes) => {
      f.do(v128.store(i32.add(target, bytes), element(bytes)));
    });
    return target;
  };
  const at = (address: Local<'i32'>, bytes: Local<'i32'>): Vector => v128.load(i32.add(address, bytes));
  const strength = (): Local<'f32'> => f.let('strength', f32.load(number(places.strength)));
  const scaled = (x: Local<'i32'>, factor: Local<'f32'>): Local<'i32'> => {
    const factors = f.let('factors', f32x4.splat(factor));
    return each((bytes) => f32x4.mul(at(x, bytes), factors));
  };
  return {
    query: () => row(places.query),
    key: () => row(places.key),
    decay: () => {
      const logs = row(places.decay);
      const factor = decayAxis === 'channel' ? null : f.let('factor', exp(lanes, v128.load32_splat(number(places.decay))));
      return each((bytes) => factor ?? exp(lanes, at(logs, bytes)));
    },
    recall: ({ by }) => row(by === 'key' ? places.key : places.recall),
    // Where it is not the key, it stands in scratch with its strength.
    remove: (step) => (recall?.isDelta !== true ? row(places.remove) : step.strength === null ? row(places.key) : scaled(row(places.key), strength())),
    strength,
    times: (x, y) => each((bytes) => f32x4.mul(at(x, bytes), at(y, bytes))),
    scaled,
    dot: (x, y) => {
      const sum = f.let('dot', constantF32x4(0));
      forVectors(f, widthStride, (bytes) => {
        f.set(sum, multiplyAdd(machine, at(x, bytes), at(y, bytes), sum));
      });
      return f.let('product', sumOfLanes(sum));
    },
    without: (x, factor, y) => {
      const factors = f.let('factors', f32x4.splat(factor));
      return each((bytes) => multiplySubtract(machine, factors, at(y, bytes), at(x, bytes)));
    },
  };
}

interface Block {
  readonly from: Local<'i32'>;
  readonly to: Local<'i32'>;
  readonly rowBytes: number;
  readonly value: Local<'i32'>;
  readonly output: Local<'i32'>;
}

/** A few vectors of columns of G: see {@link TokenForm}. */
function updateBlock(f: FunctionBuilder, { plan }: Emission, form: Form, vectors: number, at: Block): void {
  const { machine, width } = plan;
  const [recalled, read, value] = [f.localArray('recalled', 'v128', vectors), f.localArray('read', 'v128', vectors), f.localArray('value', 'v128', vectors)];
  const [byRecall, byRead, byDecay, byRemove, byWrite] = ['byRecall', 'byRead', 'byDecay', 'byRemove', 'byWrite'].map((name) => f.local(name, 'v128'));
  if (byRecall === undefined || byRead === undefined || byDecay === undefined || byRemove === undefined || byWrite === undefined) throw new RangeError('five factors meet');
  const element = f.local('element', 'v128');
  const [offset, from, to] = [f.local('offset', 'i32'), f.local('from', 'i32'), f.local('to', 'i32')];
  value.forEach((local, index) => {
    f.set(local, v128.load(at.value, index * 16));
  });
  const clear = (locals: readonly Local<'v128'>[]): void => {
    for (const local of locals) f.set(local, constantF32x4(0));
  };
  /** d ⊙ G of one row, from the element at hand. */
  const kept = (): Vector => (form.decay === null ? element : f32x4.mul(byDecay, element));
  /** All rows of G, a few in each round. `splat` is the row's number of a vector. */
  const eachRow = (body: (row: { readonly splat: (vector: Local<'i32'>) => Vector; readonly bytes: number }) => void): void => {
    f.set(from, at.from);
    f.set(to, at.to);
    const rows = (count: number): void => {
      for (let row = 0; row < count; row += 1) body({ splat: (vector) => v128.load32_splat(i32.add(vector, offset), row * 4), bytes: row * at.rowBytes });
    };
    const whole = Math.floor(width / rowsUnroll) * rowsUnroll;
    f.set(offset, 0);
    if (whole > 0) {
      f.for(offset, { to: whole * 4, step: rowsUnroll * 4, atLeastOnce: true }, () => {
        rows(rowsUnroll);
        f.set(from, i32.add(from, rowsUnroll * at.rowBytes));
        f.set(to, i32.add(to, rowsUnroll * at.rowBytes));
      });
    }
    rows(width - whole);
  };
  clear(read);
  if (form.recall === null) {
    f.comment('one pass: read, then write');
    eachRow(({ splat, bytes }) => {
      f.set(byRead, splat(form.read));
      f.set(byWrite, splat(form.write));
      if (form.decay !== null) f.set(byDecay, splat(form.decay));
      read.forEach((sum, index) => {
        const own = value[index];
        if (own === undefined) return;
        f.set(element, v128.load(from, bytes + index * 16));
        f.set(sum, multiplyAdd(machine, byRead, element, sum));
        f.do(v128.store(to, multiplyAdd(machine, byWrite, own, kept()), bytes + index * 16));
      });
    });
  } else {
    const { recall, remove, sigma } = form;
    clear(recalled);
    eachRow(({ splat, bytes }) => {
      f.set(byRecall, splat(recall));
      f.set(byRead, splat(form.read));
      read.forEach((sum, index) => {
        const other = recalled[index];
        if (other === undefined) return;
        f.set(element, v128.load(from, bytes + index * 16));
        f.set(sum, multiplyAdd(machine, byRead, element, sum));
        f.set(other, multiplyAdd(machine, byRecall, element, other));
      });
    });
    const sameRow = remove === form.write;
    if (sameRow) {
      f.comment('what is removed is what is written: one difference serves both');
      value.forEach((own, index) => {
        const known = recalled[index];
        if (known !== undefined) f.set(own, f32x4.sub(own, known));
      });
    }
    eachRow(({ splat, bytes }) => {
      f.set(byWrite, splat(form.write));
      if (remove !== null && !sameRow) f.set(byRemove, splat(remove));
      if (form.decay !== null) f.set(byDecay, splat(form.decay));
      value.forEach((own, index) => {
        const known = recalled[index];
        if (known === undefined) return;
        f.set(element, v128.load(from, bytes + index * 16));
        f.set(element, multiplyAdd(machine, byWrite, own, kept()));
        f.do(v128.store(to, sameRow ? element : multiplySubtract(machine, byRemove, known, element), bytes + index * 16));
      });
    });
    if (!sameRow && sigma !== null) {
      const sigmas = f.let('sigmas', f32x4.splat(sigma));
      read.forEach((sum, index) => {
        const known = recalled[index];
        if (known !== undefined) f.set(sum, multiplySubtract(machine, sigmas, known, sum));
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
