import { causal, sinkTokens, window } from '@heed/core';
import { patternOf, type Pattern } from './pattern.ts';

export interface StreamingOptions {
  /** First keys, which every query sees. Default 4. */
  readonly sinks?: number;
  /** Keys before the query's own, not counting it (L4). */
  readonly left: number;
}

/**
 * Attention sinks and a window (StreamingLLM, Xiao 2023). Causal. Its cache rotates keys by their slot, not by their place in the text; pass the slots as explicit positions to have that, and the
 * places to have what a masked model computes.
 *
 * @throws AttentionError `invalid-argument`
 */
export function streaming({ sinks = 4, left }: StreamingOptions): Pattern {
  return patternOf(causal().and(window({ left, right: 0 }).or(sinkTokens(sinks))), 'streaming');
}
