import type { HostTensor, Runtime, Tensor } from '@heed/core';
import { AttentionError, tensor, toFloat64 } from '@heed/core';
import { onRuntime } from './pooled-keys.ts';

export interface RoutingOptions {
  /** Tokens of a cluster, w; √length is usual. At most the length. */
  readonly members: number;
}

/** Which rows each cluster took, as plain data on the host. */
export interface RoutingChoice {
  /** i32 [batch, heads, clusters, members], ascending. */
  readonly queries: HostTensor;
  readonly keys: HostTensor;
}

/**
 * Clusters of the Routing Transformer (Roy 2021, section 4): each centroid takes the rows with the largest product with it, after a layer norm without gain; `members` queries and as many keys. A row
 * may be in several clusters, or in none. Ties go to the lower index.
 *
 * A cluster takes the best of the whole sequence, so later rows decide whether earlier ones are in it: the choice is not strictly causal, though the attention masks later keys.
 *
 * @param rows      query and key [batch, heads, length, dim]; where they are one tensor, clusters have the same queries and keys
 * @param centroids [heads, clusters, dim]; the caller keeps their moving average
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `foreign-tensor`
 */
export async function selectRouting(runtime: Runtime, { query, key, centroids }: { readonly query: Tensor; readonly key: Tensor; readonly centroids: Tensor }, { members }: RoutingOptions): Promise<RoutingChoice> {
  const [, heads = 0, length = 0, dim = 0] = query.shape;
  const [, , keyLength = 0] = key.shape;
  const clusters = centroids.shape[1] ?? 0;
  if (centroids.shape.join() !== [heads, clusters, dim].join() || key.shape[1] !== heads || key.shape[3] !== dim) {
    throw new AttentionError('invalid-shape', `Got query [${query.shape.join(', ')}], key [${key.shape.join(', ')}] and centroids [${centroids.shape.join(', ')}].`, 'Expected as many heads and channels in each.');
  }
  if (!Number.isSafeInteger(members) || members < 1 || members > Math.min(length, keyLength)) throw new AttentionError('invalid-argument', `selectRouting got ${members} members.`, `Expected an integer from 1 to ${Math.min(length, keyLength)}, the rows that there are.`);
  const queries = await best(runtime, query, centroids, members);
  return Object.freeze({ queries, keys: key === query ? queries : await best(runtime, key, centroids, members) });
}

async function best(runtime: Runtime, rows: Tensor, centroids: Tensor, members: number): Promise<HostTensor> {
  const [batch = 0, heads = 0] = rows.shape;
  const clusters = centroids.shape[1] ?? 0;
  const { operations } = runtime;
  const held: Tensor[] = [];
  const keep = (made: Tensor, given?: Tensor): Tensor => {
    if (made !== given) held.push(made);
    return made;
  };
  try {
    const normed = keep(operations.rowNorm(keep(onRuntime(runtime, rows), rows), { norm: 'layer', epsilon: 1e-5 }));
    const own = keep(onRuntime(runtime, centroids), centroids);
    const [stepH = 0, stepC = 0, step = 1] = own.strides;
    const spread = runtime.view(own, [batch, heads, clusters, centroids.shape[2] ?? 0], [0, stepH, stepC, step]);
    const products = keep(operations.matmul(spread, normed, { transposed: true, dtype: 'f32' }));
    const { values, indices } = operations.topK(products, members);
    held.push(values, indices);
    const found = Int32Array.from(toFloat64(await runtime.read(indices)));
    for (let start = 0; start < found.length; start += members) found.subarray(start, start + members).sort();
    return tensor(found, [batch, heads, clusters, members]);
  } finally {
    for (const made of held) runtime.release(made);
  }
}
