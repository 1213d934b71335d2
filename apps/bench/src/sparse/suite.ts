import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { RandomSource } from '@heed/conformance';
import { attention, AttentionError, causal, isHostTensor, tensor, type HostTensor, type Tensor } from '@heed/core';
import { createCpuBackend } from '@heed/cpu';
import { createWasmRuntime, measureLimits, type WasmRuntime } from '@heed/runtime-wasm';
import { sparse, type SparseBackend } from '@heed/sparse';
import type { Arguments } from '../arguments.ts';
import type { Competitor } from '../competitor.ts';
import { startCompetitors } from '../competitors.ts';
import { formatMilliseconds, formatRatio, formatShare, threeDigits } from '../format.ts';
import { measure, type Contender, type Timing, type Verdict } from '../measure.ts';
import { attentionLayer } from '../models.ts';
import type { BenchRecord } from '../results.ts';
import type { Workload } from '../workloads.ts';
import { checkRows } from './check.ts';
import { graphId, runGraph } from './graph.ts';
import { dim, heads, sparseWorkloads, type PreparedSparse, type SparseInputs, type SparseWorkload } from './workloads.ts';

/**
 * `--suite sparse`: patterns and selectors over the cpu backend, the making of lists and choices included, against dense causal attention of the same length and, where it has the pattern, ONNX Runtime.
 * @returns the exit code
 */
export async function runSparseSuite(asked: Arguments): Promise<number> {
  const { only, threads, seconds } = asked;
  const workloads = sparseWorkloads.filter(({ id }) => only === null || only.some((text) => id.includes(text)));
  const hasGraph = only === null || only.some((text) => graphId.includes(text));
  if (workloads.length === 0 && !hasGraph) throw new AttentionError('invalid-argument', `--only is '${only.join("', '")}'.`, `Expected a part of one of ${[...sparseWorkloads.map(({ id }) => id), graphId].join(' ')}.`);
  const [peer] = await startCompetitors({ backends: [], peers: asked.peers ?? ['onnxruntime-node'], threads });
  try {
    const allCores = await withRuntime(threads, async (runtime) => (await measureLimits(runtime)).allCores);
    console.log(`${allCores.description}: ${threeDigits(allCores.gigaflopsPerSecond)} GFLOP/s`);
    const common = { peer: peer ?? null, limit: allCores.gigaflopsPerSecond, budget: (seconds * 1000) / (workloads.length + Number(hasGraph)) };
    const records: BenchRecord[] = [];
    for (const workload of workloads) {
      // A runtime of its own, since a runtime's peak is that of its whole life.
      const found = await withRuntime(threads, async (runtime) => runWorkload({ ...common, runtime, backend: sparse(await createCpuBackend({ runtime })) }, workload));
      for (const record of found) console.log(lineOf(record));
      records.push(...found);
    }
    if (hasGraph) records.push(...(await withRuntime(threads, (runtime) => runGraph(runtime, allCores, common.budget))));
    if (asked.json !== null) {
      await mkdir(dirname(asked.json), { recursive: true });
      await writeFile(asked.json, `${JSON.stringify({ schema: 1, limits: { wasm: allCores }, records }, null, 2)}\n`);
    }
    return new Set(records.map(({ workload }) => workload)).size < workloads.length + Number(hasGraph) ? 1 : 0;
  } finally {
    await peer?.dispose();
  }
}

async function withRuntime<T>(threads: number, use: (runtime: WasmRuntime) => Promise<T>): Promise<T> {
  const runtime = await createWasmRuntime({ threads });
  try {
    await runtime.ready();
    return await use(runtime);
  } finally {
    await runtime.dispose();
  }
}

interface Suite {
  readonly runtime: WasmRuntime;
  readonly backend: SparseBackend;
  readonly peer: Competitor | null;
  /** GFLOP/s of multiply-add on all cores. */
  readonly limit: number;
  /** Milliseconds for one workload. */
  readonly budget: number;
}

