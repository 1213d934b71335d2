import { AttentionError, type DType } from '@heed/core';
import type { Builtin } from '../wgsl/builtins.ts';

/** How elements of a dtype lie in words. */
export interface StorageRow {
  /** Elements in a word of 32 bits. */
  readonly perWord: 1 | 2 | 4;
  readonly kind: 'float' | 'integer';
  readonly builtins: readonly Builtin[];
  /** One element as f32 or i32, from its word and its place in it. */
  readonly load: (word: string, lane: string) => string;
  /** One f32 (by its bits) or i32 as the low bits of a word. */
  readonly store: (value: string) => string;
}

/** How each dtype lies in words, one row each. */
const rows: Readonly<Record<Exclude<DType, 'f64'>, StorageRow>> = {
  f32: { perWord: 1, kind: 'float', builtins: [], load: (word) => `bitcast<f32>(${word})`, store: (value) => value },
  f16: { perWord: 2, kind: 'float', builtins: ['fromFloat16', 'toFloat16'], load: (word, lane) => `fromFloat16((${word} >> (16u * ${lane})) & 0xffffu)`, store: (value) => `toFloat16(${value})` },
  bf16: { perWord: 2, kind: 'float', builtins: ['fromBfloat16', 'toBfloat16'], load: (word, lane) => `fromBfloat16((${word} >> (16u * ${lane})) & 0xffffu)`, store: (value) => `toBfloat16(${value})` },
  i32: { perWord: 1, kind: 'integer', builtins: [], load: (word) => `bitcast<i32>(${word})`, store: (value) => `bitcast<u32>(${value})` },
  i8: { perWord: 4, kind: 'integer', builtins: [], load: (word, lane) => `extractBits(bitcast<i32>(${word}), 8u * ${lane}, 8u)`, store: (value) => `(bitcast<u32>(${value}) & 0xffu)` },
  u8: { perWord: 4, kind: 'integer', builtins: [], load: (word, lane) => `i32(extractBits(${word}, 8u * ${lane}, 8u))`, store: (value) => `(bitcast<u32>(${value}) & 0xffu)` },
};

/** @throws AttentionError `invalid-dtype` for f64, which shaders have not */
export function storageOf(dtype: DType): StorageRow {
  if (dtype === 'f64') throw new AttentionError('invalid-dtype', 'A tensor of this device is f64.', 'Shaders compute in f32: upload it as f32.');
  return rows[dtype];
}
