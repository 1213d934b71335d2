import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { FastWeightInputs, FastWeightState, Tensor } from '@heed/core';
import { attention, AttentionError, causal, isHostTensor, toFloat64 } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { createCpuBackend } from '@heed/cpu';
import { createLinearBackend } from '@heed/linear/wasm';
import { createWasmRuntime, measureLimits, type WasmRuntime } from '@heed/runtime-wasm';
import type { Arguments } from '../arguments.ts';
import { formatMilliseconds, formatRatio, formatShare, threeDigits } from '../format.ts';
import { measure, type Contender, type Timing, type Verdict } from '../measure.ts';
import type { BenchRecord } from '../results.ts';
import { linearInputs, type HostInputs } from './inputs.ts';
import { onnxLinearAttention } from './onnxruntime.ts';
import { plainRecurrence } from './plain-recurrence.ts';
import { leastBytes, linearWorkloads, usefulFlops, type LinearWorkload } from './workloads.ts';

/** Tokens of the outputs that are compared with the float64 reference: later tokens do not change them. */
const checkedTokens = 192;
/** Of the largest element: float32 sums over a state that forgets. */
const bound = { absolute: 5e-5, relative: 5e-4 };

/**
 * `--suite linear`: fast-weight variants on all cores, against dense causal attention of the same shape and, where one is written, a plain recurrence in JavaScript.
 * @returns the exit code
 */
export async function runLinearSuite(asked: Arguments): Promise<number> {
  const { only, threads, seconds } = asked;
  const workloads = linearWorkloads.filter(({ id }) => only === null || only.some((text) => id.includes(text)));
  if (workloads.length === 0) throw new AttentionError('invalid-argument', `--only is '${only?.join("', '") ?? ''}'.`, `Expected a part of one of ${linearWorkloads.map(({ id }) => id).join(' ')}.`);
  const runtime = await createWasmRuntime({ threads });
  await runtime.ready();
  try {
    const { allCores } = await measureLimits(runtime);
    console.log(`${allCores.description}: ${threeDigits(allCores.gigaflopsPerSecond)} GFLOP/s, read ${threeDigits(allCores.readGigabytesPerSecond)} GB/s`);
    const records: BenchRecord[] = [];
    for (const workload of workloads) {
      const found = await runWorkload(runtime, workload, allCores, (seconds * 1000) / workloads.length);
      for (const record of found) console.log(lineOf(record));
      records.push(...found);
    }
    if (asked.json !== null) {
      await mkdir(dirname(asked.json), { recursive: true });
      await writeFile(asked.json, `${JSON.stringify({ schema: 1, limits: { wasm: allCores }, records }, null, 2)}\n`);
    }
    return records.some(({ maxAbsError }) => Number.isNaN(maxAbsError)) || records.length < workloads.length ? 1 : 0;
  } finally {
    await runtime.dispose();
  }
}

type AllCores = Awaited<ReturnType<typeof measureLimits>>['allCores'];

async function runWorkload(runtime: WasmRuntime, workload: LinearWorkload, limit: AllCores, budget: number): Promise<readonly BenchRecord[]> {
  const inputs = linearInputs(workload);
  const want = await expected(workload, inputs);
  const verdict = verdictOf(workload, await outputsOf(runtime, workload, inputs), want);
  if (!verdict.passed) {
    console.log(`${workload.id}: not timed, its error is ${threeDigits(verdict.worstShare)} times the tolerance`);
    return [];
  }
  const isCompared = workload.phase === 'prefill' && workload.length === 16_384;
  const ours = await linearContender(runtime, workload, inputs, verdict);
  const dense = isCompared ? await denseContender(runtime, workload, inputs, verdict) : null;
  const onnx = isCompared ? await onnxContender(workload, inputs, runtime.threads, want) : null;
  try {
    const contenders = [ours, ...[dense, onnx].filter((one) => one !== null)];
    const measured = await measure(contenders, { budget: budget / contenders.length });
    const plain = workload.plain ? plainTiming(workload, inputs) : null;
    const peers = [...measured.slice(1).map((one) => ('timing' in one ? { name: one.name, timing: one.timing } : null)), ...(plain === null ? [] : [{ name: 'plain recurrence', timing: plain }])].filter((one) => one !== null);
    const [first] = measured;
    if (first === undefined || !('timing' in first)) return [];
    return (peers.length === 0 ? [null] : peers).map((peer) => recordOf(workload, first.timing, verdict, limit, ours.peakBytes, peer));
  } finally {
    await ours.close();
    await dense?.close();
    await onnx?.close();
  }
}

