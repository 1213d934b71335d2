/**
 * What attention costs inside a published model: its distinct attention layers, each with the number of times it occurs.
 *
 * A preset holds the numbers of the published checkpoint (the configuration file beside its weights). `config.ts` makes the same
 * structure from any such file.
 */

/** Which keys a query may see. `left` counts the keys before the query's own, self excluded. */
export type LayerMask =
  | { readonly kind: 'all' }
  | { readonly kind: 'causal' }
  | { readonly kind: 'causal-window'; readonly left: number };

/** `dot`: scale · q · k. `additive`: v · tanh(W_q q + W_k k) with rows of `width` (Bahdanau 2014). */
export type LayerScoring = { readonly kind: 'dot' } | { readonly kind: 'additive'; readonly width: number };

/**
 * How positions enter.
 *
 * `learned`, `sinusoidal` and `rotary` act before the attention itself: caches hold rotated keys, so the timed call gets rotated
 * queries and keys. `alibi` and `decomposed` change the scores and are part of the timed call.
 */
export type PositionScheme =
  | { readonly kind: 'none' }
  | { readonly kind: 'learned' }
  | { readonly kind: 'sinusoidal' }
  | { readonly kind: 'rotary'; readonly base: number }
  | { readonly kind: 'alibi' }
  /** A bias q · R_height[Δy] + q · R_width[Δx] with R [2 · side − 1, queryDim], on a square image of side × side patches. */
  | { readonly kind: 'decomposed'; readonly side: number };

/** Where the lengths of a layer come from. */
export type LayerLengths =
  /** Queries and keys are the tokens. A decode step has one query per sequence. */
  | { readonly kind: 'tokens' }
  /** Queries are the tokens; keys are a fixed memory, such as encoded audio. */
  | { readonly kind: 'cross'; readonly keyLength: number }
  /** Fixed by the model: `groups` independent sequences of `length` (windows of an image, or one whole image). Never decoded. */
  | { readonly kind: 'fixed'; readonly length: number; readonly groups: number };

/** One attention layer shape and how many layers of the model have it. */
export interface AttentionLayer {
  readonly name: string;
  readonly count: number;
  readonly heads: number;
  readonly keyHeads: number;
  /** Width of queries and keys per head. */
  readonly queryDim: number;
  readonly valueDim: number;
  readonly scoring: LayerScoring;
  readonly scale: number;
  readonly mask: LayerMask;
  /** cap · tanh(score / cap), or null. */
  readonly softcap: number | null;
  /** One learned logit per query head in the softmax denominator. */
  readonly sink: boolean;
  readonly normalization: 'softmax' | 'sparsemax' | 'entmax-1.5';
  readonly position: PositionScheme;
  readonly lengths: LayerLengths;
}

/** A model as far as its attention goes. */
export interface Model {
  readonly name: string;
  readonly layers: readonly AttentionLayer[];
  /** Tokens measured unless `--tokens` says otherwise; null when the model fixes every length. */
  readonly defaultTokens: number | null;
  /** Longest sequence the model was made for; null when it has no such limit or fixes every length. */
  readonly maxTokens: number | null;
  /** Whether the model generates token by token. */
  readonly generates: boolean;
}

/** What most layers share; a model's own row says where it differs. */
export function attentionLayer(
  layer: Pick<AttentionLayer, 'name' | 'count' | 'heads' | 'queryDim'> & Partial<AttentionLayer>,
): AttentionLayer {
  return {
    keyHeads: layer.heads,
    valueDim: layer.queryDim,
    scoring: { kind: 'dot' },
    scale: layer.queryDim ** -0.5,
    mask: { kind: 'causal' },
    softcap: null,
    sink: false,
    normalization: 'softmax',
    position: { kind: 'learned' },
    lengths: { kind: 'tokens' },
    ...layer,
  };
}

/** A window that counts the query's own position, as configuration files state it, becomes a left extent that does not. */
export function causalWindow(countingSelf: number): LayerMask {
  return { kind: 'causal-window', left: countingSelf - 1 };
}

const gpt2: Model = {
  name: 'gpt2',
  defaultTokens: 256,
  maxTokens: 1024,
  generates: true,
  layers: [attentionLayer({ name: 'self', count: 12, heads: 12, queryDim: 64 })],
};

const bertBase: Model = {
  name: 'bert-base',
  defaultTokens: 256,
  maxTokens: 512,
  generates: false,
  layers: [attentionLayer({ name: 'self', count: 12, heads: 12, queryDim: 64, mask: { kind: 'all' } })],
};

