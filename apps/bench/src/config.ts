/**
 * Reads the config.json that model hubs publish beside a checkpoint, and keeps what concerns attention.
 *
 * One row per `model_type`. A field that a file leaves out has the default of that architecture's published configuration class
 * (huggingface/transformers, configuration_*.py); where that class has none, the file is refused.
 */
import { AttentionError } from '@heed/core';
import { Fields, unexpected } from './json-fields.ts';
import { attentionLayer, type AttentionLayer, causalWindow, type Model, type PositionScheme } from './models.ts';

const architectures: ReadonlyMap<string, (config: Fields) => Omit<Model, 'name'>> = new Map([
  ['gpt2', readGpt2],
  ['bert', readBert],
  ['roberta', readBert],
  ['xlm-roberta', readBert],
  ['distilbert', readDistilBert],
  ['bloom', readBloom],
  ['llama', decoder({})],
  ['mistral', decoder({ keyHeads: 8, window: 4096 })],
  ['mixtral', decoder({ keyHeads: 8, window: null, base: 1e6 })],
  ['phi3', decoder({ window: null })],
  ['qwen2', decoder({ window: 4096, windowFlag: true, windowed: afterMaxWindowLayers })],
  ['qwen3', decoder({ dim: 128, window: 4096, windowFlag: true, windowed: afterMaxWindowLayers })],
  ['qwen3_moe', decoder({ window: 4096, windowFlag: true, windowed: afterMaxWindowLayers })],
  ['gemma', decoder({ dim: 256 })],
  ['gemma2', decoder({ heads: 8, keyHeads: 4, dim: 256, window: 4096, windowed: everyOther, scalar: 256, softcap: 50 })],
  ['gemma3', (config: Fields) => readGemma3(config.nested('text_config'))],
  ['gemma3_text', readGemma3],
  ['gpt_oss', decoder({ heads: 64, keyHeads: 8, dim: 64, window: 128, windowed: everyOther, sink: true, base: 150000 })],
  ['whisper', readWhisper],
  ['vit', readVit],
  ['sam', (config: Fields) => readSam(config.nested('vision_config'))],
  ['sam_vision_model', readSam],
]);

/**
 * The attention of a published model.
 *
 * @param text the content of config.json
 * @param name what to call the model
 * @param path where the file is, for messages
 * @throws AttentionError `invalid-file` for broken JSON or a field of the wrong kind, `unsupported` for another architecture
 */
export function parseConfig(text: string, name: string, path: string): Model {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new AttentionError('invalid-file', `${path} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}.`, 'Pass the config.json that is published with the weights.', { cause });
  }
  const config = new Fields(parsed, path);
  const type = config.text('model_type');
  const read = architectures.get(type);
  if (read === undefined) {
    throw new AttentionError('unsupported', `${path} has model_type '${type}'.`, `Known: ${[...architectures.keys()].join(', ')}.`);
  }
  return { name, ...read(config) };
}

function divided(config: Fields, width: number, by: number, name: string): number {
  if (width % by !== 0) throw unexpected(config.at(name), by, `a divisor of the width ${width}`);
  return width / by;
}

// Larger than any published depth; keeps a hostile file from asking for millions of layer descriptions.
const maxLayers = 4096;

function layerCount(config: Fields, name: string, fallback?: number): number {
  const layers = config.count(name, fallback);
  if (layers > maxLayers) throw unexpected(config.at(name), layers, `at most ${maxLayers} layers`);
  return layers;
}

const tokensOfText = { defaultTokens: 256 } as const;

function readGpt2(config: Fields): Omit<Model, 'name'> {
  const heads = config.count('n_head', 12);
  const queryDim = divided(config, config.count('n_embd', 768), heads, 'n_head');
  const layers = layerCount(config, 'n_layer', 12);
  const scale = config.flag('scale_attn_weights', true) ? queryDim ** -0.5 : 1;
  const byDepth = config.flag('scale_attn_by_inverse_layer_idx', false);
  return {
    ...generator(config.count('n_positions', 1024)),
    layers: byDepth
      ? Array.from({ length: layers }, (_, depth) => attentionLayer({ name: `self-${depth}`, count: 1, heads, queryDim, scale: scale / (depth + 1) }))
      : [attentionLayer({ name: 'self', count: layers, heads, queryDim, scale })],
  };
}

function readBert(config: Fields): Omit<Model, 'name'> {
  const positions = config.text('position_embedding_type', 'absolute');
  if (positions !== 'absolute') {
    throw new AttentionError('unsupported', `${config.at('position_embedding_type')} is '${positions}'.`, "Only 'absolute' is read here.");
  }
  return encoder(config, layerCount(config, 'num_hidden_layers', 12), config.count('num_attention_heads', 12), config.count('hidden_size', 768));
}

