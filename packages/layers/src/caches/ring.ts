import { AttentionError, tensor } from '@heed/core';
import { checkCount } from '../parameters.ts';
import type { Temporaries } from '../temporaries.ts';
import type { CachedKeys, CacheRows, CacheShape, KeyValueCache } from './cache.ts';
import { allEqual, checkRollback, checkRows, forEach } from './rows.ts';
import { RowStorage } from './storage.ts';

export interface RingCacheOptions extends CacheShape {
  readonly batch: number;
  /** Tokens before a query that it sees: `left` of the variant's window, or the length of a Transformer-XL memory. */
  readonly left: number;
  /** Tokens at the beginning that are never let go: `count` of the variant's `sinkTokens`. Default 0. */
  readonly sinkTokens?: number;
  /** Most tokens of one append, which all of them still see `left` tokens before themselves. Default 16. */
  readonly chunk?: number;
  /** Position of the first token. Default 0. */
  readonly firstPosition?: number | readonly number[];
}

/**
 * The last `left` tokens, the tokens of one append, and the sink tokens: sinkTokens + left + chunk rows, however long the sequence. Later tokens stand where the oldest stood,
 * so keys are in no order, and their positions are given. The variant's mask decides what is seen:
 *
 *     causal().and(window({ left: 1023, right: 0 }).or(sinkTokens(4)))     createRingCache({ left: 1023, sinkTokens: 4, … })
 *
 * @throws AttentionError `invalid-argument`, `out-of-memory`
 */
export function createRingCache(options: RingCacheOptions): RingCache {
  return new RingCache(options);
}

/** A position that no query sees: rows that were rolled back stand there until they are written again. */
const nowhere = 2 ** 30;

/** See {@link createRingCache}. */
export class RingCache implements KeyValueCache {
  readonly runtime: CacheShape['runtime'];
  readonly batch: number;
  readonly chunk: number;
  readonly #shape: CacheShape;
  readonly #storage: RowStorage;
  readonly #sinks: number;
  readonly #firstPositions: readonly number[];
  /** i32 [batch, rows]: the position of each row. */
  #positions: Int32Array;
  #lengths: readonly number[];
  /** Most tokens that each sequence ever held: rows beyond were never written. */
  #written: readonly number[];

  /** @internal use {@link createRingCache} */
  constructor({ batch, left, sinkTokens = 0, chunk = 16, firstPosition = 0, ...shape }: RingCacheOptions) {
    this.runtime = shape.runtime;
    this.batch = checkCount('batch', batch, 0);
    this.chunk = checkCount('chunk', chunk, 1);
    this.#shape = shape;
    this.#sinks = checkCount('sinkTokens', sinkTokens, 0);
    this.#storage = new RowStorage(shape, batch, this.#sinks + checkCount('left', left, 0) + chunk);
    this.#firstPositions = forEach(batch, firstPosition, 'firstPosition');
    this.#positions = new Int32Array(batch * this.#storage.rows).fill(nowhere);
    this.#lengths = this.#firstPositions.map(() => 0);
    this.#written = this.#lengths;
  }

  get lengths(): readonly number[] {
    return this.#lengths;
  }

  get nextPositions(): readonly number[] {
    return this.#lengths.map((length, sequence) => length + (this.#firstPositions[sequence] ?? 0));
  }

  append(rows: CacheRows): void {
    const counts = checkRows({ ...this.#shape, batch: this.batch, nextPositions: this.nextPositions }, rows);
    const most = Math.max(0, ...counts);
    if (most > this.chunk) throw new AttentionError('cache-full', `append got ${most} rows, and the ring takes ${this.chunk} at once.`, 'Append them in pieces and attend in between, or make the ring with a larger chunk.');
    const { key, value } = rows;
    if (allEqual(counts) && allEqual(this.#lengths)) this.#write(key, value, null, this.#lengths[0] ?? 0, most);
    else counts.forEach((count, entry) => this.#write(key, value, entry, this.#lengths[entry] ?? 0, count));
    const positions = this.#positions.slice();
    counts.forEach((count, entry) => {
      for (let token = this.#lengths[entry] ?? 0, end = token + count; token < end; token++) positions[entry * this.#storage.rows + this.#rowOf(token)] = token + (this.#firstPositions[entry] ?? 0);
    });
    this.#positions = positions;
    this.#lengths = this.#lengths.map((length, sequence) => length + (counts[sequence] ?? 0));
    this.#written = this.#written.map((length, sequence) => Math.max(length, this.#lengths[sequence] ?? 0));
  }

  read(_temporaries: Temporaries): readonly CachedKeys[] {
    const { key, value, rows } = this.#storage;
    return [{
      key,
      value,
      keyPositions: tensor(this.#positions, [this.batch, rows]),
      keyLengths: this.#written.map((length) => Math.min(length, rows)),
      totalKeyLengths: this.#lengths.map((length, sequence) => Math.max(length, Math.min(this.#written[sequence] ?? 0, rows))),
    }];
  }

  /** The tokens before those forgotten must still be here: at most `chunk` can be forgotten once the ring has gone round. */
  rollback(count: number | readonly number[]): void {
    const counts = checkRollback(this.#lengths.map((length, sequence) => ((this.#written[sequence] ?? 0) <= this.#storage.rows ? length : Math.max(0, length - (this.#written[sequence] ?? 0) + this.chunk))), count);
    const positions = this.#positions.slice();
    counts.forEach((forgotten, entry) => {
      const length = this.#lengths[entry] ?? 0;
      for (let token = length - forgotten; token < length; token++) positions[entry * this.#storage.rows + this.#rowOf(token)] = nowhere;
    });
    this.#positions = positions;
    this.#lengths = this.#lengths.map((length, sequence) => length - (counts[sequence] ?? 0));
  }

  dispose(): void {
    this.#storage.release();
  }

  /** Where a token stands: sink tokens first, then the ring. */
  #rowOf(token: number): number {
    return token < this.#sinks ? token : this.#sinks + ((token - this.#sinks) % (this.#storage.rows - this.#sinks));
  }

  /** Writes rows of one entry, or of all, in runs that do not wrap. */
  #write(key: CacheRows['key'], value: CacheRows['value'], entry: number | null, first: number, count: number): void {
    for (let done = 0; done < count; ) {
      const row = this.#rowOf(first + done);
      const end = first + done < this.#sinks ? this.#sinks : this.#storage.rows;
      const run = Math.min(count - done, end - row);
      this.#storage.write(key, value, { entry, row: done }, { entry, row }, run);
      done += run;
    }
  }
}
