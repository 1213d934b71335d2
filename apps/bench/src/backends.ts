import { AttentionError, type AttentionKernel, type AttentionRequest, type Backend, isHostTensor, type Tensor, toFloat64 } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import type { Competitor, Compiling, Prepared } from './competitor.ts';
import type { CompetitorSource, StartOptions } from './competitors.ts';
import type { Inputs } from './inputs.ts';
import { javascriptLimit, type Limits, wasmLimits, webgpuLimits } from './limits.ts';
import { summarize } from './measure.ts';
import { tablesOf, variantOf } from './variants.ts';
import type { Workload } from './workloads.ts';

/** Every backend that `--backend` takes. Adding one is adding a row. */
export const backendSources: readonly CompetitorSource[] = [
  { name: 'reference', role: 'backend', start: () => competitorOf(createReferenceBackend(), { about: 'float64, one thread.', limit: javascriptLimit }) },
  { name: 'cpu', role: 'backend', start: async (options) => cpu('portable', options) },
  { name: 'cpu-wide', role: 'backend', ownProcess: true, start: async (options) => cpu('wide', options) },
  { name: 'webgpu', role: 'backend', start: webgpu },
];

/** The cpu backend with its own runtime; what it measures as limits is what its emitted code could reach. */
async function cpu(vectors: 'portable' | 'wide', { threads }: StartOptions): Promise<Competitor> {
  const [{ createWasmRuntime, measureLimits }, { createCpuBackend }] = await Promise.all([import('@heed/runtime-wasm'), import('@heed/cpu')]);
  const runtime = await createWasmRuntime({ threads, vectors });
  if (vectors === 'wide' && !runtime.wide.packed) {
    await runtime.dispose();
    throw new AttentionError('unsupported', runtime.wide.reason, "Measure 'cpu'.");
  }
  await runtime.ready();
  const names = wasmLimits[vectors];
  return {
    ...competitorOf(await createCpuBackend({ runtime }), { about: runtime.describe().join(' '), limit: threads === 1 ? names.perCore : names.allCores }),
    name: vectors === 'wide' ? 'cpu-wide' : 'cpu',
    measureLimits: async (): Promise<Limits> => {
      const { perCore, allCores } = await measureLimits(runtime);
      return { [names.perCore]: perCore, ...(threads === 1 ? {} : { [names.allCores]: allCores }) };
    },
  };
}

/** The webgpu backend with its own device; what it measures as limits is what shaders reach there. */
async function webgpu(): Promise<Competitor> {
  const [{ createWebGpuRuntime, measureDeviceLimits }, { createWebGpuBackend }] = await Promise.all([import('@heed/runtime-webgpu'), import('@heed/webgpu')]);
  const runtime = await createWebGpuRuntime();
  return {
    ...competitorOf(await createWebGpuBackend({ runtime }), { about: runtime.describe().join(' '), limit: webgpuLimits.f32 }),
    measureLimits: async (): Promise<Limits> => {
      const { f32, f16 } = await measureDeviceLimits(runtime);
      return { [webgpuLimits.f32]: { ...f32, threads: 1 }, ...(f16 === null ? {} : { [webgpuLimits.f16]: { ...f16, threads: 1 } }) };
    },
  };
}

/** A heed backend as the bench sees it. */
export function competitorOf(backend: Backend, { about, limit }: Pick<Competitor, 'about' | 'limit'>): Competitor {
  const cold = new Map<string, number>();
  return {
    name: backend.name,
    role: 'backend',
    about,
    limit,
    refuses(workload) {
      const assessment = backend.assess(requestOf(workload), shapeOf(workload));
      return assessment.supported ? null : assessment.refusals.map(({ stage, reason }) => `${stage}: ${reason}`).join('; ');
    },
    prepare: (workload, inputs) => prepare(backend, cold, workload, inputs),
    async dispose() {
      await backend.dispose();
      await backend.runtime.dispose();
    },
  };
}

function requestOf({ layer, dtype }: Workload): AttentionRequest {
  return {
    variant: variantOf(layer),
    queryDim: layer.queryDim,
    keyDim: layer.queryDim,
    valueDim: layer.valueDim,
    dtypes: { query: dtype, key: dtype, value: dtype, output: dtype },
  };
}

function shapeOf({ layer, batch, queryLength, keyLength }: Workload): Parameters<Backend['assess']>[1] {
  return { batch, heads: layer.heads, keyHeads: layer.keyHeads, queryLength, keyLength };
}

/**
 * Prepares the kernel of a workload and says what that took.
 *
 * @param cold milliseconds of the first time, by what is compiled; this function fills it
 */
async function compile(backend: Backend, cold: Map<string, number>, workload: Workload): Promise<{ readonly kernel: AttentionKernel; readonly compiling: Compiling }> {
  const request = requestOf(workload);
  const id = JSON.stringify([request.variant.structure, request.queryDim, request.valueDim, request.dtypes]);
  const timed = async (): Promise<{ readonly kernel: AttentionKernel; readonly spent: number }> => {
    const start = performance.now();
    const made = await backend.prepare(request);
    return { kernel: made, spent: performance.now() - start };
  };
  const { kernel, spent } = await timed();
  if (!cold.has(id)) cold.set(id, spent);
  const again: number[] = [];
  for (let round = 0; round < cachedRounds; round++) {
    const next = await timed();
    again.push(next.spent);
    await next.kernel.dispose();
  }
  return { kernel, compiling: { cold: cold.get(id) ?? spent, cached: summarize(again).median } };
}

const cachedRounds = 21;

// Inputs are uploaded and outputs reused, so that a call is what a model's layer would make: no copies from or to the host.
async function prepare(backend: Backend, cold: Map<string, number>, workload: Workload, inputs: Inputs): Promise<Prepared> {
  const { runtime } = backend;
  const { kernel, compiling } = await compile(backend, cold, workload);
  const uploaded: Tensor[] = [];
  const upload = (source: Parameters<typeof runtime.upload>[0]): Tensor => {
    const copy = runtime.upload(source);
    uploaded.push(copy);
    return copy;
  };
  const bound = {
    query: upload(inputs.query),
    key: upload(inputs.key),
    value: upload(inputs.value),
    tables: Object.fromEntries(Object.entries(tablesOf(inputs.parameters)).map(([table, content]) => [table, upload(content)])),
    queryOffset: workload.queryOffset,
  };
  const output = runtime.tensor([workload.batch, workload.layer.heads, workload.queryLength, workload.layer.valueDim], workload.dtype);
  return {
    compiling,
    run: async () => {
      await kernel.run(bound, { into: { output } });
    },
    output: async () => toFloat64(isHostTensor(output) ? output : await runtime.read(output)),
    memory: () => runtime.memory(),
    dispose: async () => {
      await kernel.dispose();
      for (const copy of [...uploaded, output]) runtime.release(copy);
    },
  };
}