function readDistilBert(config: Fields): Omit<Model, 'name'> {
  return encoder(config, layerCount(config, 'n_layers', 6), config.count('n_heads', 12), config.count('dim', 768));
}

function encoder(config: Fields, count: number, heads: number, width: number): Omit<Model, 'name'> {
  const maxTokens = config.count('max_position_embeddings', 512);
  const queryDim = divided(config, width, heads, 'num_attention_heads');
  return {
    defaultTokens: Math.min(256, maxTokens),
    maxTokens,
    generates: false,
    layers: [attentionLayer({ name: 'self', count, heads, queryDim, mask: { kind: 'all' } })],
  };
}

function readBloom(config: Fields): Omit<Model, 'name'> {
  const heads = config.count('n_head', config.count('num_attention_heads', 8));
  const queryDim = divided(config, config.count('hidden_size', config.count('n_embed', 64)), heads, 'n_head');
  const count = layerCount(config, 'n_layer', layerCount(config, 'num_hidden_layers', 2));
  return { ...tokensOfText, maxTokens: null, generates: true, layers: [attentionLayer({ name: 'self', count, heads, queryDim, position: { kind: 'alibi' } })] };
}

/** What an architecture's configuration class says where a file is silent. */
interface DecoderDefaults {
  /** Query heads; without it a file must say. */
  readonly heads?: number;
  /** Key heads; otherwise one per query head. */
  readonly keyHeads?: number;
  /** Head width; otherwise hidden_size / num_attention_heads. */
  readonly dim?: number;
  /** Sliding window, itself counted; null: none; undefined: the architecture has no such field. */
  readonly window?: number | null;
  /** The window counts only where `use_sliding_window` is true. */
  readonly windowFlag?: boolean;
  /** Which layers have the window; otherwise all. */
  readonly windowed?: (config: Fields, layer: number) => boolean;
  /** The score is divided by the square root of this; otherwise of the head width. */
  readonly scalar?: number;
  readonly softcap?: number;
  readonly sink?: boolean;
  /** Rotary base; otherwise 10000. */
  readonly base?: number;
}

/** The decoders that differ only in numbers: rotary positions, grouped heads, a window on some layers. */
function decoder(defaults: DecoderDefaults): (config: Fields) => Omit<Model, 'name'> {
  return (config) => readDecoder(config, defaults);
}

function readDecoder(config: Fields, defaults: DecoderDefaults): Omit<Model, 'name'> {
  const heads = config.count('num_attention_heads', defaults.heads);
  const keyHeads = config.count('num_key_value_heads', defaults.keyHeads ?? heads);
  if (heads % keyHeads !== 0) throw unexpected(config.at('num_key_value_heads'), keyHeads, `a divisor of the ${heads} query heads`);
  const statesDim = config.has('head_dim') || defaults.dim !== undefined;
  const queryDim = statesDim ? config.count('head_dim', defaults.dim) : divided(config, config.count('hidden_size'), heads, 'num_attention_heads');
  const shape = {
    heads,
    keyHeads,
    queryDim,
    scale: config.positive('query_pre_attn_scalar', defaults.scalar ?? queryDim) ** -0.5,
    softcap: config.positiveOrNull('attn_logit_softcapping', defaults.softcap ?? null),
    sink: defaults.sink ?? false,
    position: rotary(config, defaults.base ?? 10000),
  };
  const count = layerCount(config, 'num_hidden_layers');
  const window = slidingWindow(config, defaults);
  const windowed = window === null ? 0 : windowedLayers(config, count, defaults.windowed ?? (() => true));
  const local = window === null ? [] : [attentionLayer({ ...shape, name: 'window', count: windowed, mask: causalWindow(window) })];
  const global = attentionLayer({ ...shape, name: windowed === 0 ? 'self' : 'global', count: count - windowed });
  return { ...generator(config.count('max_position_embeddings', 131072)), layers: [...local, global].filter((layer) => layer.count > 0) };
}

function generator(maxTokens: number): Omit<Model, 'name' | 'layers'> {
  return { defaultTokens: Math.min(256, maxTokens), maxTokens, generates: true };
}

function slidingWindow(config: Fields, { window: fallback, windowFlag = false }: DecoderDefaults): number | null {
  if (fallback === undefined || (windowFlag && !config.flag('use_sliding_window', false))) return null;
  // gpt-oss writes 0 for "no window".
  const window = config.indexOrNull('sliding_window', fallback);
  return window === 0 ? null : window;
}

