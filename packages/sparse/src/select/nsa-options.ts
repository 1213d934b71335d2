import { AttentionError } from '@heed/core';

/** Sizes of native sparse attention; defaults are the paper's (Yuan 2025, section 4.1). */
export interface NsaOptions {
  /** Keys of a compression block, l. Default 32; a multiple of the stride. */
  readonly compressBlock?: number;
  /** Keys from one compression block to the next, d. Default 16. */
  readonly stride?: number;
  /** Keys of a selection block, l′. Default 64; a multiple of the stride. */
  readonly selectBlock?: number;
  /** Selection blocks of a query, n, the initial and local ones included. Default 16. */
  readonly count?: number;
  /** Blocks at the beginning that are always selected. Default 1. */
  readonly initial?: number;
  /** The query's own block and those before it that are always selected. Default 2. */
  readonly local?: number;
  /** Keys of the window branch, the query's own included. Default 512. */
  readonly window?: number;
}

export type NsaSizes = Required<NsaOptions>;

/** @throws AttentionError `invalid-argument` */
export function nsaSizes({ compressBlock = 32, stride = 16, selectBlock = 64, count = 16, initial = 1, local = 2, window = 512 }: NsaOptions): NsaSizes {
  for (const [name, size, least] of [['compressBlock', compressBlock, 1], ['stride', stride, 1], ['selectBlock', selectBlock, 1], ['count', count, 1], ['initial', initial, 0], ['local', local, 1], ['window', window, 1]] as const) {
    if (!Number.isSafeInteger(size) || size < least) throw new AttentionError('invalid-argument', `${name} is ${size}.`, `Expected an integer of ${least} or more.`);
  }
  if (compressBlock % stride !== 0 || selectBlock % stride !== 0) {
    throw new AttentionError('invalid-argument', `Got blocks of ${compressBlock} and ${selectBlock} keys for a stride of ${stride}.`, 'Expected multiples of the stride.');
  }
  if (initial + local > count) throw new AttentionError('invalid-argument', `${initial} initial and ${local} local blocks are more than ${count}.`, 'They are among those that are counted.');
  return { compressBlock, stride, selectBlock, count, initial, local, window };
}

/** Compression blocks of `length` keys: those that are whole. */
export function compressedLength(length: number, { compressBlock, stride }: Pick<NsaSizes, 'compressBlock' | 'stride'>): number {
  return length < compressBlock ? 0 : Math.floor((length - compressBlock) / stride) + 1;
}
