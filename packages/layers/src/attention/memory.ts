import type { Integers, Tensor } from '@heed/core';
import type { CachedKeys } from '../caches/cache.ts';
import type { Temporaries } from '../temporaries.ts';

/** Keys and values of a context, projected and transformed once, for any number of calls. Dispose of it when the last is made. */
export class Memory {
  /** [batch, keyHeads, length, keyDim] */
  readonly key: Tensor;
  /** [batch, keyHeads, length, valueDim] */
  readonly value: Tensor;
  /** Rows of each sequence that count. */
  readonly lengths: Integers | undefined;
  readonly #rows: Temporaries;

  /** @internal layers make these: `layer.remember(context)` */
  constructor({ key, value, lengths }: { readonly key: Tensor; readonly value: Tensor; readonly lengths?: Integers | undefined }, rows: Temporaries) {
    this.key = key;
    this.value = value;
    this.lengths = lengths;
    this.#rows = rows;
  }

  /** As a kernel binds it. */
  read(): CachedKeys {
    return { key: this.key, value: this.value, ...(this.lengths === undefined ? {} : { keyLengths: this.lengths }) };
  }

  dispose(): void {
    this.#rows.release();
  }
}
