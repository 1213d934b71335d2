import { AttentionError } from '@heed/core';
import type { Temporaries } from '../temporaries.ts';
import type { CachedKeys, CacheRows, KeyValueCache } from './cache.ts';

export interface PrefixedCacheOptions {
  /** Tokens that all sequences begin with: a cache of batch 1 that is not appended to any more. Others may use it too; it is not disposed of with this one. */
  readonly prefix: KeyValueCache;
  /** What comes after it, for each sequence: an empty cache whose first position is the prefix's next one. */
  readonly suffix: KeyValueCache;
}

/**
 * One prefix before many sequences (cascade: Juravsky 2024; Ye 2024). A call reads the prefix once for all queries of the batch, each suffix for its own, and merges the two
 * partial results. Variants that do not merge (L13) are refused by the kernel with `merge-refused`; those that read `keyLength` see the lengths of the sets.
 *
 *     const cache = createPrefixedCache({ prefix, suffix: createContiguousCache({ ...layer.cacheShape, batch: 8, firstPosition: prefix.nextPositions[0] }) });
 *
 * @throws AttentionError `invalid-argument`, `invalid-positions`
 */
export function createPrefixedCache({ prefix, suffix }: PrefixedCacheOptions): PrefixedCache {
  if (prefix.batch !== 1) throw new AttentionError('invalid-argument', `The prefix has batch ${prefix.batch}.`, 'Expected 1: all sequences share it.');
  if (prefix.runtime !== suffix.runtime) throw new AttentionError('foreign-tensor', 'Prefix and suffix live on different runtimes.', 'Make both on one.');
  const [next = 0] = prefix.nextPositions;
  suffix.nextPositions.forEach((position, sequence) => {
    const first = position - (suffix.lengths[sequence] ?? 0);
    if (first !== next) throw new AttentionError('invalid-positions', `Sequence ${sequence} starts at position ${first}, and the prefix ends before ${next}.`, `Make the suffix with firstPosition: ${next}.`);
  });
  return new PrefixedCache(prefix, suffix);
}

/** See {@link createPrefixedCache}. */
export class PrefixedCache implements KeyValueCache {
  readonly runtime: KeyValueCache['runtime'];
  readonly chunk: number;
  readonly #prefix: KeyValueCache;
  readonly #suffix: KeyValueCache;

  /** @internal use {@link createPrefixedCache} */
  constructor(prefix: KeyValueCache, suffix: KeyValueCache) {
    this.runtime = suffix.runtime;
    this.chunk = suffix.chunk;
    this.#prefix = prefix;
    this.#suffix = suffix;
  }

  get batch(): number {
    return this.#suffix.batch;
  }

  /** Tokens of prefix and suffix together. */
  get lengths(): readonly number[] {
    const [shared = 0] = this.#prefix.lengths;
    return this.#suffix.lengths.map((length) => shared + length);
  }

  get nextPositions(): readonly number[] {
    return this.#suffix.nextPositions;
  }

  append(rows: CacheRows): void {
    this.#suffix.append(rows);
  }

  read(temporaries: Temporaries): readonly CachedKeys[] {
    return [...this.#prefix.read(temporaries).map((keys) => ({ ...keys, shared: true })), ...this.#suffix.read(temporaries)];
  }

  /** Forgets tokens of the suffixes; the prefix stays. */
  rollback(count: number | readonly number[]): void {
    this.#suffix.rollback(count);
  }

  /** Disposes of the suffix; the prefix stays. */
  dispose(): void {
    this.#suffix.dispose();
  }
}