/** All outputs of one call, [heads, length, dim]. */
async function outputsOf(runtime: WasmRuntime, { variant, dim }: LinearWorkload, inputs: HostInputs): Promise<Float64Array> {
  const backend = await createLinearBackend({ runtime });
  const kernel = await backend.prepare({ variant, dim, valueDim: dim });
  const got = toFloat64(hostTensor((await kernel.run(inputs)).output));
  await backend.dispose();
  return got;
}

/** What the float64 reference says of the first tokens. */
async function expected({ variant, dim, length }: LinearWorkload, inputs: HostInputs): Promise<Float64Array> {
  const reference = await createReferenceBackend().prepare({ variant, dim, valueDim: dim, dtypes: { output: 'f64' } });
  return toFloat64(hostTensor((await reference.run(linearFirst(inputs, Math.min(length, checkedTokens)))).output));
}

function verdictOf({ dim, heads, length }: LinearWorkload, got: Float64Array, want: Float64Array): Verdict {
  const tokens = Math.min(length, checkedTokens);
  const largest = want.reduce((most, element) => Math.max(most, Math.abs(element)), 0);
  let [maxAbsError, maxRelError, worstShare] = [0, 0, 0];
  want.forEach((element, at) => {
    const [head, rest] = [Math.floor(at / (tokens * dim)), at % (tokens * dim)];
    const error = Math.abs(element - (got[head * length * dim + rest] ?? Number.NaN));
    maxAbsError = Math.max(maxAbsError, error);
    maxRelError = Math.max(maxRelError, error / Math.max(Math.abs(element), 1e-30));
    worstShare = Math.max(worstShare, error / (bound.absolute * largest + bound.relative * Math.abs(element)));
  });
  return { passed: worstShare <= 1, maxAbsError, maxRelError, bound: { absolute: bound.absolute * largest, relative: bound.relative }, worstShare, compared: want.length, elements: heads * length * dim };
}

function linearFirst(inputs: HostInputs, tokens: number): FastWeightInputs {
  const cut = Object.entries(inputs).map(([name, one]: [string, Tensor]) => [name, one.shape[2] === 1 || !isHostTensor(one) ? one : { ...one, shape: one.shape.map((size, axis) => (axis === 2 ? tokens : size)) }] as const);
  return Object.fromEntries(cut) as unknown as FastWeightInputs;
}

interface Running extends Contender {
  /** Beyond inputs and outputs. */
  readonly peakBytes: number;
  readonly close: () => Promise<void>;
}

/** All inputs lie on the runtime; a single token goes onto the state of the one before. */
async function linearContender(runtime: WasmRuntime, { variant, dim, length }: LinearWorkload, host: HostInputs, verdict: Verdict): Promise<Running> {
  const backend = await createLinearBackend({ runtime });
  const kernel = await backend.prepare({ variant, dim, valueDim: dim });
  const inputs = uploaded(runtime, host);
  let state: FastWeightState | undefined;
  const run = async (): Promise<void> => {
    const outputs = await kernel.run(length === 1 && state !== undefined ? { ...inputs, state } : inputs);
    for (const one of [outputs.output, ...Object.values(state ?? {})]) runtime.release(one);
    state = outputs.state;
  };
  const peakBytes = await peakBytesOf({ variant, dim }, host, runtime.threads);
  const close = async (): Promise<void> => {
    await backend.dispose();
    for (const one of [inputs, state ?? {}].flatMap((held) => Object.values(held) as Tensor[])) runtime.release(one);
    await runtime.idle();
  };
  return { name: 'heed:linear', verdict, run, peakBytes, close };
}

/** Bytes that one call holds beside its inputs and outputs, on a runtime of its own, whose peak is this call's. */
async function peakBytesOf({ variant, dim }: Pick<LinearWorkload, 'variant' | 'dim'>, host: HostInputs, threads: number): Promise<number> {
  const runtime = await createWasmRuntime({ threads });
  try {
    const backend = await createLinearBackend({ runtime });
    const kernel = await backend.prepare({ variant, dim, valueDim: dim });
    const inputs = uploaded(runtime, host);
    await runtime.idle();
    const before = runtime.memory().bytes;
    const { output, state } = await kernel.run(inputs);
    const outputs = [output, ...Object.values(state)].reduce((sum, one) => sum + 4 * one.shape.reduce((product, size) => product * size, 1), 0);
    return Math.max(0, runtime.memory().peakBytes - before - outputs);
  } finally {
    await runtime.dispose();
  }
}