function windowedLayers(config: Fields, count: number, rule: (config: Fields, layer: number) => boolean): number {
  if (!config.has('layer_types')) return Array.from({ length: count }, (_, layer) => rule(config, layer)).filter(Boolean).length;
  const types = config.texts('layer_types');
  if (types.length !== count) throw unexpected(config.at('layer_types'), types, `${count} entries, one per layer`);
  const unknown = types.find((type) => type !== 'sliding_attention' && type !== 'full_attention');
  if (unknown !== undefined) throw new AttentionError('unsupported', `${config.at('layer_types')} has '${unknown}'.`, "Known: 'full_attention', 'sliding_attention'.");
  return types.filter((type) => type === 'sliding_attention').length;
}

function everyOther(_config: Fields, layer: number): boolean {
  return layer % 2 === 0;
}

function afterMaxWindowLayers(config: Fields, layer: number): boolean {
  return layer >= config.index('max_window_layers', 28);
}

function rotary(config: Fields, base: number): PositionScheme {
  return { kind: 'rotary', base: config.nested('rope_parameters').positive('rope_theta', config.positive('rope_theta', base)) };
}

// Five local layers, then a global one. Published files of this family leave most numbers to the defaults.
function readGemma3(config: Fields): Omit<Model, 'name'> {
  const pattern = config.count('sliding_window_pattern', 6);
  return readDecoder(config, { heads: 8, keyHeads: 4, dim: 256, window: 4096, windowed: (_, layer) => (layer + 1) % pattern !== 0, scalar: 256, base: 1e6 });
}

function readWhisper(config: Fields): Omit<Model, 'name'> {
  const width = config.count('d_model');
  const audio = config.count('max_source_positions', 1500);
  const maxTokens = config.count('max_target_positions', 448);
  const encoderHeads = config.count('encoder_attention_heads');
  const decoderHeads = config.count('decoder_attention_heads');
  const shape = { count: layerCount(config, 'decoder_layers'), heads: decoderHeads, queryDim: divided(config, width, decoderHeads, 'decoder_attention_heads') };
  return {
    defaultTokens: Math.min(128, maxTokens),
    maxTokens,
    generates: true,
    layers: [
      attentionLayer({
        name: 'encoder',
        count: layerCount(config, 'encoder_layers'),
        heads: encoderHeads,
        queryDim: divided(config, width, encoderHeads, 'encoder_attention_heads'),
        mask: { kind: 'all' },
        position: { kind: 'sinusoidal' },
        lengths: { kind: 'fixed', length: audio, groups: 1 },
      }),
      attentionLayer({ name: 'decoder-self', ...shape }),
      attentionLayer({ name: 'decoder-cross', ...shape, mask: { kind: 'all' }, position: { kind: 'none' }, lengths: { kind: 'cross', keyLength: audio } }),
    ],
  };
}

function readVit(config: Fields): Omit<Model, 'name'> {
  const heads = config.count('num_attention_heads', 12);
  const side = patches(config, 224);
  return {
    ...fixedLengths,
    layers: [
      attentionLayer({
        name: 'self',
        count: layerCount(config, 'num_hidden_layers', 12),
        heads,
        queryDim: divided(config, config.count('hidden_size', 768), heads, 'num_attention_heads'),
        mask: { kind: 'all' },
        // One class token joins the patches.
        lengths: { kind: 'fixed', length: side * side + 1, groups: 1 },
      }),
    ],
  };
}

function readSam(config: Fields): Omit<Model, 'name'> {
  const heads = config.count('num_attention_heads', 12);
  const queryDim = divided(config, config.count('hidden_size', 768), heads, 'num_attention_heads');
  const count = layerCount(config, 'num_hidden_layers', 12);
  const side = patches(config, 1024);
  const window = config.index('window_size', 14);
  const globalLayers = new Set(config.indices('global_attn_indexes', [2, 5, 8, 11]).filter((layer) => layer < count)).size;
  const global = window === 0 ? count : globalLayers;
  const relative = config.flag('use_rel_pos', true);
  const layer = (name: string, layers: number, edge: number, groups: number): AttentionLayer =>
    attentionLayer({
      name,
      count: layers,
      heads,
      queryDim,
      mask: { kind: 'all' },
      position: relative ? { kind: 'decomposed', side: edge } : { kind: 'learned' },
      lengths: { kind: 'fixed', length: edge * edge, groups },
    });
  const windows = window === 0 ? 0 : Math.ceil(side / window) ** 2;
  return { ...fixedLengths, layers: [layer('window', count - global, window, windows), layer('global', global, side, 1)].filter((row) => row.count > 0) };
}

const fixedLengths = { defaultTokens: null, maxTokens: null, generates: false } as const;

function patches(config: Fields, imageSize: number): number {
  const image = config.count('image_size', imageSize);
  const patch = config.count('patch_size', 16);
  if (patch > image) throw unexpected(config.at('patch_size'), patch, `at most the image size ${image}`);
  return Math.floor(image / patch);
}