// 30 s of audio are 3000 mel frames; the strided convolution leaves 1500 positions.
const whisperTiny: Model = {
  name: 'whisper-tiny',
  defaultTokens: 128,
  maxTokens: 448,
  generates: true,
  layers: [
    attentionLayer({
      name: 'encoder',
      count: 4,
      heads: 6,
      queryDim: 64,
      mask: { kind: 'all' },
      position: { kind: 'sinusoidal' },
      lengths: { kind: 'fixed', length: 1500, groups: 1 },
    }),
    attentionLayer({ name: 'decoder-self', count: 4, heads: 6, queryDim: 64 }),
    attentionLayer({
      name: 'decoder-cross',
      count: 4,
      heads: 6,
      queryDim: 64,
      mask: { kind: 'all' },
      position: { kind: 'none' },
      lengths: { kind: 'cross', keyLength: 1500 },
    }),
  ],
};

const llama32Of1B: Model = {
  name: 'llama-3.2-1b',
  defaultTokens: 256,
  maxTokens: 131072,
  generates: true,
  layers: [
    attentionLayer({
      name: 'self',
      count: 16,
      heads: 32,
      keyHeads: 8,
      queryDim: 64,
      position: { kind: 'rotary', base: 500000 },
    }),
  ],
};

const mistral7B: Model = {
  name: 'mistral-7b',
  defaultTokens: 256,
  maxTokens: 32768,
  generates: true,
  layers: [
    attentionLayer({
      name: 'window',
      count: 32,
      heads: 32,
      keyHeads: 8,
      queryDim: 128,
      mask: causalWindow(4096),
      position: { kind: 'rotary', base: 10000 },
    }),
  ],
};

// The score is divided by the square root of query_pre_attn_scalar (256), which for this size equals the head width.
const gemma2Of2B: Model = {
  name: 'gemma-2-2b',
  defaultTokens: 256,
  maxTokens: 8192,
  generates: true,
  layers: (['window', 'global'] as const).map((name) =>
    attentionLayer({
      name,
      count: 13,
      heads: 8,
      keyHeads: 4,
      queryDim: 256,
      scale: 256 ** -0.5,
      mask: name === 'window' ? causalWindow(4096) : { kind: 'causal' },
      softcap: 50,
      position: { kind: 'rotary', base: 10000 },
    }),
  ),
};

const gptOss20B: Model = {
  name: 'gpt-oss-20b',
  defaultTokens: 256,
  maxTokens: 131072,
  generates: true,
  layers: (['window', 'global'] as const).map((name) =>
    attentionLayer({
      name,
      count: 12,
      heads: 64,
      keyHeads: 8,
      queryDim: 64,
      mask: name === 'window' ? causalWindow(128) : { kind: 'causal' },
      sink: true,
      position: { kind: 'rotary', base: 150000 },
    }),
  ),
};

// 224 × 224 pixels in patches of 16: 14 × 14 patches and one class token.
const vitB16: Model = {
  name: 'vit-b-16',
  defaultTokens: null,
  maxTokens: null,
  generates: false,
  layers: [
    attentionLayer({
      name: 'self',
      count: 12,
      heads: 12,
      queryDim: 64,
      mask: { kind: 'all' },
      lengths: { kind: 'fixed', length: 197, groups: 1 },
    }),
  ],
};

// 1024 × 1024 pixels in patches of 16: 64 × 64. Windows of 14 × 14 pad it to 70 × 70, which is 5 × 5 windows. Layers 2, 5, 8 and 11 are global.
const samVitB: Model = {
  name: 'sam-vit-b',
  defaultTokens: null,
  maxTokens: null,
  generates: false,
  layers: [
    attentionLayer({
      name: 'window',
      count: 8,
      heads: 12,
      queryDim: 64,
      mask: { kind: 'all' },
      position: { kind: 'decomposed', side: 14 },
      lengths: { kind: 'fixed', length: 14 * 14, groups: 25 },
    }),
    attentionLayer({
      name: 'global',
      count: 4,
      heads: 12,
      queryDim: 64,
      mask: { kind: 'all' },
      position: { kind: 'decomposed', side: 64 },
      lengths: { kind: 'fixed', length: 64 * 64, groups: 1 },
    }),
  ],
};

/** The presets, by the name that `--model` takes. */
export const models: readonly Model[] = [
  gpt2,
  bertBase,
  whisperTiny,
  llama32Of1B,
  mistral7B,
  gemma2Of2B,
  gptOss20B,
  vitB16,
  samVitB,
];
