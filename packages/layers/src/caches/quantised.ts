import { AttentionError, write, type Tensor } from '@heed/core';
import { overElements } from '../expressions.ts';
import type { Temporaries } from '../temporaries.ts';
import { withTemporariesNow } from '../temporaries.ts';
import type { CachedKeys, CacheRows, CacheShape, KeyValueCache } from './cache.ts';
import { ContiguousCache, type ContiguousCacheOptions } from './contiguous.ts';
import { checkRows } from './rows.ts';

export interface QuantisedCacheOptions extends Omit<ContiguousCacheOptions, 'dtype'> {
  /** Channels of a row that share a scale; divides keyDim and valueDim. Default: the whole row. */
  readonly block?: number;
}

/**
 * Keys and values as integers of 8 bits with a float32 scale for each block of channels of each row: x ≈ scale · code with scale = max|x| / 127, so each number is off by at most
 * half a scale. A row is quantised once, when it is appended.
 * Until a backend reads codes itself, `read` writes them out as float32, which costs a pass over all keys for each call.
 *
 * @throws AttentionError `invalid-argument`, `out-of-memory`
 */
export function createQuantisedCache(options: QuantisedCacheOptions): QuantisedCache {
  return new QuantisedCache(options);
}

/** See {@link createQuantisedCache}. */
export class QuantisedCache implements KeyValueCache {
  readonly runtime: CacheShape['runtime'];
  readonly batch: number;
  readonly chunk: number = Infinity;
  readonly #shape: CacheShape;
  readonly #codes: ContiguousCache;
  readonly #scales: ContiguousCache;
  readonly #keyBlock: number;
  readonly #valueBlock: number;

  /** @internal use {@link createQuantisedCache} */
  constructor({ block, ...options }: QuantisedCacheOptions) {
    const { runtime, keyDim, valueDim, valueStart } = options;
    this.runtime = runtime;
    this.batch = options.batch;
    this.#shape = { runtime, keyHeads: options.keyHeads, keyDim, valueDim, valueStart };
    this.#keyBlock = blockOf('keyDim', keyDim, block);
    this.#valueBlock = valueStart === undefined ? blockOf('valueDim', valueDim, block) : valueDim;
    this.#codes = new ContiguousCache({ ...options, dtype: 'i8' });
    this.#scales = new ContiguousCache({ ...options, keyDim: keyDim / this.#keyBlock, valueDim: valueDim / this.#valueBlock, valueStart: valueStart === undefined ? undefined : 0, dtype: 'f32' });
  }

  get lengths(): readonly number[] {
    return this.#codes.lengths;
  }

  get nextPositions(): readonly number[] {
    return this.#codes.nextPositions;
  }

  append(rows: CacheRows): void {
    const counts = checkRows({ ...this.#shape, batch: this.batch, nextPositions: this.nextPositions }, rows);
    const most = Math.max(0, ...this.lengths.map((length, sequence) => length + (counts[sequence] ?? 0)));
    this.#codes.reserve(most);
    this.#scales.reserve(most);
    const { lengths } = rows;
    withTemporariesNow(this.runtime, (temporaries) => {
      const key = quantise(temporaries, rows.key, this.#keyBlock);
      const value = rows.value === undefined ? undefined : quantise(temporaries, rows.value, this.#valueBlock);
      this.#codes.append({ key: key.codes, lengths, ...(value === undefined ? {} : { value: value.codes }) });
      this.#scales.append({ key: key.scales, lengths, ...(value === undefined ? {} : { value: value.scales }) });
    });
  }

  read(temporaries: Temporaries): readonly CachedKeys[] {
    const [codes] = this.#codes.read(temporaries);
    const [scales] = this.#scales.read(temporaries);
    if (codes === undefined || scales === undefined) return [];
    const rows = Math.max(0, ...this.lengths);
    const key = restore(temporaries, codes.key, scales.key, this.#keyBlock, rows);
    const { valueStart, valueDim } = this.#shape;
    const value = valueStart === undefined ? restore(temporaries, codes.value, scales.value, this.#valueBlock, rows) : this.runtime.view(key, [...key.shape.slice(0, 3), valueDim], key.strides, rows === 0 ? 0 : valueStart);
    return [{ ...codes, key, value }];
  }

  rollback(count: number | readonly number[]): void {
    this.#codes.rollback(count);
    this.#scales.rollback(count);
  }

  dispose(): void {
    this.#codes.dispose();
    this.#scales.dispose();
  }
}

function blockOf(name: string, dim: number, block: number = dim): number {
  if (!Number.isSafeInteger(block) || block < 1 || dim % block !== 0) throw new AttentionError('invalid-argument', `Blocks of ${block} channels, and ${name} is ${dim}.`, 'Expected a divisor of both dims.');
  return block;
}

const magnitude = overElements(['x'], ({ x }) => x.abs());
const toScale = overElements(['largest'], ({ largest }) => largest.div(127));
/** Rounded half away from zero once the fraction is cut off. */
const toCode = overElements(['x', 'scale'], ({ x, scale }) => {
  const code = scale.gt(0).select(x.div(scale), 0);
  return code.add(code.ge(0).select(0.5, -0.5));
});
const fromCode = write('finish', '', ({ table }) => table('code', [], 'i32').at().toF32().mul(table('scale', []).at())).expression;

/** Codes i8 of the shape of x [batch, heads, rows, dim], and scales f32 [batch, heads, rows, dim / block]. */
function quantise(temporaries: Temporaries, x: Tensor, block: number): { readonly codes: Tensor; readonly scales: Tensor } {
  const { runtime } = temporaries;
  const { operations } = runtime;
  const blocks = inBlocks(temporaries, x, block);
  const largest = temporaries.keep(operations.reduce(temporaries.keep(operations.elementwise(magnitude, { x: blocks })), 'max'));
  const scales = temporaries.keep(operations.elementwise(toScale, { largest }));
  const scaled = temporaries.keep(operations.elementwise(toCode, { x: blocks, scale: repeated(temporaries, scales, block) }));
  return { codes: runtime.view(temporaries.keep(operations.copy(scaled, { dtype: 'i8' })), x.shape), scales };
}

/** The first rows as float32. */
function restore(temporaries: Temporaries, codes: Tensor, scales: Tensor, block: number, rows: number): Tensor {
  const { runtime } = temporaries;
  const first = ({ shape, strides }: Tensor): readonly [readonly number[], readonly number[]] => [[shape[0] ?? 0, shape[1] ?? 0, rows, shape[3] ?? 0], strides];
  const [code, scale] = [runtime.view(codes, ...first(codes)), runtime.view(scales, ...first(scales))];
  const numbers = temporaries.keep(runtime.operations.elementwise(fromCode, { code: inBlocks(temporaries, code, block), scale: repeated(temporaries, scale, block) }));
  return runtime.view(numbers, code.shape);
}

/** [… , dim] as [… , dim / block, block]. */
function inBlocks({ runtime }: Temporaries, x: Tensor, block: number): Tensor {
  const dim = x.shape.at(-1) ?? 0;
  const step = x.strides.at(-1) ?? 1;
  return runtime.view(x, [...x.shape.slice(0, -1), dim / block, block], [...x.strides.slice(0, -1), block * step, step]);
}

/** Each number `count` times along a new last axis. */
function repeated({ runtime }: Temporaries, x: Tensor, count: number): Tensor {
  return runtime.view(x, [...x.shape, count], [...x.strides, 0]);
}
