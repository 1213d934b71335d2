import { AttentionError, mask, type Masking } from '@heed/core';

/**
 * Position of the first row of each sequence that is padded on the left to `length` rows: −p where p rows of padding stand before its tokens, so that the first token is at 0.
 * Hide the padding with {@link leftPadding}.
 *
 * @param lengths tokens of each sequence
 * @throws AttentionError `invalid-lengths`
 */
export function leftPaddedPositions(lengths: readonly number[], length: number): readonly number[] {
  return lengths.map((tokens, sequence) => {
    if (!Number.isSafeInteger(tokens) || tokens < 0 || tokens > length) throw new AttentionError('invalid-lengths', `Sequence ${sequence} has ${tokens} tokens of ${length} rows.`, `Expected 0 to ${length}.`);
    return tokens - length;
  });
}

/** Hides keys at positions below 0, which is where padding on the left stands: `causal().and(leftPadding())`. Padded query rows see nothing, so they are 0 (L1). */
export function leftPadding(): Masking {
  return mask('leftPadding', ({ queryPosition, keyPosition }) => keyPosition.ge(0).and(queryPosition.ge(0)));
}
