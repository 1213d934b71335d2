import type { AttentionRequest, Capabilities, Refusal } from '@heed/core';

/** Every reason why a request cannot be done over edges, on any runtime. */
export function refusalsOf({ dtypes = {}, storage = 'contiguous', gradients = [], observe, queryDim, keyDim, valueDim }: AttentionRequest, capabilities: Capabilities): readonly Refusal[] {
  const refusals: Refusal[] = [];
  for (const [role, dtype] of Object.entries(dtypes)) {
    if (!capabilities.dtypes.includes(dtype)) refusals.push({ stage: 'dtype', reason: `${role} is ${dtype}`, remedy: `Use one of ${capabilities.dtypes.join(', ')}.` });
  }
  if (!capabilities.storage.includes(storage)) refusals.push({ stage: 'storage', reason: `keys and values are ${storage}`, remedy: 'Gather them to one tensor; views with any strides are read in place.' });
  if (gradients.length > 0) refusals.push({ stage: 'gradients', reason: 'this backend computes no gradients', remedy: 'Use the reference backend for gradients.' });
  for (const stage of observe?.stages ?? []) {
    if (capabilities.observe.includes(stage)) continue;
    const known = stage === 'scores' || stage === 'modified';
    refusals.push({ stage: 'observe', reason: known ? `'${stage}' exists for pairs without an edge too, which are not computed` : `'${stage}' is not observed`, remedy: capabilities.observe.length > 0 ? `Look at ${capabilities.observe.join(', ')}.` : 'Use a dense backend.' });
  }
  if (observe?.keyMass === true && !capabilities.keyMass) refusals.push({ stage: 'observe', reason: 'key mass is not summed over edges', remedy: 'Use a dense backend.' });
  for (const [role, dim] of Object.entries({ queryDim, keyDim, valueDim })) {
    if (dim > capabilities.maxDim) refusals.push({ stage: 'dims', reason: `${role} is ${dim}`, remedy: `Use at most ${capabilities.maxDim}.` });
  }
  return refusals;
}
