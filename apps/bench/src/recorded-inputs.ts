import { type FileHandle, open } from 'node:fs/promises';
import { AttentionError, encode, type HostTensor, tensor, toFloat64 } from '@heed/core';
import { fileSource, openSafetensors, type SafetensorsFile } from '@heed/layers';
import { type BenchDtype, benchDtypes } from './dtypes.ts';
import { randomParameters } from './inputs.ts';
import type { Inputs } from './inputs.ts';
import { attentionLayer, type AttentionLayer, type Model } from './models.ts';
import type { Workload } from './workloads.ts';

/** Query, key and value that somebody recorded, rank 4. */
export interface Recorded {
  readonly query: HostTensor;
  readonly key: HostTensor;
  readonly value: HostTensor;
}

/**
 * Reads `query`, `key` and `value` (or `q`, `k`, `v`), each [heads, length, dim] or [batch, heads, length, dim].
 *
 * @throws AttentionError `invalid-file`, `invalid-shape`, `unsupported`
 */
export async function readRecorded(path: string): Promise<Recorded> {
  const file = await openSafetensors(fileSource(await openFile(path)));
  try {
    return { query: await readOne(file, 'query'), key: await readOne(file, 'key'), value: await readOne(file, 'value') };
  } finally {
    await file.close();
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r');
  } catch (cause) {
    throw new AttentionError('invalid-file', 'The file cannot be opened.', 'Check the path and its permissions.', { cause });
  }
}

async function readOne(file: SafetensorsFile, name: string): Promise<HostTensor> {
  const entry = file.entries.get(name) ?? file.entries.get(name.charAt(0));
  if (entry === undefined) {
    const names = [...file.entries.keys()].slice(0, 8).join(', ');
    throw new AttentionError('invalid-file', `The file has no tensor '${name}' or '${name.charAt(0)}'; it has ${names}.`, 'Name its tensors query, key and value.');
  }
  const rank = entry.shape.length;
  if ((rank !== 3 && rank !== 4) || entry.shape.includes(0)) {
    throw new AttentionError('invalid-shape', `'${entry.name}' has shape [${entry.shape.join(', ')}].`, 'Expected [heads, length, dim] or [batch, heads, length, dim], no size 0.');
  }
  const read = await file.read(entry.name);
  return rank === 4 ? read : tensor(read.view(), [1, ...read.shape], { dtype: read.dtype });
}

/**
 * The one call that recorded tensors stand for, and its inputs.
 *
 * The layer is the model's layer of the same heads and dims; without a model it is causal softmax attention with scale 1/√dim.
 *
 * @param asked storage type; null: the file's own where the bench has it, else f32
 * @throws AttentionError `invalid-shape` when the tensors do not fit each other or no layer of the model
 */
export function recordedCall(recorded: Recorded, model: Model | null, asked: BenchDtype | null): { readonly workload: Workload; readonly inputs: Inputs } {
  const { query, key, value } = recorded;
  const [batch = 0, heads = 0, queryLength = 0, queryDim = 0] = query.shape;
  const [keyBatch, keyHeads = 0, keyLength = 0, keyDim] = key.shape;
  const [valueBatch, valueHeads, valueLength, valueDim = 0] = value.shape;
  const fits = batch === keyBatch && batch === valueBatch && keyHeads === valueHeads && keyLength === valueLength && queryDim === keyDim && heads % keyHeads === 0;
  if (!fits) {
    const shapes = [query, key, value].map(({ shape }) => `[${shape.join(', ')}]`).join(', ');
    throw new AttentionError('invalid-shape', `Query, key and value have shapes ${shapes}.`, 'Expected one batch, one key length, one query width, and heads that are a multiple of the key heads.');
  }
  const layer = layerFor(model, attentionLayer({ name: 'recorded', count: 1, heads, keyHeads, queryDim, valueDim }));
  const dtype = asked ?? benchDtypes.find((known) => known === query.dtype) ?? 'f32';
  const workload: Workload = {
    id: `model/recorded/${layer.name}?lq=${queryLength},lk=${keyLength},batch=${batch},heads=${heads},keyHeads=${keyHeads},dim=${queryDim}`,
    suite: 'model',
    phase: queryLength === 1 ? 'decode' : 'prefill',
    layer: { ...layer, count: 1 },
    dtype,
    batch,
    queryLength,
    keyLength,
    queryOffset: layer.mask.kind === 'all' ? 0 : keyLength - queryLength,
  };
  const stored = (source: HostTensor): HostTensor => (source.dtype === dtype ? source : tensor(encode(toFloat64(source), dtype), source.shape, { dtype }));
  return { workload, inputs: { query: stored(query), key: stored(key), value: stored(value), parameters: randomParameters({ layer }) } };
}

function layerFor(model: Model | null, recorded: AttentionLayer): AttentionLayer {
  if (model === null) return recorded;
  const layer = model.layers.find(({ heads, keyHeads, queryDim, valueDim }) => heads === recorded.heads && keyHeads === recorded.keyHeads && queryDim === recorded.queryDim && valueDim === recorded.valueDim);
  if (layer !== undefined) return layer;
  const got = `${recorded.heads} heads on ${recorded.keyHeads}, dims ${recorded.queryDim} and ${recorded.valueDim}`;
  const known = model.layers.map(({ heads, keyHeads, queryDim, valueDim }) => `${heads} on ${keyHeads}, ${queryDim} and ${valueDim}`).join('; ');
  throw new AttentionError('invalid-shape', `The recorded tensors have ${got}; ${model.name} has ${known}.`, 'Leave --model out, or pass the model that they come from.');
}
