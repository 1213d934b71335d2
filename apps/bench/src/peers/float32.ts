import { AttentionError, type HostTensor } from '@heed/core';

/** The elements of a dense float32 tensor, in place. */
export function float32(source: HostTensor): Float32Array {
  const view = source.view();
  if (view instanceof Float32Array) return view;
  throw new AttentionError('invalid-dtype', `A peer got ${source.dtype}.`, 'Ask refuses() first.');
}
