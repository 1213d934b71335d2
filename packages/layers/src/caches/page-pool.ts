import { AttentionError, contiguousStrides, type Runtime, type Tensor } from '@heed/core';
import { checkCount } from '../parameters.ts';
import type { CacheShape } from './cache.ts';

export interface PagePoolOptions extends CacheShape {
  /** Pages of the pool; its memory is taken at once. */
  readonly pages: number;
  /** Tokens of a page. Default 16. */
  readonly pageLength?: number;
}

/**
 * Memory for the keys and values of many sequences of one layer, in pages that are handed out and taken back (Kwon 2023).
 * @throws AttentionError `invalid-argument`, `out-of-memory`
 */
export function createPagePool(options: PagePoolOptions): PagePool {
  return new PagePool(options);
}

/** Where rows of a page lie: one of the pool's tensors seen as rows of one page. */
export interface PageRows {
  readonly page: number;
  readonly row: number;
  readonly count: number;
}

/** See {@link createPagePool}. */
export class PagePool {
  readonly runtime: Runtime;
  readonly shape: CacheShape;
  readonly pages: number;
  readonly pageLength: number;
  /** [pages, keyHeads, pageLength, keyDim], a view: the rows of one token lie side by side, so that a page is one run of memory. */
  readonly key: Tensor;
  /** [pages, keyHeads, pageLength, valueDim] */
  readonly value: Tensor;
  readonly #owned: readonly Tensor[];
  /** How many block tables name each page. */
  readonly #users: Int32Array;
  /** Free pages, the next to be handed out last. */
  readonly #free: number[];

  /** @internal use {@link createPagePool} */
  constructor({ pages, pageLength = 16, ...shape }: PagePoolOptions) {
    const { runtime, keyHeads, keyDim, valueDim, dtype = 'f32', valueStart } = shape;
    this.runtime = runtime;
    this.shape = shape;
    this.pages = checkCount('pages', pages, 0);
    this.pageLength = checkCount('pageLength', pageLength, 1);
    const memory = (dim: number): Tensor => runtime.tensor([pages, pageLength, keyHeads, dim], dtype);
    const seen = (tensor: Tensor, width: number, dim: number, start: number = 0): Tensor =>
      runtime.view(tensor, [pages, keyHeads, pageLength, dim], [pageLength * keyHeads * width, width, keyHeads * width, 1], pages === 0 ? 0 : start);
    const key = memory(keyDim);
    this.key = seen(key, keyDim, keyDim);
    if (valueStart === undefined) {
      const value = memory(valueDim);
      this.value = seen(value, valueDim, valueDim);
      this.#owned = [key, value];
    } else {
      this.value = seen(key, keyDim, valueDim, valueStart);
      this.#owned = [key];
    }
    this.#users = new Int32Array(pages);
    this.#free = Array.from({ length: pages }, (_, index) => pages - 1 - index);
  }

  /** Pages that nobody uses. */
  get freePages(): number {
    return this.#free.length;
  }

  /** How many block tables name a page. */
  usersOf(page: number): number {
    return this.#users[page] ?? 0;
  }

  /** @throws AttentionError `cache-full` */
  take(): number {
    const page = this.#free.pop();
    if (page === undefined) throw new AttentionError('cache-full', `All ${this.pages} pages of the pool are in use.`, 'Dispose of caches, pop sequences, or make a larger pool.');
    this.#users[page] = 1;
    return page;
  }

  /**
   * Takes certain pages, as for a block table that was kept.
   * @throws AttentionError `invalid-pages` naming one that the pool lacks, that is named twice, or that is in use; nothing is taken then
   */
  claim(pages: readonly number[]): void {
    const seen = new Set<number>();
    for (const page of pages) {
      if (!Number.isSafeInteger(page) || page < 0 || page >= this.pages) throw new AttentionError('invalid-pages', `The table names page ${page}.`, `The pool has pages 0 to ${this.pages - 1}.`);
      if (seen.has(page)) throw new AttentionError('invalid-pages', `The table names page ${page} twice.`, 'Name each page once; fork() shares pages.');
      if (this.usersOf(page) > 0) throw new AttentionError('invalid-pages', `The table names page ${page}, which is in use.`, 'Name free pages; fork() shares pages.');
      seen.add(page);
    }
    const rest = this.#free.filter((page) => !seen.has(page));
    this.#free.splice(0, this.#free.length, ...rest);
    for (const page of pages) this.#users[page] = 1;
  }

  /** One more block table names the page. */
  share(page: number): void {
    this.#users[page] = this.usersOf(page) + 1;
  }

  /** One block table fewer names the page; without any it is free. */
  give(page: number): void {
    const users = this.usersOf(page) - 1;
    this.#users[page] = users;
    if (users === 0) this.#free.push(page);
  }

  /** Copies rows of keys and values [batch, keyHeads, length, dim] to a page. */
  write(key: Tensor, value: Tensor | undefined, entry: number, first: number, to: PageRows): void {
    this.#copy(key, entry, first, this.key, to);
    if (value !== undefined && this.shape.valueStart === undefined) this.#copy(value, entry, first, this.value, to);
  }

  /** Copies the first rows of a page to another. */
  copyPage(from: number, to: number, count: number): void {
    this.write(this.key, this.value, from, 0, { page: to, row: 0, count });
  }

  /**
   * The pages of several block tables one after another: [tables, keyHeads, rows, dim] each of keys and values, in new tensors of which the second is null where values are
   * channels of the keys.
   */
  gather(indices: Tensor, tables: number): { readonly key: Tensor; readonly value: Tensor; readonly owned: readonly Tensor[] } {
    const { runtime, pageLength } = this;
    const { keyHeads, keyDim, valueDim, valueStart } = this.shape;
    const rows = ((indices.shape[0] ?? 0) / Math.max(1, tables)) * pageLength;
    const owned = this.#owned.map((memory) => runtime.operations.gather(runtime.view(memory, [this.pages, (contiguousStrides(memory.shape)[0] ?? 0)]), indices));
    const seen = (memory: Tensor, width: number, dim: number, start: number = 0): Tensor =>
      runtime.view(memory, [tables, keyHeads, rows, dim], [rows * keyHeads * width, width, keyHeads * width, 1], rows === 0 ? 0 : start);
    const [keys, values] = owned;
    if (keys === undefined) throw new AttentionError('internal', 'A page pool has no memory.', 'Please report it.');
    return { key: seen(keys, keyDim, keyDim), value: values === undefined ? seen(keys, keyDim, valueDim, valueStart) : seen(values, valueDim, valueDim), owned };
  }

  /** Ends every cache of the pool. */
  dispose(): void {
    for (const memory of this.#owned) this.runtime.release(memory);
  }

  #copy(source: Tensor, entry: number, first: number, target: Tensor, { page, row, count }: PageRows): void {
    const { runtime } = this;
    const [, heads = 0, , dim = 0] = source.shape;
    const part = (tensor: Tensor, at: number, from: number): Tensor => runtime.view(tensor, [1, heads, count, dim], tensor.strides, at * (tensor.strides[0] ?? 0) + from * (tensor.strides[2] ?? 0));
    runtime.operations.copy(part(source, entry, first), { into: part(target, page, row) });
  }
}
