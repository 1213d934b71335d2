/** Releases of ONNX that define Attention. */
export const onnxReleases = ['1.18', '1.19', '1.20', '1.21', '1.22', '1.23'] as const;

/** One of {@link onnxReleases}. */
export type OnnxRelease = (typeof onnxReleases)[number];

/** What the releases' reference implementations of Attention say differently. */
export interface AttentionRules {
  /** Which key head query head h reads: floor(h · keyHeads / heads), or h mod keyHeads. */
  readonly keyHeads: 'neighbours' | 'modulo';
  /** How rows of a rank-3 input become heads: channels split, or the memory read on as if it stood [batch, heads, length, dim]. */
  readonly rank3: 'split' | 'readOn';
  /** Where row 0 stands with a past, for is_causal: behind it, or at 0. */
  readonly pastOffset: boolean;
  /** The same with nonpad_kv_seqlen: at nonpad_kv_seqlen − queryLength, or at 0. */
  readonly nonpadOffset: boolean;
  /** softcap bends scores before bias and mask are added, or after, when a forbidden key keeps the score −softcap and some weight. */
  readonly softcapFirst: boolean;
  /** qk_matmul_output_mode 1 is after softcap and 2 after bias and mask; or the other way round. */
  readonly softcapIsMode1: boolean;
}

/** By release; each differs from the one before where its rules do. */
export const attentionRules: Readonly<Record<OnnxRelease, AttentionRules>> = {
  '1.18': { keyHeads: 'modulo', rank3: 'readOn', pastOffset: false, nonpadOffset: false, softcapFirst: false, softcapIsMode1: false },
  '1.19': { keyHeads: 'modulo', rank3: 'split', pastOffset: false, nonpadOffset: false, softcapFirst: false, softcapIsMode1: false },
  '1.20': { keyHeads: 'neighbours', rank3: 'split', pastOffset: true, nonpadOffset: false, softcapFirst: false, softcapIsMode1: false },
  '1.21': { keyHeads: 'neighbours', rank3: 'split', pastOffset: true, nonpadOffset: false, softcapFirst: false, softcapIsMode1: false },
  '1.22': { keyHeads: 'neighbours', rank3: 'split', pastOffset: true, nonpadOffset: false, softcapFirst: true, softcapIsMode1: true },
  '1.23': { keyHeads: 'neighbours', rank3: 'split', pastOffset: true, nonpadOffset: true, softcapFirst: true, softcapIsMode1: true },
};

/** The first release that brought an operator set's Attention. */
export const firstRelease: Readonly<Record<OnnxAttentionOpset, OnnxRelease>> = { 23: '1.18', 24: '1.19', 25: '1.23' };

/** Operator sets that changed Attention. */
export type OnnxAttentionOpset = 23 | 24 | 25;

/** Operator sets that can be asked for; 26 changes nothing here and 27 brings LinearAttention. */
export type OnnxOpset = OnnxAttentionOpset | 26 | 27;

/** Whether a release is the other or a later one. */
export function isSince(release: OnnxRelease, other: OnnxRelease): boolean {
  return onnxReleases.indexOf(release) >= onnxReleases.indexOf(other);
}
