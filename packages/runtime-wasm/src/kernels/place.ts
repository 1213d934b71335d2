import type { Expression, InputName, QueryTableRead, Random, TableRead } from '@heed/core';
import type { RandomStream } from '@heed/core/compute';
import { threefryParity, threefryRotations } from '@heed/core/compute';
import { Lowering, type LaneEnvironment } from '../emit/expression.ts';
import type { FunctionBuilder } from '../emit/function.ts';
import { constantF32x4, constantI32x4, instructions, lanesI32x4, type Local, type Value } from '../emit/instruction.ts';
import type { Arithmetic } from '../emit/matmul.ts';
import type { Words } from './records.ts';
import { queryTableRowsWord, tableStrideWord, tableWord, uniformWord } from './word-names.ts';

const { f32x4, i16x8, i32, i32x4, v128 } = instructions;

/** Four lanes. */
export type Vector = Value<'v128'>;

/** What every place in a kernel knows: the records of the call. */
export interface Surroundings {
  /** What of a backend's plan the code depends on. */
  readonly plan: {
    readonly machine: Arithmetic;
    /** Random streams, each with one key for each head. */
    readonly streams: readonly RandomStream[];
    /** Widest row that a transform reads or writes, in floats rounded up to whole vectors. */
    readonly rowFloats: number;
  };
  /** Records with the words of `word-names.ts`: the call's, and the sequence's with `batch` and the turns. */
  readonly layouts: { readonly call: Words; readonly sequence: Words };
  /** Types and axes of the tables. */
  readonly tables: Readonly<Record<string, { readonly type: Expression['type']; readonly axes: readonly unknown[] }>>;
  /** Address of the call's record. */
  readonly call: Local<'i32'>;
}

/** The numbers that may stand where an expression reads an input: one for all lanes, or a vector. */
export type Inputs = Partial<Readonly<Record<InputName, Local<'i32'> | Local<'v128'>>>>;

export interface PlaceOptions {
  readonly inputs: Inputs;
  /** Inputs that stay the same while the loop around the expressions runs. */
  readonly fixed: readonly InputName[];
  /** Scalar index of lane 0 where lanes are neighbours (keys, channels), and the last index that exists: reads of tables stay within it. */
  readonly lanes?: { readonly input: InputName; readonly first: Local<'i32'>; readonly last: Local<'i32'> };
  /** Products with query tables: address of a row's products for each table, and the words of the random keys. */
  readonly queryTables?: Readonly<Record<string, Local<'i32'>>>;
  readonly randomKeys?: Local<'i32'>;
}

/** Four neighbouring lanes 0 … 3. */
export const laneNumbers = (): Value<'v128'> => lanesI32x4([0, 1, 2, 3]);

/** Where expressions are evaluated: reads the records of the call, and tables with any strides. */
export class Place implements LaneEnvironment {
  readonly lowering: Lowering;
  readonly #f: FunctionBuilder;
  readonly #at: Surroundings;
  readonly #options: PlaceOptions;
  readonly #bindings = new Map<InputName, Local<'v128'>>();

  constructor(f: FunctionBuilder, at: Surroundings, options: PlaceOptions) {
    this.#f = f;
    this.#at = at;
    this.#options = options;
    this.lowering = new Lowering({ f, fused: at.plan.machine.fused, environment: this });
  }

  /** The value of an expression, with some inputs given anew. */
  evaluate(expression: Expression, bindings: Readonly<Partial<Record<InputName, Local<'v128'>>>> = {}): Vector {
    this.#bindings.clear();
    for (const [name, local] of Object.entries(bindings)) this.#bindings.set(name as InputName, local);
    this.lowering.begin();
    return this.lowering.lower(expression);
  }

  hoist(...expressions: readonly Expression[]): void {
    for (const expression of expressions) this.lowering.hoist(expression);
  }

  isFixed(name: InputName): boolean {
    return this.#options.fixed.includes(name);
  }

  input(name: InputName): Vector {
    const local = this.#bindings.get(name) ?? this.#options.inputs[name];
    if (local === undefined) throw new RangeError(`'${name}' does not exist here`);
    return isVector(local) ? local : i32x4.splat(local);
  }

