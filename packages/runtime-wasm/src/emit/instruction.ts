/**
 * Expressions for emitters: `f32x4.mul(a, b)` is plain data that a function builder writes in stack order.
 * A node that is used twice is computed twice; `f.let` keeps a value in a local.
 */
import { opcode, opcodes } from './opcodes.ts';
import type { ImmediateOf, Opcode, OperandTypes, PlainName, ResultType, ValueType } from './opcodes.ts';

/** A variable of one function. */
export interface Local<Type extends ValueType = ValueType> {
  readonly kind: 'local';
  readonly type: Type;
  readonly name: string;
  readonly index: number;
  /** The builder it belongs to. */
  readonly owner: object;
}

export interface Immediates {
  readonly lane?: number;
  /** Bytes added to the address; below 2³². */
  readonly offset?: number;
  /** Sixteen byte lanes, 0…31. */
  readonly lanes?: readonly number[];
  readonly constant?: number | bigint | Uint8Array;
}

export interface Instruction<Type extends ValueType = ValueType> {
  readonly kind: 'instruction';
  /** Absent for an instruction that leaves nothing, such as a store. */
  readonly type?: Type;
  readonly opcode: Opcode;
  readonly operands: readonly Operand[];
  readonly immediates: Immediates;
}

/** `condition ≠ 0 ? whenTrue : whenFalse`; both sides are computed. */
export interface Select<Type extends ValueType = ValueType> {
  readonly kind: 'select';
  readonly type: Type;
  readonly whenTrue: Operand;
  readonly whenFalse: Operand;
  readonly condition: Operand<'i32'>;
}

/** Sets a local and is its value. */
export interface Tee<Type extends ValueType = ValueType> {
  readonly kind: 'tee';
  readonly type: Type;
  readonly local: Local<Type>;
  readonly value: Operand;
}

export interface Call<Type extends ValueType = ValueType> {
  readonly kind: 'call';
  readonly type?: Type;
  readonly callee: FunctionReference;
  readonly operands: readonly Operand[];
}

/** A function of the module being built. */
export interface FunctionReference<
  Parameters extends readonly ValueType[] = readonly ValueType[],
  Result extends ValueType = ValueType,
> {
  readonly name: string;
  readonly index: number;
  readonly parameters: Parameters;
  readonly results: readonly Result[];
}

export type Value<Type extends ValueType = ValueType> =
  | Local<Type>
  | Instruction<Type>
  | Select<Type>
  | Tee<Type>
  | Call<Type>;

/** A value, or a number that becomes a constant of the operand's type. */
export type Operand<Type extends ValueType = ValueType> =
  | Value<Type>
  | (Type extends 'v128' ? never : Type extends 'i64' ? bigint : number);

type Operands<Types extends readonly ValueType[]> = { readonly [Index in keyof Types]: Operand<Types[Index]> };

type ImmediateArguments<Immediate extends string> = Immediate extends `memory ${number} lane`
  ? [lane: number, offset?: number]
  : Immediate extends `memory ${number}`
    ? [offset?: number]
    : Immediate extends 'lane'
      ? [lane: number]
      : Immediate extends 'shuffle'
        ? [lanes: readonly number[]]
        : Immediate extends 'i32' | 'f32' | 'f64'
          ? [value: number]
          : Immediate extends 'i64'
            ? [value: bigint]
            : Immediate extends 'v128'
              ? [bytes: Uint8Array]
              : [];

type Build<Name extends PlainName> = (
  ...inputs: [...Operands<OperandTypes<Name>>, ...ImmediateArguments<ImmediateOf<Name>>]
) => Instruction<ResultType<Name>>;

type Namespace = PlainName extends infer Name ? (Name extends `${infer Head}.${string}` ? Head : never) : never;

export type Instructions = {
  readonly [Space in Namespace]: {
    readonly [Name in PlainName as Name extends `${Space}.${infer Rest}` ? Rest : never]: Build<Name>;
  };
};

type Input = Operand | readonly number[] | Uint8Array | undefined;

const none: Immediates = {};
const number = (value: Input): number => (typeof value === 'number' ? value : 0);