/** One contender with what it computes for a call. */
interface Entrant {
  readonly contender: Contender;
  readonly pairs: number;
  readonly way: string | null;
}

async function runWorkload(suite: Suite, workload: SparseWorkload): Promise<readonly BenchRecord[]> {
  const { runtime } = suite;
  const inputs = inputsOf(runtime, workload.length);
  const prepared = await workload.prepare(suite.backend, inputs);
  const closing: (() => Promise<void> | void)[] = [() => prepared.close()];
  try {
    const { verdict, peakBytes } = await firstCall(runtime, workload, inputs, prepared);
    if (!verdict.passed) {
      console.log(`${workload.id}: not timed, its error is ${threeDigits(verdict.worstShare)} times the tolerance`);
      return [];
    }
    const ours: Entrant = { contender: { name: 'heed:sparse', verdict, run: async () => release(runtime, await prepared.run()) }, pairs: prepared.pairs, way: null };
    const entrants = [ours];
    if (workload.peers.dense) entrants.push(await denseEntrant(suite, workload.length, inputs, verdict, closing));
    if (workload.peers.window !== null && suite.peer !== null) entrants.push(...(await windowEntrants(suite.peer, workload, workload.peers.window, inputs, prepared, closing)));
    const measured = await measure(entrants.map(({ contender }) => contender), { budget: suite.budget / entrants.length });
    const [first] = measured;
    if (first === undefined || !('timing' in first)) return [];
    const peers = measured.slice(1).map((one, index) => ({ one, entrant: entrants[index + 1] })).flatMap(({ one, entrant }) => ('timing' in one && entrant !== undefined ? [{ name: one.name, timing: one.timing, pairs: entrant.pairs, way: entrant.way }] : []));
    const record = (peer: Peer | null): BenchRecord => recordOf(workload, { timing: first.timing, verdict, peakBytes, pairs: prepared.pairs, limit: suite.limit }, peer);
    return peers.length === 0 ? [record(null)] : peers.map(record);
  } finally {
    for (const close of closing) await close();
    for (const one of Object.values(inputs.here)) runtime.release(one);
    await runtime.idle();
  }
}

/** Seeded rows of N(0, 1). */
function inputsOf(runtime: WasmRuntime, length: number): SparseInputs {
  const random = new RandomSource(20_261_121);
  const draw = (): HostTensor => tensor(Float32Array.from({ length: heads * length * dim }, () => random.normal()), [1, heads, length, dim]);
  const host = { query: draw(), key: draw(), value: draw() };
  return { host, here: { query: runtime.upload(host.query), key: runtime.upload(host.key), value: runtime.upload(host.value) } };
}

/** Compares one call, and sees what the runtime held during another beyond inputs and outputs. */
async function firstCall(runtime: WasmRuntime, { length }: SparseWorkload, inputs: SparseInputs, prepared: PreparedSparse): Promise<{ readonly verdict: Verdict; readonly peakBytes: number }> {
  const before = runtime.memory().bytes;
  const outputs = await prepared.run();
  const { peakBytes } = runtime.memory();
  const own = 4 * heads * length * (dim + 1);
  const { output } = outputs;
  if (!isHostTensor(output)) throw new AttentionError('internal', 'An output is not on the host.', 'This is a mistake of the bench.');
  const verdict = checkRows(inputs, prepared, output, length);
  release(runtime, outputs);
  return { verdict, peakBytes: Math.max(0, peakBytes - before - own) };
}

function release(runtime: WasmRuntime, { output, logSumExp }: { readonly output: Tensor; readonly logSumExp?: Tensor }): void {
  runtime.release(output);
  if (logSumExp !== undefined) runtime.release(logSumExp);
}

