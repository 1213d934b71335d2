import { AttentionError } from '@heed/core';
import type { Arguments } from './arguments.ts';
import { backendSources } from './backends.ts';
import type { Competitor } from './competitor.ts';
import { peerSources } from './peers/peers.ts';

/** Something that can be started, by the name that the command line takes. */
export interface CompetitorSource {
  readonly name: string;
  readonly role: Competitor['role'];
  start(): Promise<Competitor> | Competitor;
}

/** Everything that can be measured: backends first. */
export const competitorSources: readonly CompetitorSource[] = [...backendSources, ...peerSources];

/**
 * Starts what the command line asks for, all of it when it says nothing.
 *
 * @throws AttentionError `invalid-argument` for a name that is not there
 */
export async function startCompetitors({ backends, peers }: Pick<Arguments, 'backends' | 'peers'>): Promise<readonly Competitor[]> {
  const sources = [...chosen('backend', backends), ...chosen('peer', peers)];
  return Promise.all(sources.map(async (source) => source.start()));
}

function chosen(role: Competitor['role'], names: readonly string[] | null): readonly CompetitorSource[] {
  const known = competitorSources.filter((source) => source.role === role);
  const unknown = names?.find((name) => !known.some((source) => source.name === name));
  if (unknown !== undefined) throw new AttentionError('invalid-argument', `--${role} is '${unknown}'.`, `Expected one of ${known.map(({ name }) => name).join(', ')}.`);
  return names === null ? known : known.filter(({ name }) => names.includes(name));
}