/** Immediates from what stands behind the operands. */
function immediatesFrom(row: Opcode, first: Input, second: Input): Immediates {
  switch (row.immediate) {
    case 'lane':
      return { lane: number(first) };
    case 'shuffle':
      return { lanes: Array.isArray(first) ? (first as readonly number[]) : [] };
    case 'i32':
    case 'i64':
    case 'f32':
    case 'f64':
    case 'v128':
      return { constant: first as number | bigint | Uint8Array };
    default:
      if (row.width === 0) return none;
      return row.ofLane ? { lane: number(first), offset: number(second) } : { offset: number(first) };
  }
}

function builderOf(row: Opcode): (...inputs: Input[]) => Instruction {
  const arity = row.operands.length;
  const [type] = row.results;
  return (...inputs) => {
    const immediates = row.immediate === '' ? none : immediatesFrom(row, inputs[arity], inputs[arity + 1]);
    const operands = (inputs.length === arity ? inputs : inputs.slice(0, arity)) as Operand[];
    return type === undefined ? { kind: 'instruction', opcode: row, operands, immediates } : { kind: 'instruction', type, opcode: row, operands, immediates };
  };
}

function buildNamespaces(): Instructions {
  const spaces: Record<string, Record<string, (...inputs: Input[]) => Instruction>> = {};
  for (const row of opcodes.values()) {
    const dot = row.name.indexOf('.');
    if (row.contextual || dot < 0) continue;
    const space = (spaces[row.name.slice(0, dot)] ??= {});
    space[row.name.slice(dot + 1)] = builderOf(row);
  }
  return spaces as unknown as Instructions;
}

/**
 * One function per plain opcode: operands first, then immediates. `v128.load(pointer, 16)` has offset 16,
 * `f32x4.extract_lane(x, 2)` lane 2. Numbers are constants: `i32.add(row, 1)`.
 */
export const instructions: Instructions = buildNamespaces();

/** `condition ≠ 0 ? whenTrue : whenFalse`, without a branch. */
export function select<Type extends ValueType>(
  whenTrue: Value<Type>,
  whenFalse: Value<Type>,
  condition: Operand<'i32'>,
): Select<Type> {
  const type = whenTrue.type;
  if (type === undefined) throw new TypeError('select needs values; a store or a call without result is none');
  return { kind: 'select', type, whenTrue, whenFalse, condition };
}

export function tee<Type extends ValueType>(local: Local<Type>, value: Operand<Type>): Tee<Type> {
  return { kind: 'tee', type: local.type, local, value };
}

/** A call; its operands are checked against the callee when it is emitted. */
export function call<Parameters extends readonly ValueType[], Result extends ValueType>(
  callee: FunctionReference<Parameters, Result>,
  ...operands: { readonly [Index in keyof Parameters]: Operand<Parameters[Index]> }
): Call<Result> {
  const [type] = callee.results;
  return { kind: 'call', ...(type === undefined ? {} : { type }), callee, operands };
}

/** Four lanes of the same float32. */
export function constantF32x4(value: number): Instruction<'v128'> {
  return vectorConstant(new Uint8Array(new Float32Array(4).fill(value).buffer));
}

/** Four lanes of the same int32, given signed or unsigned. */
export function constantI32x4(value: number): Instruction<'v128'> {
  return vectorConstant(new Uint8Array(new Int32Array(4).fill(value).buffer));
}

/** Two lanes of the same float64. */
export function constantF64x2(value: number): Instruction<'v128'> {
  return vectorConstant(new Uint8Array(new Float64Array(2).fill(value).buffer));
}

/** Two lanes of the same int64. */
export function constantI64x2(value: bigint): Instruction<'v128'> {
  return vectorConstant(new Uint8Array(new BigInt64Array(2).fill(value).buffer));
}

/** Four int32 lanes. */
export function lanesI32x4(lanes: readonly [number, number, number, number]): Instruction<'v128'> {
  return vectorConstant(new Uint8Array(new Int32Array(lanes).buffer));
}

function vectorConstant(bytes: Uint8Array): Instruction<'v128'> {
  return { kind: 'instruction', type: 'v128', opcode: opcode('v128.const'), operands: [], immediates: { constant: bytes } };
}