/** Dense causal attention of the same length: what the pattern leaves out of. */
async function denseEntrant({ runtime }: Suite, length: number, { here }: SparseInputs, verdict: Verdict, closing: (() => Promise<void> | void)[]): Promise<Entrant> {
  const backend = await createCpuBackend({ runtime });
  const kernel = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: dim, keyDim: dim, valueDim: dim });
  closing.push(() => backend.dispose());
  return { contender: { name: 'heed:cpu dense causal', verdict, run: async () => release(runtime, await kernel.run(here)) }, pairs: (heads * length * (length + 1)) / 2, way: null };
}

/** ONNX Runtime's operator with the same window; none where it does not run here. */
async function windowEntrants(peer: Competitor, { length }: SparseWorkload, left: number, { host }: SparseInputs, prepared: PreparedSparse, closing: (() => Promise<void> | void)[]): Promise<readonly Entrant[]> {
  const call: Workload = {
    id: 'prefill-window', suite: 'sparse', phase: 'prefill', dtype: 'f32', batch: 1, queryLength: length, keyLength: length, queryOffset: 0,
    layer: attentionLayer({ name: 'attention', count: 1, heads, queryDim: dim, mask: { kind: 'causal-window', left } }),
  };
  const refusal = await peer.refuses(call);
  const way = peer.ways?.(call).find((one) => one.startsWith('GroupQueryAttention')) ?? null;
  if (refusal !== null || way === null) {
    console.log(`${peer.name}: ${refusal ?? 'it has no GroupQueryAttention'}`);
    return [];
  }
  const ready = await peer.prepare(call, { ...host, parameters: {} }, way);
  closing.push(() => ready.dispose());
  await ready.run();
  const verdict = checkRows({ host, here: host }, prepared, tensor(Float64Array.from(await ready.output()), [1, heads, length, dim]), length);
  const { restMilliseconds = 0 } = peer;
  return [{ contender: { name: peer.name, verdict, run: () => ready.run(), restMilliseconds }, pairs: prepared.pairs, way }];
}

interface Peer {
  readonly name: string;
  readonly timing: Timing;
  readonly pairs: number;
  readonly way: string | null;
}

interface Measured {
  readonly timing: Timing;
  readonly verdict: Verdict;
  readonly peakBytes: number;
  readonly pairs: number;
  readonly limit: number;
}

const usefulFlops = (pairs: number): number => 4 * pairs * dim;

function recordOf(workload: SparseWorkload, { timing, verdict, peakBytes, pairs, limit }: Measured, peer: Peer | null): BenchRecord {
  const nanoseconds = timing.median * 1e6;
  const rate = usefulFlops(pairs) / nanoseconds;
  return {
    suite: 'sparse',
    workload: workload.id,
    backend: 'sparse(cpu)',
    dtype: 'f32',
    milliseconds: timing,
    usefulGigaflopsPerSecond: rate,
    gigabytesPerSecond: (16 * heads * workload.length * dim) / nanoseconds,
    limitShare: rate / limit,
    compiling: null,
    peakBytes,
    maxAbsError: verdict.maxAbsError,
    maxRelError: verdict.maxRelError,
    peer: peer === null ? null : peer.name,
    peerWay: peer === null ? null : [peer.way, `${threeDigits(usefulFlops(peer.pairs) / peer.timing.median / 1e6)} GFLOP/s`].filter((part) => part !== null).join(', '),
    peerMilliseconds: peer?.timing.median ?? null,
    ratio: peer === null ? null : peer.timing.median / timing.median,
  };
}

function lineOf({ workload, milliseconds, usefulGigaflopsPerSecond, limitShare, peakBytes, peer, peerWay, ratio, maxAbsError }: BenchRecord): string {
  const rate = `${threeDigits(usefulGigaflopsPerSecond)} GFLOP/s, ${formatShare(limitShare)} of peak`;
  const against = peer === null || ratio === null ? [] : [`${formatRatio(ratio)} of ${peer} (${peerWay ?? ''})`];
  return [workload.padEnd(60), formatMilliseconds(milliseconds.median).padEnd(8), rate, `${threeDigits((peakBytes ?? 0) / 2 ** 20)} MiB`, `error ${maxAbsError.toExponential(1)}`, ...against].join('  ');
}
