import { AttentionError, type AttentionKernel, type Tensor } from '@heed/core';
import type { Names } from '@heed/core/compute';
import type { CachedKeys, KeyValueCache } from '../caches/cache.ts';
import { checkPositions, forEach } from '../caches/rows.ts';
import type { Temporaries } from '../temporaries.ts';
import type { CallTables, Positions } from './attend.ts';

/** Rows k' of keys at these positions, which `rows` keeps; the keys themselves where the variant transforms none. */
export async function transformKeys(rows: Temporaries, kernel: AttentionKernel, key: Tensor, positions: Positions, { tables, uniforms }: CallTables): Promise<Tensor> {
  const { keyTransforms } = kernel.request.variant.scoring;
  if (keyTransforms.length === 0) return key;
  const read = new Set(keyTransforms.flatMap((transform) => Object.keys(transform.tables)));
  const needed = Object.fromEntries(Object.entries(tables ?? {}).filter(([name]) => read.has(name)));
  const [batch = 0] = key.shape;
  const place = 'dtype' in positions ? { keyPositions: positions } : { keyOffset: positions.length === batch ? positions : (positions[0] ?? 0) };
  const inputs = { key, ...place, tables: needed, ...(uniforms === undefined ? {} : { uniforms }) };
  return rows.keep(kernel.enqueueKeys?.(inputs) ?? (await kernel.transformKeys(inputs)));
}

/** Where the rows of a call stand, and what is before them. */
export interface SequenceOptions {
  /** The tokens before. What this call brings is appended to it. */
  readonly cache?: KeyValueCache | undefined;
  /** Position of the first row, for all sequences or for each: −p where p rows of padding stand on the left. Default: what follows the cache, else 0. */
  readonly position?: number | readonly number[] | undefined;
  /** Rows of each sequence of x that count; the rest is padding on the right. Default: all. */
  readonly lengths?: readonly number[] | undefined;
}

export const sequenceNames: Names<SequenceOptions> = { cache: true, position: true, lengths: true };

/**
 * Position of the first row of each sequence of x [batch, length, dim], all of whose rows the cache takes at once.
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `invalid-positions`
 */
export function firstPositions({ shape }: Tensor, { cache, position }: SequenceOptions): readonly number[] {
  const [batch = 0, length = 0] = shape;
  if (cache === undefined) return forEach(batch, position ?? 0, 'position');
  if (cache.batch !== batch) throw new AttentionError('invalid-shape', `x has batch ${batch}, the cache ${cache.batch}.`, 'Expected the same.');
  if (cache.chunk < length) throw new AttentionError('invalid-argument', `x has ${length} rows, and the cache takes ${cache.chunk} at once.`, 'Pass fewer rows in each call.');
  checkPositions(cache.nextPositions, position);
  return cache.nextPositions;
}

/** These rows with all that the cache holds, once they are appended to it; the rows alone where there is none. */
export function withCache(temporaries: Temporaries, { key, value }: Pick<CachedKeys, 'key' | 'value'>, positions: readonly number[], { cache, lengths }: SequenceOptions, ownValues: boolean = true): readonly CachedKeys[] {
  if (cache === undefined) return [{ key, value, keyOffset: positions, ...(lengths === undefined ? {} : { keyLengths: lengths }) }];
  cache.append({ key, lengths, ...(ownValues ? { value } : {}) });
  return cache.read(temporaries);
}
