import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { constantF32x4, instructions, multiplyAdd, multiplySubtract, sumOfLanes } from '@heed/runtime-wasm';
import { fillVectors, forVectors, rowOf, type Callee, type Emission, type Vector } from '../emit/context.ts';
import { tokenForm, type TokenForm } from '../emit/token-form.ts';
import type { GradientScratch } from './scratch.ts';
import { Tape, type TapeInputs, type TapeNumber, type TapeVector } from './tape.ts';

const { f32, f32x4, i32, v128 } = instructions;

/**
 * retreatToken(call, scratch, index, row): the adjoint of the token in row `index` of scratch. With H the gradient of G behind the token, m that of what was read, and the token's form:
 *
 *     dv = Hᵀc + τ m      dp = −Hᵀa − σ m      dσ = −m·p      dτ = m·v
 *     dd = rowsum(H ⊙ G)      da = −H p      dc = H v      db = G dp      du = G m
 *     H ← d ⊙ H + b dpᵀ + u mᵀ,   the gradient of G before the token
 *
 * and back through the form to the token's rows and numbers, whose gradients stand at `row` of the dense arrays in the call's record. H is `memory` in scratch, m `readGradient`.
 */
export function emitRetreatToken(emission: Emission, places: GradientScratch): Callee {
  const { module, plan, layouts } = emission;
  return module.function('retreatToken', { parameters: { call: 'i32', scratch: 'i32', index: 'i32', row: 'i32' } }, (f, { call, scratch, index, row }) => {
    const word = (name: string): Value<'i32'> => i32.load(call, layouts.call.offset(name));
    const gradientRow = (name: string): Local<'i32'> => {
      const address = f.let(`${name}Gradient`, i32.add(word(`${name}Rows`), i32.mul(row, plan.widthStride * 4)));
      fillVectors(f, address, plan.widthStride, constantF32x4(0));
      return address;
    };
    const vector = (name: string, matrix: number): TapeVector => ({ value: f.let(name, rowOf(scratch, matrix, index, plan.widthStride)), gradient: gradientRow(name) });
    const number = (name: string, matrix: number): TapeNumber => {
      const gradient = f.local(`${name}Gradient`, 'f32');
      f.set(gradient, 0);
      return { value: f.let(name, f32.load(i32.add(i32.add(scratch, matrix), i32.shl(index, 2)))), gradient };
    };
    const { recall, decay } = plan;
    const reads = (name: 'removalKey' | 'removalWeight'): boolean => recall !== null && [recall.by, recall.along, recall.strength].includes(name);
    const inputs: TapeInputs = {
      query: vector('query', places.query),
      key: vector('key', places.key),
      removalKey: reads('removalKey') ? vector('removalKey', places.removalKey) : null,
      removalWeight: reads('removalWeight') ? vector('removalWeight', places.removalWeight) : null,
      logDecays: decay === 'channel' ? vector('logDecay', places.decay) : null,
      logDecay: decay !== null && decay !== 'channel' ? number('logDecay', places.decay) : null,
      strength: plan.strength || recall?.strength === 'writeStrength' ? number('writeStrength', places.strength) : null,
    };
    const tape = new Tape(f, emission, inputs, f.let('tape', i32.add(scratch, places.tape)));
    const form = tokenForm(plan, tape);
    const rows: TokenRows = {
      state: f.let('state', i32.add(i32.add(scratch, places.states), i32.mul(index, plan.widthStride * plan.valueStride * 4))),
      gradient: f.let('gradient', i32.add(scratch, places.memory)),
      value: f.let('value', rowOf(scratch, places.value, index, plan.valueStride)),
      readGradient: f.let('readGradient', i32.add(scratch, places.readGradient)),
      recalled: f.let('recalled', i32.add(scratch, places.recalled)),
      recalledGradient: f.let('recalledGradient', i32.add(scratch, places.recalledGradient)),
      valueGradient: f.let('valueGradient', i32.add(scratch, places.valueGradient)),
    };
    columnPass(f, emission, form, rows);
    const dotRows = (x: Local<'i32'>, y: Local<'i32'>): Local<'f32'> => {
      const sum = f.let('dot', constantF32x4(0));
      forVectors(f, plan.valueStride, (bytes) => {
        f.set(sum, multiplyAdd(plan.machine, v128.load(i32.add(x, bytes)), v128.load(i32.add(y, bytes)), sum));
      });
      return f.let('dotRows', sumOfLanes(sum));
    };
    if (form.sigma !== null) f.set(form.sigma.gradient, f32.sub(form.sigma.gradient, dotRows(rows.readGradient, rows.recalled)));
    if (form.tau !== null) f.set(form.tau.gradient, f32.add(form.tau.gradient, dotRows(rows.readGradient, rows.value)));
    rowPass(f, emission, form, rows);
    tape.retreat();
    const store = (name: string, one: TapeNumber | null): void => {
      if (one !== null) f.do(f32.store(i32.add(word(`${name}Rows`), i32.shl(row, 2)), one.gradient));
    };
    store('logDecay', inputs.logDecay);
    store('writeStrength', inputs.strength);
  });
}

interface TokenRows {
  /** G before the token, and the gradient of G behind it, [W, V]. */
  readonly state: Local<'i32'>;
  readonly gradient: Local<'i32'>;
  /** [V]. */
  readonly value: Local<'i32'>;
  readonly readGradient: Local<'i32'>;
  readonly recalled: Local<'i32'>;
  readonly recalledGradient: Local<'i32'>;
  readonly valueGradient: Local<'i32'>;
}

