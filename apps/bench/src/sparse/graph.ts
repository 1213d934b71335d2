import { float32Attention, RandomSource } from '@heed/conformance';
import { attention, tensor, type HostTensor } from '@heed/core';
import type { HostEdgeList } from '@heed/core/compute';
import type { Limit, WasmRuntime } from '@heed/runtime-wasm';
import { createGraphBackend } from '@heed/sparse/wasm';
import { formatMilliseconds, formatRatio, formatShare, threeDigits } from '../format.ts';
import { measure, type Verdict } from '../measure.ts';
import type { BenchRecord } from '../results.ts';

const nodes = 100_000;
const edgeCount = 1_000_000;
const dim = 64;
const heads = 4;

export const graphId: string = `graph?nodes=${nodes},edges=${edgeCount},dim=${dim},heads=${heads}`;

type Rows = Readonly<Record<'query' | 'key' | 'value', HostTensor>>;

/**
 * Attention over the edges of a random graph: every edge joins two nodes drawn alike, the worst case for caches. Bytes are those that edges gather, a key and a value row for each edge
 * and head; their rate is put next to what the machine reads in order. The peer is the same sum in a loop of plain JavaScript, on one thread.
 */
export async function runGraph(runtime: WasmRuntime, limit: Limit, budget: number): Promise<readonly BenchRecord[]> {
  const random = new RandomSource(20_261_122);
  const edges = randomGraph(random);
  const draw = (): HostTensor => {
    const made = runtime.tensor([1, heads, nodes, dim], 'f32');
    const view = made.view();
    for (let index = 0; index < view.length; index += 1) view[index] = 2 * random.uniform() - 1;
    return made;
  };
  const rows: Rows = { query: draw(), key: draw(), value: draw() };
  const here = { starts: runtime.upload(edges.starts), keys: runtime.upload(edges.keys) };
  const into = { output: runtime.tensor([1, heads, nodes, dim], 'f32'), logSumExp: runtime.tensor([1, heads, nodes], 'f32') };
  const backend = createGraphBackend({ runtime });
  const kernel = await backend.prepare({ variant: attention(), queryDim: dim, keyDim: dim, valueDim: dim });
  try {
    const inputs = { ...rows, edges: here };
    const stated = kernel.explain(inputs).cost?.peakBytes ?? 0;
    runtime.heap.resetPeak();
    const before = runtime.memory().bytes;
    await kernel.run(inputs, { into });
    const peakBytes = runtime.memory().peakBytes - before;
    const verdict = check(rows, edges, into.output);
    if (!verdict.passed) {
      console.log(`${graphId}: not timed, its error is ${threeDigits(verdict.worstShare)} times the tolerance`);
      return [];
    }
    const loop = new Float32Array(heads * nodes * dim);
    const run = async (): Promise<void> => {
      await kernel.run(inputs, { into });
    };
    const [ours, theirs] = await measure([{ name: 'heed:graph', verdict, run }, { name: 'javascript', verdict, run: () => plainLoop(rows, edges, loop) }], { budget: budget / 2 });
    if (ours === undefined || !('timing' in ours)) return [];
    const gathered = (edgeCount * heads * 2 * dim * 4) / ours.timing.median / 1e6;
    const flops = (edgeCount * heads * 4 * dim) / ours.timing.median / 1e6;
    const peer = theirs !== undefined && 'timing' in theirs ? theirs.timing : null;
    const record: BenchRecord = {
      suite: 'sparse', workload: graphId, backend: 'graph', dtype: 'f32', milliseconds: ours.timing, usefulGigaflopsPerSecond: flops, gigabytesPerSecond: gathered,
      limitShare: gathered / limit.readGigabytesPerSecond, compiling: null, peakBytes, maxAbsError: verdict.maxAbsError, maxRelError: verdict.maxRelError,
      peer: peer === null ? null : 'javascript', peerWay: peer === null ? null : 'a loop over edges, one thread', peerMilliseconds: peer?.median ?? null, ratio: peer === null ? null : peer.median / ours.timing.median,
    };
    console.log([
      graphId.padEnd(60), formatMilliseconds(ours.timing.median).padEnd(8), `${threeDigits(gathered)} GB/s gathered, ${formatShare(record.limitShare)} of the ${threeDigits(limit.readGigabytesPerSecond)} read in order`,
      `${threeDigits(peakBytes / 2 ** 20)} MiB of ${threeDigits(stated / 2 ** 20)} stated`, `error ${verdict.maxAbsError.toExponential(1)}`, ...(record.ratio === null ? [] : [`${formatRatio(record.ratio)} of plain JavaScript`]),
    ].join('  '));
    return [record];
  } finally {
    await backend.dispose();
    for (const one of [...Object.values(rows), ...Object.values(here), ...Object.values(into)]) runtime.release(one);
  }
}

