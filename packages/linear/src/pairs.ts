import { AttentionError } from '@heed/core';
import type { BoundCall, BoundSequence, HostValues } from '@heed/core/compute';
import type { LinearReading } from './recognise.ts';

/** What a sum over keys cannot take. */
export function refuseInputs({ inputs, blocks, edges, keysTransformed }: BoundCall): void {
  const refuse = (what: string): never => {
    throw new AttentionError('unsupported', `masking: a sum over keys takes no ${what}.`, 'Leave them out, or use a dense backend.');
  };
  if (blocks !== null) refuse('blocks');
  if (edges !== null) refuse('edge lists');
  if (keysTransformed) refuse('transformed keys');
  if (inputs.pages !== undefined) refuse('pages');
  if (inputs.queryPositions !== undefined || inputs.keyPositions !== undefined) refuse('explicit positions');
}

/** The keys of a sequence that count, and how far beyond its own number a row sees: row i reads keys up to i + shift (causal), or all of them. */
export function keysOfRows({ batch, keyLength, queryOffset, keyOffset }: BoundSequence, { causal, counts }: LinearReading, values: HostValues): { readonly keyLength: number; readonly shift: number } {
  return {
    keyLength: counts === null ? keyLength : Math.max(0, Math.min(keyLength, values.element(counts, [batch]))),
    shift: causal ? queryOffset - keyOffset : 0,
  };
}
