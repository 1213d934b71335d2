import { AttentionError, isHostTensor, type Runtime, type Tensor } from '@heed/core';
import { withTemporaries, type Temporaries } from './temporaries.ts';

/** Runs a layer on rows of its runtime or of the host; the result lives where the rows live. */
export async function onRuntime(runtime: Runtime, x: Tensor, work: (temporaries: Temporaries, here: Tensor) => Promise<Tensor>): Promise<Tensor> {
  return withTemporaries(runtime, async (temporaries) => {
    const made = await work(temporaries, bringHere(temporaries, x));
    return x.runtime === runtime ? made : runtime.read(temporaries.keep(made));
  });
}

/**
 * Rows [batch, length, dim] on the runtime.
 * @throws AttentionError `invalid-shape`, `foreign-tensor`
 */
export function bringHere(temporaries: Temporaries, x: Tensor): Tensor {
  if (x.shape.length !== 3) throw new AttentionError('invalid-shape', `Got rows of shape [${x.shape.join(', ')}].`, 'Expected [batch, length, dim].');
  return bring(temporaries, x);
}

/** A tensor of any shape on the runtime. @throws AttentionError `foreign-tensor` */
export function bring(temporaries: Temporaries, x: Tensor): Tensor {
  const { runtime } = temporaries;
  if (x.runtime === runtime) return x;
  if (x.runtime !== null || !isHostTensor(x)) throw new AttentionError('foreign-tensor', 'A tensor lives on another runtime.', 'Read it there, or upload it to the backend’s runtime.');
  return temporaries.keep(runtime.upload(x));
}