/** Each edge points to a node drawn alike; a node's edges come from nodes drawn alike, each once. */
function randomGraph(random: RandomSource): HostEdgeList {
  const starts = new Int32Array(nodes + 1);
  for (let edge = 0; edge < edgeCount; edge += 1) {
    const to = random.integer(nodes) + 1;
    starts[to] = (starts[to] ?? 0) + 1;
  }
  for (let node = 0; node < nodes; node += 1) starts[node + 1] = (starts[node + 1] ?? 0) + (starts[node] ?? 0);
  const keys = new Int32Array(edgeCount);
  for (let node = 0; node < nodes; node += 1) {
    const [from, to] = [starts[node] ?? 0, starts[node + 1] ?? 0];
    const own = new Set<number>();
    while (own.size < to - from) own.add(random.integer(nodes));
    keys.set(Int32Array.from(own).sort(), from);
  }
  return { starts: tensor(starts, [nodes + 1]), keys: tensor(keys, [edgeCount]) };
}

/** Softmax over the edges of each node and head, float32, as one would write it: scores, weights, sums. */
function plainLoop({ query, key, value }: Rows, { starts, keys }: HostEdgeList, output: Float32Array): void {
  const [q, k, v] = [query.view(), key.view(), value.view()];
  const [start, from] = [starts.view(), keys.view()];
  const weights = new Float32Array(1024);
  for (let head = 0; head < heads; head += 1) {
    const base = head * nodes * dim;
    for (let node = 0; node < nodes; node += 1) {
      const [first, end] = [start[node] ?? 0, start[node + 1] ?? 0];
      const row = base + node * dim;
      let largest = -Infinity;
      for (let edge = first; edge < end; edge += 1) {
        const other = base + (from[edge] ?? 0) * dim;
        let score = 0;
        for (let channel = 0; channel < dim; channel += 1) score += (q[row + channel] ?? 0) * (k[other + channel] ?? 0);
        weights[edge - first] = score / 8;
        largest = Math.max(largest, score / 8);
      }
      let total = 0;
      for (let edge = first; edge < end; edge += 1) {
        const weight = Math.exp((weights[edge - first] ?? 0) - largest);
        weights[edge - first] = weight;
        total += weight;
      }
      output.fill(0, row, row + dim);
      for (let edge = first; edge < end; edge += 1) {
        const other = base + (from[edge] ?? 0) * dim;
        const weight = (weights[edge - first] ?? 0) / total;
        for (let channel = 0; channel < dim; channel += 1) output[row + channel] = (output[row + channel] ?? 0) + weight * (v[other + channel] ?? 0);
      }
    }
  }
}

/** Some nodes of the first and the last head against their formula in float64. */
function check({ query, key, value }: Rows, { starts, keys }: HostEdgeList, output: HostTensor): Verdict {
  const [q, k, v, got] = [query.view(), key.view(), value.view(), output.view()];
  const [start, from] = [starts.view(), keys.view()];
  const bound = float32Attention.bound({ length: 64, dim, dtype: 'f32', score: 2, magnitude: 1 });
  let [maxAbsError, maxRelError, worstShare, compared] = [0, 0, 0, 0];
  for (const head of [0, heads - 1]) {
    for (let sample = 0; sample < 64; sample += 1) {
      const node = Math.floor((sample * (nodes - 1)) / 63);
      const row = (head * nodes + node) * dim;
      const own = Array.from({ length: (start[node + 1] ?? 0) - (start[node] ?? 0) }, (_, edge) => (head * nodes + (from[(start[node] ?? 0) + edge] ?? 0)) * dim);
      const scores = own.map((other) => Array.from({ length: dim }, (_, channel) => (q[row + channel] ?? 0) * (k[other + channel] ?? 0)).reduce((a, b) => a + b, 0) / Math.sqrt(dim));
      const largest = Math.max(...scores);
      const powers = scores.map((score) => Math.exp(score - largest));
      const total = powers.reduce((a, b) => a + b, 0);
      for (let channel = 0; channel < dim; channel += 1) {
        const want = own.reduce((sum, other, edge) => sum + ((powers[edge] ?? 0) / total) * (v[other + channel] ?? 0), 0);
        const error = Math.abs(want - (got[row + channel] ?? Number.NaN));
        maxAbsError = Math.max(maxAbsError, error);
        maxRelError = Math.max(maxRelError, error / Math.max(Math.abs(want), 1e-30));
        worstShare = Math.max(worstShare, Number.isNaN(error) ? Infinity : error / (bound.absolute + bound.relative * Math.abs(want)));
        compared += 1;
      }
    }
  }
  return { passed: worstShare <= 1, maxAbsError, maxRelError, bound, worstShare, compared, elements: heads * nodes * dim };
}
