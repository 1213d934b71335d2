import { isAttentionError } from '@heed/core';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../src/config.ts';
import { models } from '../src/models.ts';

// The attention fields of the config.json files published with the checkpoints; fields that hubs leave out are left out here.
const published: Readonly<Record<string, unknown>> = {
  gpt2: { model_type: 'gpt2', n_ctx: 1024, n_embd: 768, n_head: 12, n_layer: 12, n_positions: 1024 },
  'bert-base': { model_type: 'bert', hidden_size: 768, num_attention_heads: 12, num_hidden_layers: 12, max_position_embeddings: 512, position_embedding_type: 'absolute' },
  'whisper-tiny': { model_type: 'whisper', d_model: 384, encoder_layers: 4, encoder_attention_heads: 6, decoder_layers: 4, decoder_attention_heads: 6, max_source_positions: 1500, max_target_positions: 448 },
  'llama-3.2-1b': { model_type: 'llama', head_dim: 64, hidden_size: 2048, num_attention_heads: 32, num_hidden_layers: 16, num_key_value_heads: 8, max_position_embeddings: 131072, rope_theta: 500000.0 },
  'mistral-7b': { model_type: 'mistral', hidden_size: 4096, num_attention_heads: 32, num_hidden_layers: 32, num_key_value_heads: 8, sliding_window: 4096, max_position_embeddings: 32768, rope_theta: 10000.0 },
  'gemma-2-2b': { model_type: 'gemma2', attn_logit_softcapping: 50.0, head_dim: 256, hidden_size: 2304, num_attention_heads: 8, num_hidden_layers: 26, num_key_value_heads: 4, query_pre_attn_scalar: 256, sliding_window: 4096, max_position_embeddings: 8192, rope_theta: 10000.0 },
  'gpt-oss-20b': { model_type: 'gpt_oss', head_dim: 64, hidden_size: 2880, num_attention_heads: 64, num_hidden_layers: 24, num_key_value_heads: 8, sliding_window: 128, max_position_embeddings: 131072, rope_theta: 150000, layer_types: Array.from({ length: 24 }, (_, layer) => (layer % 2 === 0 ? 'sliding_attention' : 'full_attention')) },
  'vit-b-16': { model_type: 'vit', hidden_size: 768, image_size: 224, num_attention_heads: 12, num_hidden_layers: 12, patch_size: 16 },
  'sam-vit-b': { model_type: 'sam', vision_config: { global_attn_indexes: [2, 5, 8, 11], hidden_size: 768, image_size: 1024, num_attention_heads: 12, num_hidden_layers: 12, patch_size: 16, use_rel_pos: true, window_size: 14 } },
};

function read(config: unknown): ReturnType<typeof parseConfig> {
  return parseConfig(JSON.stringify(config), 'small', 'some/config.json');
}

function codeOf(text: string): string {
  try {
    parseConfig(text, 'small', 'some/config.json');
  } catch (error) {
    if (isAttentionError(error)) return error.code;
    throw error;
  }
  return 'none';
}

test.each(models.map(({ name }) => name))('the published file of %s gives the preset', (name) => {
  expect(parseConfig(JSON.stringify(published[name]), name, 'config.json')).toEqual(models.find((model) => model.name === name));
});

describe('a decoder', () => {
  const llama = { model_type: 'llama', hidden_size: 64, num_attention_heads: 4, num_hidden_layers: 2 };

  test('has one key head per head and dim hidden_size / heads when the file is silent', () => {
    expect(read(llama).layers).toMatchObject([{ heads: 4, keyHeads: 4, queryDim: 16, valueDim: 16, scale: 0.25, mask: { kind: 'causal' } }]);
  });

  test('has no window when the file says null, as mistral 0.2 does', () => {
    const mistral = { ...llama, model_type: 'mistral', num_key_value_heads: 2 };
    expect(read({ ...mistral, sliding_window: null }).layers).toMatchObject([{ mask: { kind: 'causal' } }]);
    expect(read({ ...mistral, sliding_window: 5 }).layers).toMatchObject([{ mask: { kind: 'causal-window', left: 4 } }]);
  });

  test('has a window in qwen2 only with use_sliding_window, and only from max_window_layers on', () => {
    const qwen = { ...llama, model_type: 'qwen2', num_hidden_layers: 10, num_key_value_heads: 2, sliding_window: 32, max_window_layers: 7 };
    expect(read({ ...qwen, use_sliding_window: false }).layers).toMatchObject([{ count: 10, mask: { kind: 'causal' } }]);
    expect(read({ ...qwen, use_sliding_window: true }).layers).toMatchObject([{ count: 3, mask: { kind: 'causal-window', left: 31 } }, { count: 7, mask: { kind: 'causal' } }]);
  });

  test('of gemma3 has five local layers to each global one', () => {
    const gemma = { model_type: 'gemma3', text_config: { hidden_size: 2560, num_hidden_layers: 34, sliding_window: 1024 } };
    expect(read(gemma).layers).toMatchObject([{ count: 29, mask: { kind: 'causal-window', left: 1023 } }, { count: 5, mask: { kind: 'causal' } }]);
  });
});

