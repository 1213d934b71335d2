import type { AttentionInputs, AttentionVariant, DType, HostTensor, Layout } from '@heed/core';
import { alibiSlopes, elementCount, encode, layoutStrides, tensor } from '@heed/core';
import type { RandomSource } from './random.ts';

/** Sizes of one attention call. */
export interface Shape {
  readonly batch: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly queryLength: number;
  readonly keyLength: number;
  readonly queryDim: number;
  readonly keyDim: number;
  readonly valueDim: number;
}

/** A small shape with every size different where it may be, so that a mistaken axis shows. */
export const smallShape: Shape = { batch: 2, heads: 4, keyHeads: 2, queryLength: 5, keyLength: 7, queryDim: 8, keyDim: 8, valueDim: 6 };

/** What query, key and value are drawn from. */
export const distributions = {
  normal: 'N(0, 1)',
  nearDuplicateKeys: 'keys that differ from the first by 10⁻⁴ · N(0, 1)',
  dominantScore: 'one key of each row of keys is 20 times as long',
  equalScores: 'all keys of a head are the same row',
  hugeScores: 'rows such that scores reach ±10⁴',
  denormals: 'query, key and value near 10⁻³⁹, below the normal float32 range',
} as const;

export type Distribution = keyof typeof distributions;

export interface DrawOptions {
  /** Storage type of query, key and value. Default f32. */
  readonly dtype?: DType;
  /** Default 'bhld'. */
  readonly layout?: Layout;
  /** Default 'normal'. */
  readonly distribution?: Distribution;
}

/** Query, key and value of a shape, rounded to their storage type. */
export function drawInputs(random: RandomSource, shape: Shape, options: DrawOptions = {}): Pick<AttentionInputs, 'query' | 'key' | 'value'> & { query: HostTensor; key: HostTensor; value: HostTensor } {
  const { dtype = 'f32', layout = 'bhld', distribution = 'normal' } = options;
  const query = normals(random, [shape.batch, shape.heads, shape.queryLength, shape.queryDim]);
  const key = normals(random, [shape.batch, shape.keyHeads, shape.keyLength, shape.keyDim]);
  const value = normals(random, [shape.batch, shape.keyHeads, shape.keyLength, shape.valueDim]);
  reshapeDistribution(distribution, shape, query, key, value, random);
  return {
    query: placed(query, [shape.batch, shape.heads, shape.queryLength, shape.queryDim], dtype, layout),
    key: placed(key, [shape.batch, shape.keyHeads, shape.keyLength, shape.keyDim], dtype, layout),
    value: placed(value, [shape.batch, shape.keyHeads, shape.keyLength, shape.valueDim], dtype, layout),
  };
}

function reshapeDistribution(distribution: Distribution, shape: Shape, query: Float64Array, key: Float64Array, value: Float64Array, random: RandomSource): void {
  const { keyLength, keyDim } = shape;
  const rowsOfHead = keyLength * keyDim;
  switch (distribution) {
    case 'normal':
      return;
    case 'nearDuplicateKeys':
    case 'equalScores':
      for (let index = 0; index < key.length; index++) {
        const first = key[Math.floor(index / rowsOfHead) * rowsOfHead + (index % keyDim)] ?? 0;
        key[index] = first + (distribution === 'equalScores' || index % rowsOfHead < keyDim ? 0 : 1e-4 * (key[index] ?? 0));
      }
      return;
    case 'dominantScore':
      for (let start = 0; start < key.length; start += rowsOfHead) {
        const row = start + random.integer(keyLength) * keyDim;
        for (let channel = 0; channel < keyDim; channel++) key[row + channel] = 20 * (key[row + channel] ?? 0);
      }
      return;
    case 'hugeScores': {
      // A scaled score of N(0, 1) rows is about N(0, 1); this factor on both sides makes it 2500 · N(0, 1), which reaches 10⁴ among a few thousand.
      const factor = 50;
      for (let index = 0; index < query.length; index++) query[index] = factor * (query[index] ?? 0);
      for (let index = 0; index < key.length; index++) key[index] = factor * (key[index] ?? 0);
      return;
    }
    case 'denormals':
      for (const array of [query, key, value]) for (let index = 0; index < array.length; index++) array[index] = 1e-39 * (array[index] ?? 0);
  }
}