/** Causal softmax attention of the same shape: what these rules stand in for. */
async function denseContender(runtime: WasmRuntime, { dim }: LinearWorkload, { query, key, value }: HostInputs, verdict: Verdict): Promise<Running> {
  const backend = await createCpuBackend({ runtime });
  const kernel = await backend.prepare({ variant: attention({ masking: causal() }), queryDim: dim, keyDim: dim, valueDim: dim });
  const inputs = { query: runtime.upload(query), key: runtime.upload(key), value: runtime.upload(value) };
  const run = async (): Promise<void> => {
    const { output, logSumExp } = await kernel.run(inputs);
    runtime.release(output);
    if (logSumExp !== undefined) runtime.release(logSumExp);
  };
  const close = async (): Promise<void> => {
    await backend.dispose();
    for (const one of Object.values(inputs)) runtime.release(one);
    await runtime.idle();
  };
  return { name: 'heed:cpu dense causal', verdict, run, peakBytes: 0, close };
}

/** Its threads keep looking for work for a while after a call, in the time of whoever is next. */
const restAfterOnnx = 60;

/** ONNX Runtime's operator, where it has the rule. */
async function onnxContender(workload: LinearWorkload, inputs: HostInputs, threads: number, want: Float64Array): Promise<Running | null> {
  const made = await onnxLinearAttention(workload, inputs, threads);
  return made === null ? null : { name: 'onnxruntime-node LinearAttention', verdict: verdictOf(workload, await made.output(), want), run: made.run, restMilliseconds: restAfterOnnx, peakBytes: 0, close: made.close };
}

/** Once, since it takes seconds, after a short call that lets the engine optimise it. */
function plainTiming(workload: LinearWorkload, inputs: HostInputs): Timing {
  const warm = { ...workload, length: 512 };
  plainRecurrence(warm, linearInputs(warm));
  const start = performance.now();
  plainRecurrence(workload, inputs);
  const spent = performance.now() - start;
  return { median: spent, min: spent, max: spent, runs: 1 };
}

function uploaded(runtime: WasmRuntime, inputs: HostInputs): FastWeightInputs {
  return Object.fromEntries(Object.entries(inputs).map(([name, one]: [string, Tensor]) => [name, runtime.upload(hostTensor(one))])) as unknown as FastWeightInputs;
}

function hostTensor(one: Tensor): HostInputs['query'] {
  if (!isHostTensor(one)) throw new AttentionError('internal', 'A tensor is not on the host.', 'This is a mistake of the bench.');
  return one;
}

function recordOf(workload: LinearWorkload, timing: Timing, verdict: Verdict, limit: AllCores, peakBytes: number, peer: { readonly name: string; readonly timing: Timing } | null): BenchRecord {
  const [flops, bytes] = [usefulFlops(workload), leastBytes(workload)];
  const nanoseconds = timing.median * 1e6;
  const isState = workload.phase === 'recurrent';
  return {
    suite: 'linear',
    workload: workload.id,
    backend: 'linear',
    dtype: 'f32',
    milliseconds: timing,
    usefulGigaflopsPerSecond: flops / nanoseconds,
    gigabytesPerSecond: bytes / nanoseconds,
    limitShare: isState ? bytes / nanoseconds / limit.readGigabytesPerSecond : flops / nanoseconds / limit.gigaflopsPerSecond,
    compiling: null,
    peakBytes,
    maxAbsError: verdict.maxAbsError,
    maxRelError: verdict.maxRelError,
    peer: peer?.name ?? null,
    peerWay: null,
    peerMilliseconds: peer?.timing.median ?? null,
    ratio: peer === null ? null : peer.timing.median / timing.median,
  };
}

function lineOf({ workload, milliseconds, usefulGigaflopsPerSecond, gigabytesPerSecond, limitShare, peakBytes, peer, ratio, maxAbsError }: BenchRecord): string {
  const isState = workload.startsWith('recurrent');
  const rate = isState ? `${threeDigits(gigabytesPerSecond)} GB/s of state, ${formatShare(limitShare)} of read bandwidth` : `${threeDigits(usefulGigaflopsPerSecond)} GFLOP/s, ${formatShare(limitShare)} of peak`;
  return [workload.padEnd(52), formatMilliseconds(milliseconds.median).padEnd(8), rate, `${threeDigits((peakBytes ?? 0) / 1024)} KiB`, `error ${maxAbsError.toExponential(1)}`, ...(peer === null || ratio === null ? [] : [`${formatRatio(ratio)} of ${peer}`])].join('  ');
}
