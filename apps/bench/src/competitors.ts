import { AttentionError } from '@heed/core';
import type { Arguments } from './arguments.ts';
import { backendSources } from './backends.ts';
import type { Competitor } from './competitor.ts';
import { inOwnProcess } from './own-process.ts';
import { peerSources } from './peers/peers.ts';
import { refusingCompetitor } from './refusing.ts';

/** How a competitor is started. */
export interface StartOptions {
  /** Threads that each may use, the calling one included. */
  readonly threads: number;
}

/** Something that can be started, by the name that the command line takes. */
export interface CompetitorSource {
  readonly name: string;
  readonly role: Competitor['role'];
  /** It changes its process for good, so it gets one of its own. Default false. */
  readonly ownProcess?: boolean;
  /** Starts it in this process. Whatever it needs is loaded now, not before. */
  start(options: StartOptions): Promise<Competitor> | Competitor;
}

/** Everything that can be measured: backends first. */
export const competitorSources: readonly CompetitorSource[] = [...backendSources, ...peerSources];

/**
 * Starts what the command line asks for, all of it when it says nothing. What does not start stays in the list and refuses every workload,
 * saying why.
 *
 * @throws AttentionError `invalid-argument` for a name that is not there
 */
export async function startCompetitors({ backends, peers, threads }: Pick<Arguments, 'backends' | 'peers' | 'threads'>): Promise<readonly Competitor[]> {
  const sources = [...chosen('backend', backends), ...chosen('peer', peers)];
  const started: Competitor[] = [];
  // One after the other: some libraries look at what others have left in the global scope.
  for (const source of sources) started.push(await startOrExplain(source, { threads }));
  return started;
}

/** Starts one; if that fails, what stands in for it says so wherever it is asked. */
export async function startOrExplain(source: CompetitorSource, options: StartOptions): Promise<Competitor> {
  try {
    return await (source.ownProcess === true ? inOwnProcess(source, options) : source.start(options));
  } catch (error) {
    return refusingCompetitor(source, error);
  }
}

function chosen(role: Competitor['role'], names: readonly string[] | null): readonly CompetitorSource[] {
  const known = competitorSources.filter((source) => source.role === role);
  const unknown = names?.find((name) => !known.some((source) => source.name === name));
  if (unknown !== undefined) throw new AttentionError('invalid-argument', `--${role} is '${unknown}'.`, `Expected one of ${known.map(({ name }) => name).join(', ')}.`);
  return names === null ? known : known.filter(({ name }) => names.includes(name));
}