test('gpt2 with scale_attn_by_inverse_layer_idx has one scale per layer', () => {
  const { layers } = read({ model_type: 'gpt2', n_layer: 2, n_head: 1, n_embd: 4, scale_attn_by_inverse_layer_idx: true });
  expect(layers.map(({ scale, count }) => [scale, count])).toEqual([[0.5, 1], [0.25, 1]]);
});

test('bloom has ALiBi', () => {
  expect(read({ model_type: 'bloom', n_head: 16, hidden_size: 1024, n_layer: 24 }).layers).toMatchObject([{ count: 24, heads: 16, queryDim: 64, position: { kind: 'alibi' } }]);
});

describe('a broken file', () => {
  const llama = { model_type: 'llama', hidden_size: 64, num_attention_heads: 4, num_hidden_layers: 2 };
  const broken: readonly (readonly [string, unknown])[] = [
    ['heads are missing', { ...llama, num_attention_heads: undefined }],
    ['heads are text', { ...llama, num_attention_heads: '4' }],
    ['heads are zero', { ...llama, num_attention_heads: 0 }],
    ['heads are negative', { ...llama, num_attention_heads: -4 }],
    ['heads are no integer', { ...llama, num_attention_heads: 4.5 }],
    ['the width is no multiple of the heads', { ...llama, hidden_size: 65 }],
    ['the heads are no multiple of the key heads', { ...llama, num_key_value_heads: 3 }],
    ['there are millions of layers', { ...llama, num_hidden_layers: 5_000_000 }],
    ['layer_types has another length', { ...llama, model_type: 'gpt_oss', layer_types: ['full_attention'] }],
    ['the model type is missing', { hidden_size: 64 }],
    ['it is a list', []],
    ['it is null', null],
  ];
  test.each(broken)('is refused as invalid-file when %s', (_, config) => {
    expect(codeOf(JSON.stringify(config))).toBe('invalid-file');
  });

  test('is refused when it is not JSON', () => {
    expect(codeOf('{"model_type": "gpt2",')).toBe('invalid-file');
    expect(codeOf('')).toBe('invalid-file');
  });

  test('is named by its path, with what its parser says or what is missing', () => {
    expect(() => parseConfig('{"model_type": "gpt2",', 'small', 'some/config.json')).toThrow(/^some\/config\.json is not JSON: .*JSON/);
    expect(() => read({ ...llama, num_attention_heads: undefined })).toThrow(/^some\/config\.json: num_attention_heads is missing; expected an integer/);
  });

  test('of another architecture is refused as unsupported', () => {
    expect(codeOf('{"model_type": "mamba2"}')).toBe('unsupported');
    expect(codeOf(JSON.stringify({ ...llama, model_type: 'gpt_oss', num_key_value_heads: 4, layer_types: ['full_attention', 'chunked_attention'] }))).toBe('unsupported');
    expect(codeOf('{"model_type": "bert", "position_embedding_type": "relative_key"}')).toBe('unsupported');
  });

  test('never makes anything but a model with positive counts, or a typed error', () => {
    const types = ['gpt2', 'bert', 'distilbert', 'bloom', 'llama', 'mistral', 'mixtral', 'phi3', 'qwen2', 'qwen3', 'gemma', 'gemma2', 'gemma3', 'gpt_oss', 'whisper', 'vit', 'sam'];
    const fields = [...new Set(Object.values(published).flatMap((config) => Object.keys(config as object)))].filter((name) => name !== 'model_type');
    const value = fc.oneof(fc.jsonValue(), fc.integer({ min: -2, max: 64 }), fc.constant(null), fc.array(fc.constantFrom('full_attention', 'sliding_attention')));
    fc.assert(
      fc.property(fc.constantFrom(...types), fc.dictionary(fc.constantFrom(...fields), value), (type, changes) => {
        const base = Object.values(published).find((config) => (config as { model_type: string }).model_type === type) ?? {};
        const text = JSON.stringify({ ...base, ...changes, model_type: type });
        const code = codeOf(text);
        expect(['none', 'invalid-file', 'unsupported']).toContain(code);
        if (code === 'none') for (const { count, heads, keyHeads, scale } of parseConfig(text, 'x', 'x.json').layers) expect(count > 0 && heads % keyHeads === 0 && scale > 0).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});