type Form = TokenForm<TapeVector, TapeNumber>;

/** Four columns at a time, down all rows: p, dp and dv. */
function columnPass(f: FunctionBuilder, { plan }: Emission, form: Form, rows: TokenRows): void {
  const { machine, valueStride, width } = plan;
  const [recalled, recalledGradient, valueGradient] = [f.local('p', 'v128'), f.local('dp', 'v128'), f.local('dv', 'v128')];
  const [offset, state, gradient] = [f.local('offset', 'i32'), f.local('stateRow', 'i32'), f.local('gradientRow', 'i32')];
  const here = f.local('here', 'v128');
  const splat = ({ value }: TapeVector): Vector => v128.load32_splat(i32.add(value, offset));
  const numbers = (one: TapeNumber | null): Local<'v128'> | null => (one === null ? null : f.let('numbers', f32x4.splat(one.value)));
  const [sigma, tau] = [numbers(form.sigma), numbers(form.tau)];
  const { recall, remove } = form;
  forVectors(f, valueStride, (bytes) => {
    for (const sum of [recalled, recalledGradient, valueGradient]) f.set(sum, constantF32x4(0));
    f.set(state, i32.add(rows.state, bytes));
    f.set(gradient, i32.add(rows.gradient, bytes));
    f.for(offset, { to: width * 4, step: 4, atLeastOnce: true }, () => {
      f.set(here, v128.load(gradient));
      f.set(valueGradient, multiplyAdd(machine, splat(form.write), here, valueGradient));
      if (remove !== null) f.set(recalledGradient, multiplySubtract(machine, splat(remove), here, recalledGradient));
      if (recall !== null) f.set(recalled, multiplyAdd(machine, splat(recall), v128.load(state), recalled));
      f.set(state, i32.add(state, valueStride * 4));
      f.set(gradient, i32.add(gradient, valueStride * 4));
    });
    const read = f.let('read', v128.load(i32.add(rows.readGradient, bytes)));
    if (tau !== null) f.set(valueGradient, multiplyAdd(machine, tau, read, valueGradient));
    if (sigma !== null) f.set(recalledGradient, multiplySubtract(machine, sigma, read, recalledGradient));
    f.do(v128.store(i32.add(rows.valueGradient, bytes), valueGradient));
    f.do(v128.store(i32.add(rows.recalled, bytes), recalled));
    f.do(v128.store(i32.add(rows.recalledGradient, bytes), recalledGradient));
  });
}

/** Row by row: gradients of the form's vectors, one number a row, and H before the token. */
function rowPass(f: FunctionBuilder, { plan }: Emission, { decay, recall, remove, write, read }: Form, rows: TokenRows): void {
  const { machine, valueStride, width } = plan;
  const offset = f.local('offset', 'i32');
  const [state, gradient] = [f.let('stateRow', rows.state), f.let('gradientRow', rows.gradient)];
  const [g, h, next] = [f.local('g', 'v128'), f.local('h', 'v128'), f.local('next', 'v128')];
  const vectors = { decay, recall, remove, write, read };
  const sums = Object.fromEntries(Object.keys(vectors).map((name) => [name, f.local(`${name}Sum`, 'v128')])) as Record<keyof typeof vectors, Local<'v128'>>;
  const factors = Object.fromEntries(Object.keys(vectors).map((name) => [name, f.local(`${name}Here`, 'v128')])) as Record<keyof typeof vectors, Local<'v128'>>;
  f.for(offset, { to: width * 4, step: 4, atLeastOnce: true }, () => {
    for (const [name, vector] of Object.entries(vectors) as [keyof typeof vectors, TapeVector | null][]) {
      if (vector === null) continue;
      f.set(sums[name], constantF32x4(0));
      f.set(factors[name], v128.load32_splat(i32.add(vector.value, offset)));
    }
    forVectors(f, valueStride, (bytes) => {
      const at = (row: Local<'i32'>): Vector => v128.load(i32.add(row, bytes));
      const add = (name: keyof typeof vectors, a: Vector, b: Vector): void => {
        f.set(sums[name], multiplyAdd(machine, a, b, sums[name]));
      };
      f.set(g, at(state));
      f.set(h, at(gradient));
      add('read', g, at(rows.readGradient));
      add('write', h, at(rows.value));
      if (decay !== null) add('decay', h, g);
      if (remove !== null) f.set(sums.remove, multiplySubtract(machine, h, at(rows.recalled), sums.remove));
      if (recall !== null) add('recall', g, at(rows.recalledGradient));
      f.set(next, decay === null ? h : f32x4.mul(factors.decay, h));
      if (recall !== null) f.set(next, multiplyAdd(machine, factors.recall, at(rows.recalledGradient), next));
      f.do(v128.store(i32.add(gradient, bytes), multiplyAdd(machine, factors.read, at(rows.readGradient), next)));
    });
    for (const [name, vector] of Object.entries(vectors) as [keyof typeof vectors, TapeVector | null][]) {
      if (vector === null) continue;
      const place = f.let('place', i32.add(vector.gradient, offset));
      f.do(f32.store(place, f32.add(f32.load(place), sumOfLanes(sums[name]))));
    }
    f.set(state, i32.add(state, valueStride * 4));
    f.set(gradient, i32.add(gradient, valueStride * 4));
  });
}
