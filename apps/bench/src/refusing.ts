import { AttentionError } from '@heed/core';
import type { Competitor } from './competitor.ts';

/** Stands in for a competitor that did not start: it refuses every workload, saying why. */
export function refusingCompetitor({ name, role }: Pick<Competitor, 'name' | 'role'>, error: unknown): Competitor {
  const reason = `does not start here: ${error instanceof Error ? error.message : String(error)}`;
  const refused = (): Promise<never> => Promise.reject(new AttentionError('unsupported', `${name} ${reason}`, 'Ask refuses() first.'));
  return { name, role, about: reason, limit: null, refuses: () => reason, prepare: refused, dispose: () => Promise.resolve() };
}
