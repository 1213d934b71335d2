import { tensor, toFloat64, type HostTensor, type Tensor } from '@heed/core';
import { describe, expect, test } from 'vitest';
import { readAttentionWeights, type ReadAttentionOptions } from '../../src/weights/models/read-attention.ts';
import { openSafetensors, type SafetensorsFile } from '../../src/weights/safetensors/read.ts';
import { safetensorsOf } from '../../src/weights/safetensors/write.ts';
import { bytesSource } from '../../src/weights/sources/bytes.ts';
import { bytesOf } from './bytes-of.ts';

const [dim, heads, keyHeads, headDim] = [6, 4, 2, 3];

/** Row r, column c of a weight called by a number. */
function matrix(rows: number, columns: number, which: number): HostTensor {
  return tensor(Float32Array.from({ length: rows * columns }, (_, place) => which * 1000 + place), [rows, columns]);
}

function vector(length: number, which: number): HostTensor {
  return tensor(Float32Array.from({ length }, (_, place) => which * 1000 + 500 + place), [length]);
}

function turned(source: HostTensor): HostTensor {
  const [rows = 0, columns = 0] = source.shape;
  const values = toFloat64(source);
  return tensor(Float32Array.from({ length: rows * columns }, (_, place) => values[(place % rows) * columns + Math.floor(place / rows)] ?? 0), [columns, rows]);
}

/** [a; b; c] along the first axis. */
function stacked(...parts: readonly HostTensor[]): HostTensor {
  return tensor(Float32Array.from(parts.flatMap((part) => [...toFloat64(part)])), [parts.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0), ...(parts[0]?.shape.slice(1) ?? [])]);
}

async function fileOf(tensors: Readonly<Record<string, HostTensor>>): Promise<SafetensorsFile> {
  return openSafetensors(bytesSource(await bytesOf(safetensorsOf(tensors))));
}

const query = matrix(heads * headDim, dim, 1);
const key = matrix(keyHeads * headDim, dim, 2);
const value = matrix(keyHeads * headDim, dim, 3);
const output = matrix(dim, heads * headDim, 4);
const wide = { key: matrix(heads * headDim, dim, 2), value: matrix(heads * headDim, dim, 3) };
const biases = { query: vector(heads * headDim, 1), key: vector(heads * headDim, 2), value: vector(heads * headDim, 3), output: vector(dim, 4) };
const grouped = { heads, keyHeads, dim, headDim };
const equal = { heads, dim, headDim };

interface Layout {
  readonly tensors: Readonly<Record<string, HostTensor>>;
  readonly options: Omit<ReadAttentionOptions, 'layer'>;
  readonly weights: Readonly<Record<string, HostTensor>>;
}

