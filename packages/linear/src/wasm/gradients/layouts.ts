import { words } from '@heed/runtime-wasm';
import type { Layouts } from '../plan/layouts.ts';

/** What the backward pass reads beside the words of a forward call. Gradients of rows are dense, [batch, value heads, length, W]; those of numbers [batch, value heads, length]. */
export const gradientWords = ['queryRows', 'keyRows', 'logDecayRows', 'removalKeyRows', 'removalWeightRows', 'writeStrengthRows', 'valueRows', 'checkpoints', 'chunks', 'length', 'valueHeads', 'group'] as const;

/** The layouts of a call with the words of its gradients: `outer` is the gradient of the output, `queryOut` and `keyOut` the gradients before the row transforms. */
export function withGradients(layouts: Layouts): Layouts {
  const strided = (name: string): readonly string[] => [name, `${name}.batch`, `${name}.head`, `${name}.row`, `${name}.channel`];
  return { ...layouts, call: words([...layouts.call.names, ...strided('outer'), ...strided('queryOut'), ...strided('keyOut'), ...gradientWords]) };
}