  uniform(name: string): Vector {
    return v128.load32_splat(this.#at.call, this.#at.layouts.call.offset(uniformWord(name)));
  }

  table(node: TableRead, indices: readonly Local<'v128'>[]): Vector {
    const f = this.#f;
    const { call, layouts } = this.#at;
    const scalar = (index: Local<'v128'>): Value<'i32'> => i32x4.extract_lane(index, 0);
    const stride = (axis: number): Value<'i32'> => i32.load(call, layouts.call.offset(tableStrideWord(node.name, axis)));
    const isBool = node.type === 'bool';
    const load = (address: Value<'i32'>): Vector => (isBool ? v128.load8_splat(address) : v128.load32_splat(address));
    const finish = (value: Vector): Vector => (isBool ? i32x4.ne(v128.and(value, constantI32x4(255)), constantI32x4(0)) : value);
    const varying = node.indices.map((index) => this.#varies(index));
    const base = f.let('entry', i32.load(call, layouts.call.offset(tableWord(node.name))));
    indices.forEach((index, axis) => {
      if (varying[axis] === false) f.set(base, i32.add(base, i32.mul(scalar(index), stride(axis))));
    });
    if (!varying.includes(true)) return finish(load(base));
    const result = f.local('entries', 'v128');
    const gather = (): void => {
      const offsets = indices.map((index, axis) => (varying[axis] === true ? i32x4.mul(index, i32x4.splat(stride(axis))) : null)).filter((offset) => offset !== null);
      const places = f.let('places', offsets.reduce((sum, offset) => i32x4.add(sum, offset)));
      f.set(result, constantI32x4(0));
      for (const lane of [0, 1, 2, 3]) {
        const address = i32.add(base, i32x4.extract_lane(places, lane));
        f.set(result, isBool ? i32x4.replace_lane(result, i32.load8_u(address), lane) : v128.load32_lane(address, result, lane));
      }
    };
    const { lanes } = this.#options;
    const axis = varying.indexOf(true);
    const only = node.indices[axis];
    if (lanes === undefined || only?.kind !== 'input' || only.name !== lanes.input || varying.lastIndexOf(true) !== axis) {
      gather();
      return finish(result);
    }
    // Neighbouring lanes of an axis whose elements are neighbours: one load.
    const element = isBool ? 1 : 4;
    const isNeighbours = i32.and(i32.eq(stride(axis), element), i32.le_s(i32.add(lanes.first, 3), lanes.last));
    f.if(isNeighbours, () => {
      const address = i32.add(base, i32.mul(lanes.first, element));
      f.set(result, isBool ? i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(v128.load32_zero(address))) : v128.load(address));
    }, gather);
    return finish(result);
  }

  queryTable({ name }: QueryTableRead, row: Local<'v128'>): Vector {
    const f = this.#f;
    const products = this.#options.queryTables?.[name];
    if (products === undefined) throw new RangeError(`the query table '${name}' does not exist here`);
    const result = f.local('products', 'v128');
    f.set(result, constantF32x4(0));
    for (const lane of [0, 1, 2, 3]) f.set(result, v128.load32_lane(i32.add(products, i32.shl(i32x4.extract_lane(row, lane), 2)), result, lane));
    return result;
  }

  /** Threefry-2x32 under the key of (seed, stream, sequence, head), which the host computed. */
  random(node: Random): Vector {
    const f = this.#f;
    const { randomKeys } = this.#options;
    const index = this.#at.plan.streams.findIndex(([seed, stream]) => seed === node.seed && stream === node.stream);
    if (randomKeys === undefined || index < 0) throw new RangeError('random numbers do not exist here');
    const key0 = f.let('key0', v128.load32_splat(randomKeys, index * 8));
    const key1 = f.let('key1', v128.load32_splat(randomKeys, index * 8 + 4));
    const keys = [key0, key1, f.let('key2', v128.xor(v128.xor(key0, key1), constantI32x4(threefryParity)))];
    const at = (place: number): Local<'v128'> => keys[place % 3] ?? key0;
    const x0 = f.let('x0', i32x4.add(this.input('queryPosition'), key0));
    const x1 = f.let('x1', i32x4.add(this.input('keyPosition'), key1));
    for (let round = 0; round < 20; round += 1) {
      const distance = threefryRotations[round % 8] ?? 0;
      f.set(x0, i32x4.add(x0, x1));
      f.set(x1, v128.xor(v128.or(i32x4.shl(x1, distance), i32x4.shr_u(x1, 32 - distance)), x0));
      if (round % 4 !== 3) continue;
      const injection = (round + 1) / 4;
      f.set(x0, i32x4.add(x0, at(injection)));
      f.set(x1, i32x4.add(i32x4.add(x1, at(injection + 1)), constantI32x4(injection)));
    }
    return f32x4.mul(f32x4.add(f32x4.convert_i32x4_u(i32x4.shr_u(x0, 9)), constantF32x4(0.5)), constantF32x4(2 ** -23));
  }

  /** True when lanes may differ. */
  #varies(expression: Expression): boolean {
    switch (expression.kind) {
      case 'constant':
      case 'uniform':
        return false;
      case 'random':
      case 'queryTable':
        return true;
      case 'input': {
        const local = this.#options.inputs[expression.name];
        return local?.type !== 'i32';
      }
      case 'table':
        return expression.indices.some((index) => this.#varies(index));
      case 'operation':
        return expression.operands.some((operand) => this.#varies(operand));
    }
  }
}

function isVector(local: Local<'i32'> | Local<'v128'>): local is Local<'v128'> {
  return local.type === 'v128';
}

/** Words of a query table's size, for those who compute its products. */
export const queryTableRows = (at: Surroundings, name: string): Value<'i32'> => i32.load(at.call, at.layouts.call.offset(queryTableRowsWord(name)));