/** N(0, 1) numbers of a shape. */
export function normals(random: RandomSource, shape: readonly number[]): Float64Array {
  return Float64Array.from({ length: elementCount(shape) }, () => random.normal());
}

/** Values given in [batch, heads, length, dim] order as a host tensor in a storage type and layout. */
export function placed(values: ArrayLike<number>, shape: readonly number[], dtype: DType = 'f32', layout: Layout = 'bhld'): HostTensor {
  if (layout === 'bhld') return tensor(encode(values, dtype), shape, { dtype });
  const strides = layoutStrides(shape, layout);
  const [, heads = 1, length = 1, dim = 1] = shape;
  const moved = new Float64Array(values.length);
  for (let index = 0; index < values.length; index++) {
    const channel = index % dim;
    const row = Math.floor(index / dim) % length;
    const head = Math.floor(index / (dim * length)) % heads;
    const batch = Math.floor(index / (dim * length * heads));
    moved[batch * (strides[0] ?? 0) + head * (strides[1] ?? 0) + row * (strides[2] ?? 0) + channel * (strides[3] ?? 0)] = values[index] ?? 0;
  }
  return tensor(encode(moved, dtype), shape, { dtype, layout });
}

/** f32 N(0, 1) tensor of a shape. */
export function normalTensor(random: RandomSource, shape: readonly number[], dtype: DType = 'f32'): HostTensor {
  return tensor(encode(normals(random, shape), dtype), shape, { dtype });
}

/** A host tensor of whole numbers. */
export function integerTensor(values: ArrayLike<number>, shape: readonly number[], dtype: 'i32' | 'u8' | 'i8' = 'i32'): HostTensor {
  return tensor(encode(values, dtype), shape, { dtype });
}

/** Fills one table, given its sizes, where a draw from N(0, 1) would make no sense. */
export type TableFill = (random: RandomSource, sizes: readonly number[], shape: Shape) => ArrayLike<number>;

export interface TableOptions {
  /** Width of the combined rows; default queryDim. */
  readonly scoreDim?: number;
  /** Sizes of free axes; default 3. */
  readonly axes?: Readonly<Record<string, number>>;
  /** Other than N(0, 1) (0 or 1 with equal chances for bool; 0 … 2 for i32). `slopes` are ALiBi's unless given. */
  readonly fill?: Readonly<Record<string, TableFill>>;
}

/** Every table that a variant declares, in the sizes of the call. */
export function drawTables(random: RandomSource, variant: AttentionVariant, shape: Shape, options: TableOptions = {}): Readonly<Record<string, HostTensor>> {
  const sizesByAxis: Readonly<Record<string, number>> = {
    batch: shape.batch,
    head: shape.heads,
    keyHead: shape.keyHeads,
    queryLength: shape.queryLength,
    keyLength: shape.keyLength,
    queryDim: shape.queryDim,
    keyDim: shape.keyDim,
    valueDim: shape.valueDim,
    scoreDim: options.scoreDim ?? shape.queryDim,
    ...options.axes,
  };
  return Object.fromEntries(
    Object.entries(variant.tables).map(([name, declaration]) => {
      const sizes = declaration.axes.map((axis) => (typeof axis === 'number' ? axis : (sizesByAxis[axis] ?? 3)));
      const count = elementCount(sizes);
      const fill = options.fill?.[name] ?? (name === 'slopes' ? (): ArrayLike<number> => alibiSlopes(shape.heads) : undefined);
      const values = fill?.(random, sizes, shape) ?? drawTable(random, declaration.type, count);
      const dtype = declaration.type === 'f32' ? 'f32' : declaration.type === 'i32' ? 'i32' : 'u8';
      return [name, tensor(encode(values, dtype), sizes, { dtype })];
    }),
  );
}

function drawTable(random: RandomSource, type: 'f32' | 'i32' | 'bool', count: number): ArrayLike<number> {
  return Array.from({ length: count }, () => (type === 'f32' ? random.normal() : random.integer(type === 'i32' ? 3 : 2)));
}
