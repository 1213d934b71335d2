/** One expression at every place of tensors of one shape. */
import { AttentionError, bytesPerElement, elementCount, print, walk, type DType, type Expression, type ScalarType, type Tensor } from '@heed/core';
import type { FunctionBuilder } from '../emit/function.ts';
import { loadFloats, storageBytes, storeFloat, storeFloats } from '../emit/half.ts';
import { Lowering } from '../emit/expression.ts';
import { constantF32x4, constantI32x4, instructions, type Local, type Value } from '../emit/instruction.ts';
import { checkShape, type Dense, type KernelBody, type OperationCall } from './context.ts';
import { floatBits, readWords } from './words.ts';

const { f32x4, i16x8, i32, i32x4, i8x16, v128 } = instructions;

export interface ElementwiseOptions {
  readonly uniforms?: Readonly<Record<string, number>>;
  readonly dtype?: DType;
}

/** Elements of one task: a multiple of 4, so that only the last one has a rest. */
const elementsPerTask = 16_384;

interface Table {
  readonly name: string;
  readonly dtype: DType;
  /** What the expression reads it as. */
  readonly type: ScalarType;
}

export function elementwise(call: OperationCall, expression: Expression, tensors: Readonly<Record<string, Tensor>>, { uniforms = {}, dtype }: ElementwiseOptions = {}): Tensor {
  const tables = checkReads(expression, tensors, uniforms);
  const sources = Object.values(tensors);
  const [firstTensor] = sources;
  if (firstTensor === undefined) throw new AttentionError('invalid-argument', 'elementwise got no tensors.', 'Pass at least one: it gives the shape.');
  for (const [name, tensor] of Object.entries(tensors)) checkShape(`elementwise’s '${name}'`, tensor.shape, firstTensor.shape);
  const { shape } = firstTensor;
  const natural: DType = expression.type === 'bool' ? 'u8' : expression.type === 'i32' ? 'i32' : (sources.find(({ dtype: own }) => isFloat(own))?.dtype ?? 'f32');
  const stored = checkStored(dtype ?? natural, expression.type);
  const dense: readonly Dense[] = tables.map(({ name }) => call.dense(tensors[name] ?? firstTensor));
  const out = call.runtime.tensor(shape, stored);
  const total = elementCount(shape);
  const names = Object.keys(uniforms);
  const types = new Map([...walk(expression)].flatMap((node) => (node.kind === 'uniform' ? [[node.name, node.type] as const] : [])));
  call.run({
    key: `elementwise ${stored} ${tables.map(({ name, dtype: own }) => `${name}:${own}`).join(' ')} ${names.join(' ')} ${JSON.stringify(expression)}`,
    kernels: { elementwise: kernel(expression, tables, names, stored, call.runtime.machine.fused) },
    phases: [
      {
        kernel: 'elementwise',
        tasks: Math.ceil(total / elementsPerTask),
        words: [
          call.runtime.addressOf(out),
          total,
          ...dense.map(({ address }) => address),
          ...names.map((name) => (types.get(name) === 'i32' ? (uniforms[name] ?? 0) : floatBits(uniforms[name] ?? 0))),
        ],
      },
    ],
    reads: dense,
    writes: [out],
    microseconds: (total * [...walk(expression)].length) / 2000,
  });
  return out;
}

function kernel(expression: Expression, tables: readonly Table[], uniforms: readonly string[], stored: DType, fused: boolean): KernelBody {
  return (f, { task, words }) => {
    const { out, total } = readWords(f, words, ['out', 'total']);
    const addresses = new Map(tables.map(({ name }, index) => [name, f.let(name, i32.load(words, 8 + index * 4))]));
    const values = new Map(uniforms.map((name, index) => [name, f.let(name, v128.load32_splat(words, 8 + (tables.length + index) * 4))]));
    const index = f.let('index', i32.mul(task, elementsPerTask));
    const end = f.let('end', i32.add(index, elementsPerTask));
    f.if(i32.gt_s(end, total), () => {
      f.set(end, total);
    });
    const lowering = new Lowering({
      f,
      fused,
      environment: {
        // Tables and uniforms are all there is: checkReads refuses the others.
        input: () => constantF32x4(Number.NaN),
        queryTable: () => constantF32x4(Number.NaN),
        random: () => constantF32x4(Number.NaN),
        uniform: (name) => values.get(name) ?? constantF32x4(Number.NaN),
        table: ({ name }) => {
          const address = addresses.get(name);
          const table = tables.find((one) => one.name === name);
          if (address === undefined || table === undefined) throw new RangeError(`table '${name}' has no address`);
          return loadTable(f, table, address, index);
        },
      },
    });
    const value = f.local('result', 'v128');
    f.while('fours', () => i32.le_s(i32.add(index, 4), end), () => {
      lowering.begin();
      f.set(value, lowering.lower(expression));
      storeFour(f, stored, expression.type, out, index, value);
      f.set(index, i32.add(index, 4));
    });
    // The rest is computed as four, which reads past the end: blocks are padded to whole vectors, and the last page of memory is never used.
    f.if(i32.lt_s(index, end), () => {
      lowering.begin();
      f.set(value, lowering.lower(expression));
      f.while('rest', () => i32.lt_s(index, end), () => {
        storeOne(f, stored, expression.type, out, index, value);
        f.set(value, i8x16.shuffle(value, value, [4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3]));
        f.set(index, i32.add(index, 1));
      });
    });
  };
}

