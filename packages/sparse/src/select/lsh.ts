import type { HostTensor, Runtime, Tensor } from '@heed/core';
import { AttentionError, tensor, toFloat64 } from '@heed/core';
import { randomAt } from '@heed/core/compute';
import { onRuntime } from './pooled-keys.ts';

export interface LshOptions {
  /** Independent hashings, whose chunks are united. Default 4. */
  readonly rounds?: number;
  /** Hash buckets, an even number. */
  readonly buckets: number;
  /** Rows of a chunk of the sorted sequence. */
  readonly chunk: number;
  /** Of the rotations. Default 0. */
  readonly seed?: number;
}

/** What the hashing chose, as plain data on the host. A row's place divided by the chunk is its chunk; it sees its own and the one before. */
export interface LshChoice {
  readonly chunk: number;
  /** i32 [rounds, batch, heads, length]: the row at each place of the sorted sequence. */
  readonly order: HostTensor;
}

/**
 * Locality-sensitive hashing (Reformer, Kitaev 2020, section 2): round r hashes a row x to the largest of [x R; −x R], R a random rotation [dim, buckets / 2], the lower one on ties; rows are
 * sorted by bucket and then by position. Queries and keys are the same rows.
 *
 * Whether a row hashes with one before it depends on later rows too: they move the bounds of chunks. So the choice is not strictly causal, though the attention masks later keys.
 *
 * @param rows [batch, heads, length, dim], of the runtime or the host
 * @throws AttentionError `invalid-argument`, `foreign-tensor`
 */
export async function selectLsh(runtime: Runtime, rows: Tensor, { rounds = 4, buckets, chunk, seed = 0 }: LshOptions): Promise<LshChoice> {
  for (const [name, size] of Object.entries({ rounds, buckets, chunk })) if (!Number.isSafeInteger(size) || size < 1) throw new AttentionError('invalid-argument', `selectLsh got ${name} ${size}.`, 'Expected an integer of 1 or more.');
  if (buckets % 2 === 1 && buckets > 1) throw new AttentionError('invalid-argument', `selectLsh got ${buckets} buckets.`, 'Expected an even number, half of them for each sign, or 1.');
  const [batch = 0, heads = 0, length = 0, dim = 0] = rows.shape;
  const order = new Int32Array(rounds * batch * heads * length);
  const held = onRuntime(runtime, rows);
  try {
    for (let round = 0; round < rounds && order.length > 0; round++) {
      const hashes = buckets === 1 ? new Float64Array(batch * heads * length) : await hash(runtime, held, rotation(dim, buckets, seed, round));
      for (let plane = 0; plane < batch * heads; plane++) {
        order.set(sortByBucket(hashes.subarray(plane * length, (plane + 1) * length), buckets), (round * batch * heads + plane) * length);
      }
    }
  } finally {
    if (held !== rows) runtime.release(held);
  }
  return Object.freeze({ chunk, order: tensor(order, [rounds, batch, heads, length]) });
}

/** [R, −R] as f32 [1, 1, dim, buckets], R of N(0, 1). */
function rotation(dim: number, buckets: number, seed: number, round: number): HostTensor {
  const half = buckets / 2;
  const values = new Float32Array(dim * buckets);
  for (let channel = 0; channel < dim; channel++) {
    for (let column = 0; column < half; column++) {
      const radius = Math.sqrt(-2 * Math.log(randomAt(seed, 1, 0, round, channel, column)));
      const value = radius * Math.cos(2 * Math.PI * randomAt(seed, 2, 0, round, channel, column));
      values[channel * buckets + column] = value;
      values[channel * buckets + half + column] = -value;
    }
  }
  return tensor(values, [1, 1, dim, buckets]);
}

async function hash(runtime: Runtime, rows: Tensor, turned: HostTensor): Promise<Float64Array> {
  const { operations } = runtime;
  const held = runtime.upload(turned);
  const products = operations.matmul(rows, held, { dtype: 'f32' });
  const { values, indices } = operations.topK(products, 1);
  try {
    return toFloat64(await runtime.read(indices));
  } finally {
    for (const made of [held, products, values, indices]) runtime.release(made);
  }
}

/** Rows by bucket, then by position: a counting sort, which keeps the order of equals. */
function sortByBucket(hashes: Float64Array, buckets: number): Int32Array {
  const next = new Int32Array(buckets + 1);
  for (const bucket of hashes) next[bucket + 1] = (next[bucket + 1] ?? 0) + 1;
  for (let bucket = 0; bucket < buckets; bucket++) next[bucket + 1] = (next[bucket + 1] ?? 0) + (next[bucket] ?? 0);
  const order = new Int32Array(hashes.length);
  for (const [row, bucket] of hashes.entries()) {
    const place = next[bucket] ?? 0;
    order[place] = row;
    next[bucket] = place + 1;
  }
  return order;
}
