import type { Masking } from './stage.ts';
import { mask } from './stage.ts';

export interface GlobalTokensOptions {
  /** Name of the bool table [batch, queryLength]. Default 'globalQueries'. */
  readonly queryTable?: string;
  /** Name of the bool table [batch, keyLength]. Default 'globalKeys'. */
  readonly keyTable?: string;
}

/** Pairs of which either side is marked as global; Longformer is `window(…).or(globalTokens())` (Beltagy 2020). A pair that both allow counts once. */
export function globalTokens(options: GlobalTokensOptions = {}): Masking {
  const { queryTable = 'globalQueries', keyTable = 'globalKeys' } = options;
  return mask('globalTokens', ({ batch, queryIndex, keyIndex, table }) =>
    table(queryTable, ['batch', 'queryLength'], 'bool').at(batch, queryIndex).or(table(keyTable, ['batch', 'keyLength'], 'bool').at(batch, keyIndex)));
}
