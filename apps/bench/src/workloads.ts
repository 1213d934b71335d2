/**
 * What is timed: one attention call with its shape. An id is a query string, begins with the kind of workload, and says everything that matters.
 */
import { AttentionError, bytesPerElement } from '@heed/core';
import type { BenchDtype } from './dtypes.ts';
import { attentionLayer, type AttentionLayer, type Model } from './models.ts';

/** One attention call. */
export interface Workload {
  readonly id: string;
  readonly suite: string;
  /** `curve` rows show growth with length and do not count in a model's total. */
  readonly phase: 'prefill' | 'decode' | 'curve';
  readonly layer: AttentionLayer;
  readonly dtype: BenchDtype;
  readonly batch: number;
  readonly queryLength: number;
  readonly keyLength: number;
  /** Position of the first query. */
  readonly queryOffset: number;
  /** What a peer may compute instead, if it has nothing for this layer: the same shapes and less work. Its results then say so. */
  readonly lesser?: { readonly layer: AttentionLayer; readonly what: string };
}

/** Lengths of a model run. */
export interface ModelRun {
  readonly tokens: number | null;
  /** Tokens generated after the prompt. */
  readonly decode: number;
  readonly batch: number;
  readonly dtype: BenchDtype;
}

const defaultDecode = 32;

/**
 * The lengths to run a model with: what was asked for, else its defaults.
 *
 * @throws AttentionError `invalid-argument` for tokens that the model cannot have
 */
export function modelRun(model: Model, asked: { readonly tokens: number | null; readonly decode: number | null; readonly batch: number; readonly dtype: BenchDtype }): ModelRun {
  const { batch, dtype } = asked;
  if (model.defaultTokens === null) {
    const given = asked.tokens === null ? '--decode' : '--tokens';
    if (asked.tokens !== null || (asked.decode ?? 0) > 0) throw refusedLength(`${given} does not apply to ${model.name}`, 'its image size fixes every length', 'Pass --config with another image_size.');
    return { tokens: null, decode: 0, batch, dtype };
  }
  if (!model.generates && (asked.decode ?? 0) > 0) throw refusedLength(`--decode does not apply to ${model.name}`, 'it does not generate', 'Leave --decode out.');
  const tokens = asked.tokens ?? model.defaultTokens;
  const longest = model.maxTokens ?? Infinity;
  const decode = model.generates ? (asked.decode ?? Math.min(defaultDecode, Math.max(0, longest - tokens))) : 0;
  if (tokens + decode > longest) throw refusedLength(`${tokens} tokens and ${decode} generated ones are too many for ${model.name}`, `it takes ${longest}`, 'Pass smaller --tokens or --decode.');
  return { tokens, decode, batch, dtype };
}

function refusedLength(what: string, why: string, hint: string): AttentionError {
  return new AttentionError('invalid-argument', `${what}: ${why}.`, hint);
}

/** Every call of a model run: each layer's prefill, one decode step at the mean length, and the prefill at shorter lengths. */
export function modelWorkloads(model: Model, run: ModelRun): readonly Workload[] {
  const steps = model.layers.flatMap((layer) => [...prefill(model, layer, run), ...decodeStep(model, layer, run)]);
  return [...steps, ...curve(model, run)];
}

function prefill(model: Model, layer: AttentionLayer, run: ModelRun): readonly Workload[] {
  const { lengths } = layer;
  if (lengths.kind === 'fixed') return [modelCall(model, layer, run, 'prefill', lengths.length, lengths.length)];
  const tokens = run.tokens ?? 0;
  return [modelCall(model, layer, run, 'prefill', tokens, lengths.kind === 'cross' ? lengths.keyLength : tokens)];
}

// Attention to a growing cache costs in proportion to its length, so the step at the mean length stands for all.
function decodeStep(model: Model, layer: AttentionLayer, run: ModelRun): readonly Workload[] {
  const { lengths } = layer;
  if (run.decode === 0 || run.tokens === null || lengths.kind === 'fixed') return [];
  const keyLength = lengths.kind === 'cross' ? lengths.keyLength : run.tokens + Math.ceil(run.decode / 2);
  return [modelCall(model, layer, run, 'decode', 1, keyLength)];
}

