import type { Inputs } from '../../inputs.ts';
import type { Workload } from '../../workloads.ts';
import { float32 } from '../float32.ts';
import { swapHeadsAndTokens } from '../heads-last.ts';
import { scoreTable, scoreTableBytes, seesEverything } from '../mask-table.ts';
import { largestTable, type Fed, type Operator, type OperatorCall } from './operator.ts';

/**
 * com.microsoft GroupQueryAttention: queries are the last tokens of the keys, always causal; the keys before the queries are a cache.
 * Windows count the query itself. It writes the cache with the new keys appended.
 */
export const groupQueryAttention: Operator = {
  way: 'GroupQueryAttention',
  operator: 'GroupQueryAttention',
  domain: 'com.microsoft',
  inPlace: false,
  refuses,
  call: (workload, inputs) => call(workload, inputs, false),
};

/** The same with one cache for reading and writing, large enough from the start: what a model that generates does. */
export const groupQueryAttentionInPlace: Operator = {
  ...groupQueryAttention,
  way: 'GroupQueryAttention, cache in place',
  inPlace: true,
  call: (workload, inputs) => call(workload, inputs, true),
};

function refuses(workload: Workload): string | null {
  const { layer, batch, queryLength, keyLength, queryOffset } = workload;
  if (layer.mask.kind === 'all' && !(queryLength === 1 && seesEverything(workload))) return 'is always causal';
  if (layer.mask.kind !== 'all' && queryOffset !== keyLength - queryLength) return 'has its queries at the end of the keys';
  if (layer.valueDim !== layer.queryDim) return 'has one width for queries and values';
  if (layer.queryDim % 8 !== 0) return 'takes widths that are a multiple of 8';
  if (batch > 1 && queryLength > 1 && queryLength < keyLength) return 'has one sequence where several queries follow a cache';
  if (layer.position.kind === 'alibi' && scoreTableBytes(workload) > largestTable) return `its bias would be a table of ${scoreTableBytes(workload)} bytes`;
  return null;
}

function call(workload: Workload, inputs: Inputs, inPlace: boolean): OperatorCall {
  const { layer, batch, queryLength, keyLength } = workload;
  const { heads, keyHeads, queryDim, softcap, mask } = layer;
  const past = keyLength - queryLength;
  const cacheShape = [batch, keyHeads, keyLength, queryDim];
  const added = (source: Float32Array): Float32Array => swapHeadsAndTokens(tokensOf(source, keyLength, queryDim, past, keyLength), [batch, keyHeads, queryLength, queryDim]);
  const cache = (name: string, source: Float32Array): Fed | null => {
    if (inPlace) return { name, type: 'float32', elements: source.slice(), shape: cacheShape };
    return past === 0 ? null : { name, type: 'float32', elements: tokensOf(source, keyLength, queryDim, 0, past), shape: [batch, keyHeads, past, queryDim] };
  };
  const [query, key, value] = [float32(inputs.query), float32(inputs.key), float32(inputs.value)];
  return {
    inputs: [
      { name: 'query', type: 'float32', elements: swapHeadsAndTokens(query, [batch, heads, queryLength, queryDim]), shape: [batch, queryLength, heads * queryDim] },
      { name: 'key', type: 'float32', elements: added(key), shape: [batch, queryLength, keyHeads * queryDim] },
      { name: 'value', type: 'float32', elements: added(value), shape: [batch, queryLength, keyHeads * queryDim] },
      cache('pastKey', key),
      cache('pastValue', value),
      { name: 'lastPositions', type: 'int32', elements: new Int32Array(batch).fill(keyLength - 1), shape: [batch] },
      { name: 'totalLength', type: 'int32', elements: Int32Array.of(keyLength), shape: [1] },
      ...extras(workload, inputs),
    ],
    outputs: [
      { name: 'output', shape: [batch, queryLength, heads * queryDim] },
      { name: 'presentKey', shape: cacheShape, ...(inPlace ? { inPlaceOf: 'pastKey' } : {}) },
      { name: 'presentValue', shape: cacheShape, ...(inPlace ? { inPlaceOf: 'pastValue' } : {}) },
    ],
    attributes: {
      num_heads: { int: heads },
      kv_num_heads: { int: keyHeads },
      scale: { float: layer.scale },
      ...(softcap === null ? {} : { softcap: { float: softcap } }),
      ...(mask.kind === 'causal-window' ? { local_window_size: { int: mask.left + 1 } } : {}),
    },
    read: (output) => swapHeadsAndTokens(output, [batch, queryLength, heads, queryDim]),
  };
}

/** The optional inputs after the lengths: two tables of rotations and the positions, which are not used, then a bias and a sink. */
function extras(workload: Workload, inputs: Inputs): readonly (Fed | null)[] {
  const { layer, queryLength, keyLength } = workload;
  const { sink } = inputs.parameters;
  if (sink === undefined && layer.position.kind !== 'alibi') return [];
  const table = layer.position.kind === 'alibi' ? scoreTable(workload, inputs) : null;
  return [
    null,
    null,
    null,
    table === null ? null : { name: 'bias', type: 'float32', elements: table.table, shape: [1, table.heads, queryLength, keyLength] },
    ...(sink === undefined ? [] : [{ name: 'sink', type: 'float32', elements: float32(sink), shape: [layer.heads] } as const]),
  ];
}

/** Tokens from … to of dense [rows, length, dim]. */
function tokensOf(source: Float32Array, length: number, dim: number, from: number, to: number): Float32Array {
  const rows = source.length / (length * dim);
  const part = new Float32Array(rows * (to - from) * dim);
  for (let row = 0; row < rows; row++) part.set(source.subarray((row * length + from) * dim, (row * length + to) * dim), row * (to - from) * dim);
  return part;
}
