import { AttentionError } from '../../errors.ts';
import { atLeast, given, requireInteger } from '../arguments.ts';
import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

export interface FixedPatternOptions {
  /** Positions in a block. */
  readonly stride: number;
  /** Positions at the end of each block that every later query sees, 1 … stride. */
  readonly summary: number;
}

/**
 * The union of Child's fixed heads (Child 2019, section 4.3): keys of the query's own block, and the last `summary` keys of every block. Causal. Uniforms
 * `fixedPattern.stride`, `fixedPattern.summary`.
 *
 * @throws AttentionError `invalid-argument`
 */
export function fixedPattern(options: FixedPatternOptions): Masking {
  const { stride, summary } = given(options);
  requireInteger('fixedPattern', 'stride', stride, 1);
  requireInteger('fixedPattern', 'summary', summary, 1);
  if (summary > stride) throw new AttentionError('invalid-argument', `fixedPattern got summary ${summary} for stride ${stride}.`, 'Expected at most the stride.');
  return mask('fixedPattern', ({ queryPosition, keyPosition, uniform }) => {
    const length = uniform('stride', stride, 'i32', atLeast(1));
    const sameBlock = queryPosition.floorDiv(length).eq(keyPosition.floorDiv(length));
    const inSummary = keyPosition.mod(length).ge(length.sub(uniform('summary', summary, 'i32', atLeast(1))));
    return keyPosition.le(queryPosition).and(sameBlock.or(inSummary));
  });
}