const isFloat = (dtype: DType): dtype is 'f32' | 'f16' | 'bf16' => dtype === 'f32' || dtype === 'f16' || dtype === 'bf16';

/** Four elements, as what the expression reads them. */
function loadTable(f: FunctionBuilder, { dtype, type }: Table, address: Local<'i32'>, index: Local<'i32'>): Value<'v128'> {
  if (isFloat(dtype)) return loadFloats(f, dtype, i32.add(address, i32.mul(index, storageBytes[dtype])));
  const at = i32.add(address, i32.mul(index, bytesPerElement[dtype]));
  if (dtype === 'i32') return v128.load(at);
  const bytes = v128.load32_zero(at);
  const words = dtype === 'i8' ? i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(bytes)) : i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(bytes));
  return type === 'bool' ? i32x4.ne(words, constantI32x4(0)) : words;
}

/** Numbers as the dtype stores them, in the low bits of each lane. */
function storedLanes(stored: DType, type: ScalarType, value: Local<'v128'>): Value<'v128'> {
  if (type === 'bool') return v128.and(value, isFloat(stored) ? constantF32x4(1) : constantI32x4(1));
  return type === 'i32' && isFloat(stored) ? f32x4.convert_i32x4_s(value) : value;
}

function storeFour(f: FunctionBuilder, stored: DType, type: ScalarType, out: Local<'i32'>, index: Local<'i32'>, value: Local<'v128'>): void {
  const at = f.let('to', i32.add(out, i32.mul(index, bytesPerElement[stored])));
  const lanes = f.let('stored', storedLanes(stored, type, value));
  if (isFloat(stored)) storeFloats(f, stored, at, lanes);
  else if (stored === 'i32') f.do(v128.store(at, lanes));
  else f.do(v128.store32_lane(at, i8x16.shuffle(lanes, lanes, [0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0));
}

function storeOne(f: FunctionBuilder, stored: DType, type: ScalarType, out: Local<'i32'>, index: Local<'i32'>, value: Local<'v128'>): void {
  const at = f.let('to', i32.add(out, i32.mul(index, bytesPerElement[stored])));
  const lanes = f.let('stored', storedLanes(stored, type, value));
  if (isFloat(stored)) storeFloat(f, stored, at, lanes);
  else if (stored === 'i32') f.do(v128.store32_lane(at, lanes, 0));
  else f.do(v128.store8_lane(at, lanes, 0));
}

function checkStored(dtype: DType, type: ScalarType): DType {
  const fits = type === 'f32' ? isFloat(dtype) : dtype !== 'f64';
  if (!fits) throw new AttentionError('invalid-dtype', `elementwise cannot store ${type} as ${dtype}.`, 'Choose a float of 32 or 16 bits for f32; convert with copy.');
  return dtype;
}

function checkReads(expression: Expression, tensors: Readonly<Record<string, Tensor>>, uniforms: Readonly<Record<string, number>>): readonly Table[] {
  const tables = new Map<string, Table>();
  const uniformsRead = new Set<string>();
  for (const node of walk(expression)) {
    if (node.kind === 'input' || node.kind === 'queryTable' || node.kind === 'random') {
      throw new AttentionError('invalid-expression', `elementwise got ${print(expression)}, and ${print(node)} has no meaning there.`, 'Read tables and uniforms only.');
    }
    if (node.kind === 'uniform') {
      const value: unknown = Object.hasOwn(uniforms, node.name) ? uniforms[node.name] : undefined;
      if (typeof value !== 'number' || Number.isNaN(value)) {
        throw new AttentionError('invalid-uniform', `elementwise reads uniform '${node.name}', which is not given a number.`, 'Pass it in `uniforms`.');
      }
      uniformsRead.add(node.name);
    }
    if (node.kind !== 'table') continue;
    const tensor = Object.hasOwn(tensors, node.name) ? tensors[node.name] : undefined;
    if (tensor === undefined) throw new AttentionError('missing-table', `elementwise reads table '${node.name}', which is not given.`, 'Pass a tensor of that name.');
    const fits = node.type === 'f32' ? isFloat(tensor.dtype) : node.type === 'bool' ? tensor.dtype === 'u8' : tensor.dtype === 'i32' || tensor.dtype === 'i8' || tensor.dtype === 'u8';
    if (!fits) throw new AttentionError('invalid-dtype', `elementwise reads '${node.name}' as ${node.type}, and it is ${tensor.dtype}.`, 'Convert it with copy(x, { dtype }).');
    tables.set(node.name, { name: node.name, dtype: tensor.dtype, type: node.type });
  }
  for (const name of Object.keys(tensors)) {
    if (!tables.has(name)) throw new AttentionError('unknown-table', `elementwise got a tensor '${name}', which the expression does not read.`, 'Leave it out.');
  }
  for (const name of Object.keys(uniforms)) {
    if (!uniformsRead.has(name)) throw new AttentionError('unknown-uniform', `elementwise got uniform '${name}', which the expression does not read.`, 'Leave it out.');
  }
  return [...tables.values()];
}