function curve(model: Model, run: ModelRun): readonly Workload[] {
  const { tokens } = run;
  const layer = model.layers.find(({ lengths }) => lengths.kind === 'tokens');
  if (layer === undefined || tokens === null) return [];
  const lengths = [8, 4, 2].map((part) => Math.floor(tokens / part)).filter((length) => length >= 16);
  return lengths.map((length) => modelCall(model, layer, run, 'curve', length, length));
}

function modelCall(model: Model, layer: AttentionLayer, run: ModelRun, phase: Workload['phase'], queryLength: number, keyLength: number): Workload {
  const groups = layer.lengths.kind === 'fixed' ? layer.lengths.groups : 1;
  return {
    id: `model/${model.name}/${layer.name}?phase=${phase},lq=${queryLength},lk=${keyLength},batch=${run.batch}`,
    suite: 'model',
    phase,
    layer,
    dtype: run.dtype,
    batch: run.batch * groups,
    queryLength,
    keyLength,
    // Causal queries are the last of the tokens; others have no order against their keys.
    queryOffset: layer.mask.kind === 'all' ? 0 : keyLength - queryLength,
  };
}

interface Row {
  readonly id: string;
  readonly layer: AttentionLayer;
  readonly queryLength: number;
  readonly keyLength?: number;
  readonly lesser?: NonNullable<Workload['lesser']>;
}

function row(id: string, queryLength: number, layer: Parameters<typeof attentionLayer>[0], keyLength?: number): Row {
  return { id, layer: attentionLayer(layer), queryLength, ...(keyLength === undefined ? {} : { keyLength }) };
}

const dense = { kind: 'all' } as const;
const one = { name: 'attention', count: 1 } as const;

const windowed = { heads: 8, queryDim: 64, mask: { kind: 'causal-window', left: 255 } } as const;

const cpuSuite: readonly Row[] = [
  ...[64, 128].flatMap((dim) => [
    row(`prefill-causal?heads=8,lq=2048,dim=${dim}`, 2048, { ...one, heads: 8, queryDim: dim }),
    row(`prefill-dense?heads=8,lq=2048,dim=${dim}`, 2048, { ...one, heads: 8, queryDim: dim, mask: dense }),
  ]),
  ...[128, 512].map((length) => row(`prefill-causal?heads=12,lq=${length},dim=64`, length, { ...one, heads: 12, queryDim: 64 })),
  // No peer fuses ALiBi, a softcap and a window; its window alone is the nearest thing.
  {
    ...row('prefill-window?heads=8,lq=8192,dim=64,left=255,alibi=1,softcap=30', 8192, { ...one, ...windowed, softcap: 30, position: { kind: 'alibi' } }),
    lesser: { layer: attentionLayer({ ...one, ...windowed }), what: 'the window only' },
  },
  row('decode?heads=32,keyHeads=8,dim=128,lk=8192', 1, { ...one, heads: 32, keyHeads: 8, queryDim: 128 }, 8192),
  row('additive?heads=1,lq=512,dim=64,width=256', 512, { ...one, heads: 1, queryDim: 64, scoring: { kind: 'additive', width: 256 }, scale: 1, mask: dense }),
  ...(['softmax', 'sparsemax', 'entmax-1.5'] as const).map((normalization) =>
    row(`threshold?normalization=${normalization},heads=1,lq=2048,dim=64`, 2048, { ...one, heads: 1, queryDim: 64, mask: dense, normalization }),
  ),
  ...[16384, 32768].map((length) => row(`memory?heads=1,lq=${length},dim=64`, length, { ...one, heads: 1, queryDim: 64 })),
  row('small?heads=8,lq=16,dim=64', 16, { ...one, heads: 8, queryDim: 64, mask: dense }),
];

