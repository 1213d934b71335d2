import type { Competitor } from '../competitor.ts';
import { plainJs } from './plain-js.ts';

/** Somebody else's attention. */
export interface PeerSource {
  readonly name: string;
  create(): Competitor;
}

/** Every peer that `--peer` takes. Adding one is adding a row. */
export const peerSources: readonly PeerSource[] = [{ name: 'plain-js', create: plainJs }];
