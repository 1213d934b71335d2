import type { AttentionKernel, Integers, Runtime, Tensor } from '@heed/core';
import type { CachedKeys } from '../caches/cache.ts';
import { Temporaries } from '../temporaries.ts';
import { transformKeys } from './keys.ts';
import { bringHere } from '../on-runtime.ts';

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

/** Annotations [batch, length, width] as the values of one head, with the keys that come of them. */
export async function rememberAnnotations(runtime: Runtime, kernel: AttentionKernel, annotations: Tensor, tables: Readonly<Record<string, Tensor>>, lengths: Integers | undefined): Promise<Memory> {
  const rows = new Temporaries(runtime);
  try {
    const here = bringHere(rows, annotations);
    // What lives here already is the caller's, who may release it before the memory ends.
    const own = here === annotations ? rows.keep(runtime.operations.copy(here)) : here;
    const [batch = 0, length = 0, width = 0] = own.shape;
    const value = runtime.view(own, [batch, 1, length, width]);
    return new Memory({ key: await transformKeys(rows, kernel, value, [0], { tables }), value, lengths }, rows);
  } catch (error) {
    rows.release();
    throw error;
  }
}