// Names as the published checkpoints have them: written out, so that a slip in the tables shows.
const layouts: Readonly<Record<string, Layout>> = {
  'gpt2, fused and transposed': {
    tensors: { 'h.3.attn.c_attn.weight': turned(stacked(query, wide.key, wide.value)), 'h.3.attn.c_attn.bias': stacked(biases.query, biases.key, biases.value), 'h.3.attn.c_proj.weight': turned(output), 'h.3.attn.c_proj.bias': biases.output },
    options: { model: 'gpt2', ...equal },
    weights: { query, ...wide, output, queryBias: biases.query, keyBias: biases.key, valueBias: biases.value, outputBias: biases.output },
  },
  'gpt2 in a file of the whole model': {
    tensors: { 'transformer.h.3.attn.c_attn.weight': turned(stacked(query, wide.key, wide.value)), 'transformer.h.3.attn.c_proj.weight': turned(output) },
    options: { model: 'gpt2', ...equal },
    weights: { query, ...wide, output },
  },
  ...Object.fromEntries((['llama', 'mistral', 'gemma2'] as const).map((model) => [`${model}, grouped heads`, {
    tensors: { 'model.layers.3.self_attn.q_proj.weight': query, 'model.layers.3.self_attn.k_proj.weight': key, 'model.layers.3.self_attn.v_proj.weight': value, 'model.layers.3.self_attn.o_proj.weight': output },
    options: { model, ...grouped },
    weights: { query, key, value, output },
  }])),
  bert: {
    tensors: {
      'bert.encoder.layer.3.attention.self.query.weight': query, 'bert.encoder.layer.3.attention.self.key.weight': wide.key, 'bert.encoder.layer.3.attention.self.value.weight': wide.value, 'bert.encoder.layer.3.attention.output.dense.weight': output,
      'bert.encoder.layer.3.attention.self.query.bias': biases.query, 'bert.encoder.layer.3.attention.self.key.bias': biases.key, 'bert.encoder.layer.3.attention.self.value.bias': biases.value, 'bert.encoder.layer.3.attention.output.dense.bias': biases.output,
    },
    options: { model: 'bert', ...equal },
    weights: { query, ...wide, output, queryBias: biases.query, keyBias: biases.key, valueBias: biases.value, outputBias: biases.output },
  },
  ...Object.fromEntries(([['encoder', 'encoder.block.3.layer.0.SelfAttention'], ['decoder', 'decoder.block.3.layer.0.SelfAttention'], ['cross', 'decoder.block.3.layer.1.EncDecAttention']] as const).map(([part, place]) => [`t5, ${part}`, {
    tensors: { [`${place}.q.weight`]: query, [`${place}.k.weight`]: wide.key, [`${place}.v.weight`]: wide.value, [`${place}.o.weight`]: output },
    options: { model: 't5' as const, part, ...equal },
    weights: { query, ...wide, output },
  }])),
  ...Object.fromEntries(([['encoder', 'model.encoder.layers.3.self_attn'], ['decoder', 'model.decoder.layers.3.self_attn'], ['cross', 'model.decoder.layers.3.encoder_attn']] as const).map(([part, place]) => [`whisper, ${part}, keys without bias`, {
    tensors: {
      [`${place}.q_proj.weight`]: query, [`${place}.k_proj.weight`]: wide.key, [`${place}.v_proj.weight`]: wide.value, [`${place}.out_proj.weight`]: output,
      [`${place}.q_proj.bias`]: biases.query, [`${place}.v_proj.bias`]: biases.value, [`${place}.out_proj.bias`]: biases.output,
    },
    options: { model: 'whisper' as const, part, ...equal },
    weights: { query, ...wide, output, queryBias: biases.query, valueBias: biases.value, outputBias: biases.output },
  }])),
  vit: {
    tensors: {
      'vit.encoder.layer.3.attention.attention.query.weight': query, 'vit.encoder.layer.3.attention.attention.key.weight': wide.key, 'vit.encoder.layer.3.attention.attention.value.weight': wide.value, 'vit.encoder.layer.3.attention.output.dense.weight': output,
      'vit.encoder.layer.3.attention.attention.query.bias': biases.query, 'vit.encoder.layer.3.attention.attention.key.bias': biases.key, 'vit.encoder.layer.3.attention.attention.value.bias': biases.value, 'vit.encoder.layer.3.attention.output.dense.bias': biases.output,
    },
    options: { model: 'vit', ...equal },
    weights: { query, ...wide, output, queryBias: biases.query, keyBias: biases.key, valueBias: biases.value, outputBias: biases.output },
  },
  'vit as timm writes it, fused': {
    tensors: { 'blocks.3.attn.qkv.weight': stacked(query, wide.key, wide.value), 'blocks.3.attn.qkv.bias': stacked(biases.query, biases.key, biases.value), 'blocks.3.attn.proj.weight': output, 'blocks.3.attn.proj.bias': biases.output },
    options: { model: 'vit', ...equal },
    weights: { query, ...wide, output, queryBias: biases.query, keyBias: biases.key, valueBias: biases.value, outputBias: biases.output },
  },
};

describe('the attention weights of a layer', () => {
  test.each(Object.entries(layouts))('%s', async (_name, { tensors, options, weights }) => {
    const read = (await readAttentionWeights(await fileOf(tensors), { ...options, layer: 3 })) as unknown as Readonly<Record<string, Tensor>>;
    const numbersOf = (all: Readonly<Record<string, Tensor>>): unknown => Object.fromEntries(Object.entries(all).map(([name, tensor]) => [name, [tensor.shape, [...toFloat64(tensor as HostTensor)]]]));
    expect(numbersOf(read)).toEqual(numbersOf(weights));
  });

  test('may be rounded on the way', async () => {
    const { tensors, options } = layouts['gpt2, fused and transposed']!;
    const { query: read } = await readAttentionWeights(await fileOf(tensors), { ...options, layer: 3, dtype: 'bf16' });
    expect(read.dtype).toBe('bf16');
  });
});

describe('a file that does not fit', () => {
  test('is told every missing name and every other shape at once', async () => {
    const tensors = { 'model.layers.0.self_attn.q_proj.weight': key, 'model.layers.0.self_attn.v_proj.weight': value, 'model.layers.0.self_attn.0_proj.weight': output };
    const reading = readAttentionWeights(await fileOf(tensors), { model: 'llama', layer: 0, ...grouped });
    await expect(reading).rejects.toMatchObject({
      code: 'invalid-file',
      message: expect.stringMatching(/q_proj\.weight' is \[6, 6\], expected \[12, 6\].*k_proj\.weight' is missing.*o_proj\.weight' is missing.*Did you mean/) as string,
    });
  });

  test('of an unknown model, a part that it lacks, or sizes that are none', async () => {
    const file = await fileOf({});
    await expect(readAttentionWeights(file, { model: 'gpt5' as 'gpt2', layer: 0, ...equal })).rejects.toMatchObject({ code: 'unsupported' });
    await expect(readAttentionWeights(file, { model: 'gpt2', layer: 0, part: 'cross', ...equal })).rejects.toMatchObject({ code: 'unsupported' });
    await expect(readAttentionWeights(file, { model: 'gpt2', layer: -1, ...equal })).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(readAttentionWeights(file, { model: 'gpt2', layer: 0, heads: 4, dim: 6 })).rejects.toMatchObject({ code: 'invalid-argument' });
  });
});
