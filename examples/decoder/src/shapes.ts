/** What distinguishes one decoder from another of its family. */
export interface DecoderShape {
  /** gpt2: learned positions, layer norms with biases, gelu. llama: rotary positions, RMS norms, a gated network, no biases. */
  readonly family: 'gpt2' | 'llama';
  readonly vocabulary: number;
  readonly dim: number;
  readonly layers: number;
  readonly heads: number;
  readonly keyHeads: number;
  /** Width of the network. */
  readonly hidden: number;
  /** Longest sequence. */
  readonly context: number;
}

export type ShapeName = 'gpt2' | 'llama' | 'tiny-gpt2' | 'tiny-llama';

/** Shapes by name; gpt2's is that of the smallest published one. */
export const shapes: Readonly<Record<ShapeName, DecoderShape>> = {
  gpt2: { family: 'gpt2', vocabulary: 50257, dim: 768, layers: 12, heads: 12, keyHeads: 12, hidden: 3072, context: 1024 },
  llama: { family: 'llama', vocabulary: 32000, dim: 768, layers: 12, heads: 12, keyHeads: 4, hidden: 2048, context: 2048 },
  'tiny-gpt2': { family: 'gpt2', vocabulary: 61, dim: 24, layers: 2, heads: 3, keyHeads: 3, hidden: 48, context: 64 },
  'tiny-llama': { family: 'llama', vocabulary: 61, dim: 24, layers: 2, heads: 4, keyHeads: 2, hidden: 40, context: 64 },
};
