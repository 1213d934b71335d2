import { given } from '../arguments.ts';
import { AttentionError } from '../../errors.ts';
import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

export interface KeyPaddingOptions {
  /** Where the padding stands. No default: left and right look alike until they fail. */
  readonly side: 'left' | 'right';
  /** Name of the i32 table [batch] with the number of real keys of each sequence, 0 … the rows of the key tensor; other numbers are refused. Default 'keyCounts'. */
  readonly table?: string;
}

/**
 * Only the real keys of each sequence, by rows of the key tensor: the last `keyCounts[batch]` of them, or the first. Positions are another matter: with padding on
 * the left give offsets of −padding, so that the first real token is at 0. Shards of a sequence cannot use it on the left, since it counts from the sequence's end.
 * For padding on the right, the call's `keyLengths` do the same without a mask.
 *
 * @throws AttentionError `invalid-argument` for another side
 */
export function keyPadding(options: KeyPaddingOptions): Masking {
  const { side, table: name = 'keyCounts' } = given(options);
  requireSide(side);
  return mask('keyPadding', ({ batch, keyIndex, keyLength, table }) => {
    const count = table(name, ['batch'], 'i32', [0, 'keyLength']).at(batch);
    return side === 'right' ? keyIndex.lt(count) : keyIndex.ge(keyLength.sub(count));
  });
}

/** A caller without types may give anything. */
function requireSide(side: unknown): void {
  if (side !== 'left' && side !== 'right') throw new AttentionError('invalid-argument', `keyPadding got side ${String(side)}.`, "Expected 'left' or 'right'.");
}
