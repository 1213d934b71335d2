import { fused, separate, type AttentionLocation, type WeightNames } from './location.ts';

/** An architecture whose weights heed finds by name. */
export type WeightModel = 'gpt2' | 'llama' | 'mistral' | 'gemma2' | 'bert' | 't5' | 'whisper' | 'vit';

const decoderProjections = { query: 'q_proj', key: 'k_proj', value: 'v_proj', output: 'o_proj' } as const;
const speechProjections = { query: 'q_proj', key: 'k_proj', value: 'v_proj', output: 'out_proj' } as const;
const t5Projections = { query: 'q', key: 'k', value: 'v', output: 'o' } as const;
const never = { query: 'never', key: 'never', value: 'never', output: 'never' } as const;
const perhaps = { query: 'perhaps', key: 'perhaps', value: 'perhaps', output: 'perhaps' } as const;
const always = { query: 'always', key: 'always', value: 'always', output: 'always' } as const;

/** Llama and its heirs: grouped heads, no biases unless the configuration says so. */
const llama: WeightNames = {
  prefixes: ['model.', '', 'language_model.model.'],
  forms: [{ self: (layer) => separate(`layers.${layer}.self_attn.`, decoderProjections, perhaps) }],
};

function t5(stack: 'encoder' | 'decoder', place: string): (layer: number) => AttentionLocation {
  return (layer) => separate(`${stack}.block.${layer}.layer.${place}.`, t5Projections, never);
}

/** Whisper's keys have no bias, since it would add the same to every score of a row. */
function whisper(stack: 'encoder' | 'decoder', attention: 'self_attn' | 'encoder_attn'): (layer: number) => AttentionLocation {
  return (layer) => separate(`${stack}.layers.${layer}.${attention}.`, speechProjections, { ...always, key: 'never' });
}

/** Names of attention weights by architecture, as the checkpoints that huggingface/transformers reads have them; a vision transformer's also as timm writes it. */
export const weightNames: Readonly<Record<WeightModel, WeightNames>> = {
  gpt2: {
    prefixes: ['', 'transformer.'],
    forms: [{ self: (layer) => fused(`h.${layer}.attn.`, { projections: 'c_attn', output: 'c_proj' }, 'inputs first') }],
  },
  llama,
  mistral: llama,
  gemma2: llama,
  bert: {
    prefixes: ['bert.', '', 'roberta.'],
    forms: [{ self: (layer) => separate(`encoder.layer.${layer}.attention.`, { query: 'self.query', key: 'self.key', value: 'self.value', output: 'output.dense' }, always) }],
  },
  t5: {
    prefixes: [''],
    forms: [{ encoder: t5('encoder', '0.SelfAttention'), decoder: t5('decoder', '0.SelfAttention'), cross: t5('decoder', '1.EncDecAttention') }],
  },
  whisper: {
    prefixes: ['model.', ''],
    forms: [{ encoder: whisper('encoder', 'self_attn'), decoder: whisper('decoder', 'self_attn'), cross: whisper('decoder', 'encoder_attn') }],
  },
  vit: {
    prefixes: ['vit.', ''],
    forms: [
      { self: (layer) => separate(`encoder.layer.${layer}.attention.`, { query: 'attention.query', key: 'attention.key', value: 'attention.value', output: 'output.dense' }, perhaps) },
      { self: (layer) => fused(`blocks.${layer}.attn.`, { projections: 'qkv', output: 'proj' }, 'outputs first') },
    ],
  },
};