/** Calls that fill a GPU, and smaller ones that a software device makes in a second or so. */
const webgpuSuite: readonly Row[] = [
  row('small?heads=8,lq=16,dim=64', 16, { ...one, heads: 8, queryDim: 64, mask: dense }),
  row('prefill-causal?heads=4,lq=512,dim=64', 512, { ...one, heads: 4, queryDim: 64 }),
  row('prefill-dense?heads=4,lq=512,dim=64', 512, { ...one, heads: 4, queryDim: 64, mask: dense }),
  row('decode?heads=8,keyHeads=2,dim=64,lk=4096', 1, { ...one, heads: 8, keyHeads: 2, queryDim: 64 }, 4096),
  ...[2048, 4096].map((length) => row(`memory?heads=1,lq=${length},dim=64`, length, { ...one, heads: 1, queryDim: 64 })),
  ...[64, 128].flatMap((dim) => [
    row(`prefill-causal?heads=32,lq=4096,dim=${dim}`, 4096, { ...one, heads: 32, queryDim: dim }),
    row(`prefill-dense?heads=32,lq=4096,dim=${dim}`, 4096, { ...one, heads: 32, queryDim: dim, mask: dense }),
  ]),
  row('decode?heads=32,keyHeads=8,dim=128,lk=32768', 1, { ...one, heads: 32, keyHeads: 8, queryDim: 128 }, 32768),
];

const namedSuites: ReadonlyMap<string, readonly Row[]> = new Map([['cpu', cpuSuite], ['webgpu', webgpuSuite]]);

/** What `--suite` takes. `model` is the model that was asked for; the others are fixed lists. */
export const suites: readonly string[] = ['model', ...namedSuites.keys(), 'linear', 'sparse'];

/** The calls of a fixed suite. */
export function suiteWorkloads(suite: string, batch: number, dtype: BenchDtype): readonly Workload[] {
  return (namedSuites.get(suite) ?? []).map(({ id, layer, queryLength, keyLength = queryLength, lesser }) => ({
    id: batch === 1 ? id : `${id},batch=${batch}`,
    suite,
    phase: queryLength === 1 ? 'decode' : 'prefill',
    layer,
    dtype,
    batch,
    queryLength,
    keyLength,
    queryOffset: layer.mask.kind === 'all' ? 0 : keyLength - queryLength,
    ...(lesser === undefined ? {} : { lesser }),
  }));
}

/** Query-key pairs that the mask allows, over all sequences and heads. */
export function allowedPairs({ layer, batch, queryLength, keyLength, queryOffset }: Workload): number {
  let pairs = 0;
  for (let query = 0; query < queryLength; query++) {
    const { first, last } = visibleKeys(layer.mask, queryOffset + query, keyLength);
    pairs += Math.max(0, last - first + 1);
  }
  return pairs * batch * layer.heads;
}

/** First and last key that a query at a position may see; last < first when there is none. */
export function visibleKeys(mask: AttentionLayer['mask'], position: number, keyLength: number): { readonly first: number; readonly last: number } {
  if (mask.kind === 'all') return { first: 0, last: keyLength - 1 };
  return { first: mask.kind === 'causal' ? 0 : Math.max(0, position - mask.left), last: Math.min(keyLength - 1, position) };
}

/** 2 · allowed pairs · (width of the rows that are combined + valueDim); exponentials are not counted. */
export function usefulFlops(workload: Workload): number {
  const { scoring, queryDim, valueDim } = workload.layer;
  return 2 * allowedPairs(workload) * ((scoring.kind === 'additive' ? scoring.width : queryDim) + valueDim);
}

/** Bytes of query, key, value and output, each once: what any kernel must move. */
export function leastBytes({ layer, batch, queryLength, keyLength, dtype }: Workload): number {
  const rows = queryLength * layer.heads + keyLength * layer.keyHeads;
  return batch * rows * (layer.queryDim + layer.valueDim) * bytesPerElement[dtype];
}
