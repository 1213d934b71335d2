import { AttentionError, tensor } from '@heed/core';
import { checkCount } from '../parameters.ts';
import type { Temporaries } from '../temporaries.ts';
import type { CachedKeys, CacheRows, KeyValueCache } from './cache.ts';
import type { PagePool } from './page-pool.ts';
import { checkRollback, checkRows, forEach } from './rows.ts';

export interface PagedCacheOptions {
  readonly pool: PagePool;
  /** Sequences. Default: as many as `tables` has, else 1. */
  readonly batch?: number;
  /** Pages of each sequence, in order, that hold its tokens already. Default: none. */
  readonly tables?: readonly (readonly number[])[];
  /** Tokens that stand in those pages. Required with `tables`. */
  readonly lengths?: readonly number[];
  /** Position of the first token. Default 0. */
  readonly firstPosition?: number | readonly number[];
}

/**
 * Sequences whose keys and values stand in pages of a pool, found by a block table each. Forks share pages until one of them writes.
 * Until a backend reads pages itself, `read` gathers them to one tensor, which costs a copy of all keys for each call.
 *
 * @throws AttentionError `invalid-argument`, `invalid-lengths`, `invalid-pages`
 */
export function createPagedCache({ pool, tables, lengths, firstPosition = 0, batch = tables?.length ?? 1 }: PagedCacheOptions): PagedCache {
  const given = tables ?? Array.from({ length: checkCount('batch', batch, 0) }, () => []);
  const tokens = lengths ?? given.map(() => 0);
  if (given.length !== batch || tokens.length !== batch) throw new AttentionError('invalid-lengths', `Got ${given.length} tables and ${tokens.length} lengths for ${batch} sequences.`, 'Pass one of each for a sequence.');
  tokens.forEach((length, sequence) => {
    const needed = pagesFor(checkCount(`lengths[${sequence}]`, length, 0), pool.pageLength);
    const found = given[sequence]?.length ?? 0;
    if (found !== needed) throw new AttentionError('invalid-pages', `Sequence ${sequence} has ${found} pages for ${length} tokens.`, `Expected ${needed} of ${pool.pageLength} tokens each.`);
  });
  const positions = forEach(batch, firstPosition, 'firstPosition');
  pool.claim(given.flat());
  return new PagedCache(pool, given.map((table, sequence) => ({ pages: [...table], length: tokens[sequence] ?? 0, firstPosition: positions[sequence] ?? 0 })));
}

interface Sequence {
  readonly pages: readonly number[];
  readonly length: number;
  readonly firstPosition: number;
}

function pagesFor(tokens: number, pageLength: number): number {
  return Math.ceil(tokens / pageLength);
}

/** See {@link createPagedCache}. */
export class PagedCache implements KeyValueCache {
  readonly runtime: KeyValueCache['runtime'];
  readonly chunk: number = Infinity;
  readonly #pool: PagePool;
  #sequences: readonly Sequence[];

  /** @internal use {@link createPagedCache} or {@link fork} */
  constructor(pool: PagePool, sequences: readonly Sequence[]) {
    this.runtime = pool.runtime;
    this.#pool = pool;
    this.#sequences = sequences;
  }

  get batch(): number {
    return this.#sequences.length;
  }

  get lengths(): readonly number[] {
    return this.#sequences.map(({ length }) => length);
  }

  get nextPositions(): readonly number[] {
    return this.#sequences.map(({ length, firstPosition }) => firstPosition + length);
  }

  /** The block table of each sequence. */
  get tables(): readonly (readonly number[])[] {
    return this.#sequences.map(({ pages }) => [...pages]);
  }

  append(rows: CacheRows): void {
    const pool = this.#pool;
    const counts = checkRows({ ...pool.shape, batch: this.batch, nextPositions: this.nextPositions }, rows);
    this.#checkRoom(counts);
    this.#sequences = this.#sequences.map((sequence, entry) => this.#extend(sequence, counts[entry] ?? 0, (first, to) => pool.write(rows.key, rows.value, entry, first, to)));
  }

