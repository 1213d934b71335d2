import type { AttentionInputs, DType, Integers, Runtime, Tensor } from '@heed/core';
import type { Temporaries } from '../temporaries.ts';

/**
 * Keys and values of the tokens so far, of one attention layer. Keys are held as the layer's scoring combines them: projected, normed and rotated once.
 * Positions of a sequence follow one another without gaps. What is refused changes nothing.
 */
export interface KeyValueCache {
  readonly runtime: Runtime;
  /** Sequences. */
  readonly batch: number;
  /** Tokens held by each sequence, or seen and let go. */
  readonly lengths: readonly number[];
  /** Position that the next token of each sequence takes. */
  readonly nextPositions: readonly number[];
  /** Most rows that one append takes; a layer appends more in pieces, and attends in between. `Infinity` unless the cache forgets. */
  readonly chunk: number;
  /**
   * Appends rows after those held.
   * @throws AttentionError `invalid-shape`, `invalid-dtype`, `invalid-lengths`, `invalid-positions` (a position that is held already, or a gap), `cache-full`
   */
  append(rows: CacheRows): void;
  /** What a kernel binds to see everything held: one set of keys, or several disjoint ones whose partial results are merged. Good until the next change of the cache. */
  read(temporaries: Temporaries): readonly CachedKeys[];
  /**
   * Forgets the last tokens of every sequence, or of each.
   * @throws AttentionError `invalid-argument` for more than are held
   */
  rollback(count: number | readonly number[]): void;
  dispose(): void;
}

/** Rows to append. */
export interface CacheRows {
  /** [batch, keyHeads, length, keyDim], transformed. */
  readonly key: Tensor;
  /** [batch, keyHeads, length, valueDim]; left out where values are channels of the keys. */
  readonly value?: Tensor;
  /** Rows of each sequence that count; the rest is padding on the right. Default: all. */
  readonly lengths?: Integers | undefined;
  /** Position of the first row. The cache takes the one that comes next and no other; default that one. */
  readonly position?: number | readonly number[] | undefined;
}

/** Part of a call's inputs. */
export interface CachedKeys extends Pick<AttentionInputs, 'keyOffset' | 'keyPositions' | 'keyLengths' | 'totalKeyLengths'> {
  /** [batch, keyHeads, rows, keyDim] */
  readonly key: Tensor;
  /** [batch, keyHeads, rows, valueDim] */
  readonly value: Tensor;
  /** Batch 1 of keys that every sequence sees. Default false. */
  readonly shared?: boolean;
}

/** What every cache is made for. A layer's `cacheShape` has all but the batch. */
export interface CacheShape {
  readonly runtime: Runtime;
  readonly keyHeads: number;
  /** Width of a transformed key row. */
  readonly keyDim: number;
  readonly valueDim: number;
  /** Storage type. Default f32. */
  readonly dtype?: DType;
  /** Values are the channels of the key rows from here on, and are not held twice (MLA). Default: they are rows of their own. */
  readonly valueStart?: number | undefined;
}
