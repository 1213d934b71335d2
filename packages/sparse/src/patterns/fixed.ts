import { AttentionError, fixedPattern, mask, type FixedPatternOptions } from '@heed/core';
import { patternOf, type Pattern } from './pattern.ts';

export interface FixedOptions extends FixedPatternOptions {
  /**
   * 'merged': every head has the last `summary` positions of each block as its summary. 'split': head h has the positions that end (h mod n) · summary before the block's end, n being
   * stride / summary, so that heads summarise by different columns (Child 2019, section 4.3). Default 'merged'.
   */
  readonly heads?: 'merged' | 'split';
}

/**
 * Fixed attention (Child 2019): the query's own block of `stride` keys, and `summary` keys of every block before. Causal.
 * @throws AttentionError `invalid-argument`
 */
export function fixed({ stride, summary, heads = 'merged' }: FixedOptions): Pattern {
  const merged = fixedPattern({ stride, summary });
  if (heads === 'merged') return patternOf(merged, 'fixed');
  if (stride % summary !== 0) throw new AttentionError('invalid-argument', `fixed got summary ${summary} for stride ${stride}.`, 'Split heads need a summary that divides the stride.');
  const range = [1, 2 ** 30] as const;
  const split = mask('fixedHeads', ({ head, queryPosition, keyPosition, uniform }) => {
    const length = uniform('stride', stride, 'i32', range);
    const columns = uniform('summary', summary, 'i32', range);
    const end = length.sub(head.mod(length.floorDiv(columns)).mul(columns));
    const place = keyPosition.mod(length);
    const isSame = queryPosition.floorDiv(length).eq(keyPosition.floorDiv(length));
    return keyPosition.le(queryPosition).and(isSame.or(place.ge(end.sub(columns)).and(place.lt(end))));
  });
  return patternOf(split, 'fixed');
}