  read(temporaries: Temporaries): readonly CachedKeys[] {
    const longest = Math.max(0, ...this.#sequences.map(({ pages }) => pages.length));
    const indices = new Int32Array(this.batch * longest);
    // Entries past a sequence's pages are never seen; page 0 stands there.
    this.#sequences.forEach(({ pages }, entry) => indices.set(pages, entry * longest));
    const { key, value, owned } = this.#pool.gather(tensor(indices, [indices.length]), this.batch);
    for (const memory of owned) temporaries.keep(memory);
    return [{ key, value, keyLengths: this.lengths, keyOffset: this.#sequences.map(({ firstPosition }) => firstPosition) }];
  }

  rollback(count: number | readonly number[]): void {
    const counts = checkRollback(this.lengths, count);
    this.#sequences = this.#sequences.map(({ pages, length, firstPosition }, entry) => {
      const left = length - (counts[entry] ?? 0);
      const needed = pagesFor(left, this.#pool.pageLength);
      for (const page of pages.slice(needed)) this.#pool.give(page);
      return { pages: pages.slice(0, needed), length: left, firstPosition };
    });
  }

  /**
   * The same sequences once more, or some of them in any order. Pages are shared: a page is copied when one of those that share it appends to it.
   * @throws AttentionError `invalid-argument` for a sequence that is not there
   */
  fork(sequences: readonly number[] = this.#sequences.map((_, entry) => entry)): PagedCache {
    const chosen = sequences.map((entry) => this.#sequenceAt(entry));
    for (const { pages } of chosen) for (const page of pages) this.#pool.share(page);
    return new PagedCache(this.#pool, chosen);
  }

  /**
   * Removes a sequence and gives its pages back; those after it move up. Default: the last.
   * @throws AttentionError `invalid-argument`
   */
  pop(sequence: number = this.batch - 1): void {
    for (const page of this.#sequenceAt(sequence).pages) this.#pool.give(page);
    this.#sequences = this.#sequences.filter((_, entry) => entry !== sequence);
  }

  dispose(): void {
    for (const { pages } of this.#sequences) for (const page of pages) this.#pool.give(page);
    this.#sequences = [];
  }

  #sequenceAt(entry: number): Sequence {
    const found = this.#sequences[entry];
    if (found === undefined) throw new AttentionError('invalid-argument', `There is no sequence ${entry}.`, `The cache has ${this.batch}, counted from 0.`);
    return found;
  }

  /** New pages, and copies of shared ones that are written to. @throws AttentionError `cache-full` */
  #checkRoom(counts: readonly number[]): void {
    const { pageLength, freePages } = this.#pool;
    const needed = this.#sequences.reduce((sum, { pages, length }, entry) => {
      const count = counts[entry] ?? 0;
      if (count === 0) return sum;
      return sum + pagesFor(length + count, pageLength) - pages.length + (length % pageLength > 0 && this.#pool.usersOf(pages.at(-1) ?? -1) > 1 ? 1 : 0);
    }, 0);
    if (needed > freePages) throw new AttentionError('cache-full', `The rows need ${needed} pages, and ${freePages} of the pool’s ${this.#pool.pages} are free.`, 'Dispose of caches, pop sequences, or make a larger pool.');
  }

  #extend({ pages, length, firstPosition }: Sequence, count: number, write: (first: number, to: { readonly page: number; readonly row: number; readonly count: number }) => void): Sequence {
    const { pageLength } = this.#pool;
    const table = [...pages];
    for (let done = 0; done < count; ) {
      const token = length + done;
      const row = token % pageLength;
      const place = Math.floor(token / pageLength);
      const page = this.#pageToWrite(table[place], row);
      table[place] = page;
      const run = Math.min(count - done, pageLength - row);
      write(done, { page, row, count: run });
      done += run;
    }
    return { pages: table, length: length + count, firstPosition };
  }

  /** The page itself where it is this sequence's alone, else one of its own with the rows so far. */
  #pageToWrite(page: number | undefined, rows: number): number {
    const pool = this.#pool;
    if (page !== undefined && pool.usersOf(page) === 1) return page;
    const own = pool.take();
    if (page !== undefined) {
      pool.copyPage(page, own, rows);
      pool.give(page);
    }
    return own;
  }
}
