import type { CompetitorSource } from '../competitors.ts';
import { plainJs } from './plain-js.ts';

/** Somebody else's attention: everything that `--peer` takes. Adding one is adding a row. */
export const peerSources: readonly CompetitorSource[] = [{ name: 'plain-js', role: 'peer', start: plainJs }];
