import { AttentionError } from '../../errors.ts';
import { requireInteger } from '../arguments.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

export interface T5Buckets {
  /** Number of buckets, both signs together. Default 32. */
  readonly buckets?: number;
  /** From this distance on, everything is in the last bucket. Default 128. */
  readonly maxDistance?: number;
}

export interface T5BiasOptions extends T5Buckets {
  /** Name of the table of biases [head, buckets]. Default 't5Bias'. */
  readonly table?: string;
  /** Name of the i32 table of buckets [2 · maxDistance + 1], which {@link t5BucketTable} makes. Default 't5Buckets'. */
  readonly bucketTable?: string;
}

/**
 * score + bias[head, bucket(keyPosition − queryPosition)] (Raffel 2020, section 2.1). T5 itself has the scale 1.
 * @throws AttentionError `invalid-argument`
 */
export function t5Bias(options: T5BiasOptions = {}): Modifier {
  const { buckets = 32, maxDistance = 128, table: bias = 't5Bias', bucketTable = 't5Buckets' } = options;
  requireInteger('t5Bias', 'buckets', buckets, 1);
  requireInteger('t5Bias', 'maxDistance', maxDistance, 1);
  return modifier('t5Bias', ({ score, head, queryPosition, keyPosition, table }) => {
    const offset = keyPosition.sub(queryPosition).max(-maxDistance).min(maxDistance);
    const bucket = table(bucketTable, [2 * maxDistance + 1], 'i32').at(offset.add(maxDistance));
    return score.add(table(bias, ['head', buckets]).at(head, bucket));
  });
}

/**
 * Bucket of each offset keyPosition − queryPosition from −maxDistance to maxDistance. With n buckets for a sign and e = ⌊n/2⌋, distances below e have one each;
 * a distance d from there on is in e + ⌊ln(d/e) / ln(maxDistance/e) · (n − e)⌋, at most n − 1. Comparing whole powers instead of logarithms keeps distances that lie on
 * an edge on the right side of it.
 *
 * @param options.bidirectional half of the buckets are for keys after the query (encoders); otherwise those are all in bucket 0 (decoders)
 * @throws AttentionError `invalid-argument`
 */
export function t5BucketTable(options: T5Buckets & { readonly bidirectional: boolean }): Int32Array {
  const { buckets = 32, maxDistance = 128, bidirectional } = options;
  requireInteger('t5BucketTable', 'buckets', buckets, bidirectional ? 4 : 2);
  if (bidirectional && buckets % 2 === 1) throw new AttentionError('invalid-argument', `t5BucketTable got ${buckets} buckets for two directions.`, 'Expected an even number.');
  const count = bidirectional ? buckets / 2 : buckets;
  const exact = Math.floor(count / 2);
  requireInteger('t5BucketTable', 'maxDistance', maxDistance, exact + 1);
  return Int32Array.from({ length: 2 * maxDistance + 1 }, (_, index) => {
    const offset = index - maxDistance;
    if (offset > 0 && !bidirectional) return 0;
    return (offset > 0 ? count : 0) + distanceBucket(Math.abs(offset), exact, count, maxDistance);
  });
}

/** ⌊ln(d/e) / ln(m/e) · k⌋ ≥ i exactly when d^k · e^i ≥ m^i · e^k, with k = count − e. */
function distanceBucket(distance: number, exact: number, count: number, maxDistance: number): number {
  if (distance < exact) return distance;
  const steps = BigInt(count - exact);
  const [d, e, m] = [BigInt(distance), BigInt(exact), BigInt(maxDistance)];
  let step = 0n;
  while (step < steps - 1n && d ** steps * e ** (step + 1n) >= m ** (step + 1n) * e ** steps) step++;
  return exact + Number(step);
}
