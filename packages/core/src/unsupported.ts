import type { Refusal } from './backend.ts';
import { AttentionError } from './errors.ts';

/** The error that `prepare` rejects with: every reason of `assess`, then every remedy, each once. */
export function unsupported(refusals: readonly Refusal[]): AttentionError {
  const reasons = new Set(refusals.map(({ stage, reason }) => `${stage}: ${reason}`));
  const remedies = new Set(refusals.map(({ remedy }) => remedy));
  return new AttentionError('unsupported', `${[...reasons].join('; ')}.`, [...remedies].join(' '));
}
