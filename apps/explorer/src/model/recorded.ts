import { AttentionError, tensor, type HostTensor } from '@heed/core';
import { blobSource, openSafetensors, type SafetensorsFile } from '@heed/layers';
import type { HeadTables } from './heads.ts';
import { maxTokens } from './tokens.ts';

/**
 * Queries, keys and values that somebody recorded: tensors query, key and value (or q, k, v), [heads, length, dim] or [1, heads, length, dim], as many heads each.
 * @throws AttentionError `invalid-file`, `invalid-shape`
 */
export async function headsFromFile(file: File): Promise<HeadTables> {
  const opened = await openSafetensors(blobSource(file));
  const [query, key, value] = [await read(opened, 'query'), await read(opened, 'key'), await read(opened, 'value')];
  const heads = query.shape[1] ?? 0;
  if (key.shape[1] !== heads || value.shape[1] !== heads || key.shape[3] !== query.shape[3] || value.shape[2] !== key.shape[2]) {
    throw new AttentionError('invalid-shape', `Query, key and value have shapes ${[query, key, value].map(({ shape }) => `[${shape.join(', ')}]`).join(', ')}.`, 'Expected as many heads each, queries and keys of one width, and a value for each key.');
  }
  return { names: Array.from({ length: heads }, (_, head) => `head ${head}`), query, key, value };
}

async function read(file: SafetensorsFile, name: string): Promise<HostTensor> {
  const found = [name, name.charAt(0)].find((each) => file.entries.has(each)) ?? name;
  const one = await file.read(found, { dtype: 'f32' });
  const [heads = 0, length = 0, dim = 0] = one.shape.slice(-3);
  if (one.shape.length < 3 || one.shape.length > 4 || (one.shape.length === 4 && one.shape[0] !== 1) || heads === 0 || dim === 0) {
    throw new AttentionError('invalid-shape', `'${found}' has shape [${one.shape.join(', ')}].`, 'Expected [heads, length, dim].');
  }
  const rows = Math.min(length, maxTokens);
  const view = one.view();
  return tensor(Float32Array.from({ length: heads * rows * dim }, (_, place) => view[Math.floor(place / (rows * dim)) * length * dim + (place % (rows * dim))] ?? 0), [1, heads, rows, dim]);
}
