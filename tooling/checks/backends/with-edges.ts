import type { AttentionInputs, AttentionKernel, AttentionRequest, Backend, FastWeightKernel, FastWeightRequest, Request } from '@heed/core';
import { tensor } from '@heed/core';
import { readsEdges, type HostEdgeList } from '@heed/core/compute';

/**
 * A backend over edges as one that needs none: a call without edges gets those of the complete graph, whose pairs the mask then thins out. So the whole suite
 * judges kernels over edges by what dense attention is.
 */
export function withEdges(backend: Backend): Backend {
  async function prepare(request: AttentionRequest): Promise<AttentionKernel>;
  async function prepare(request: FastWeightRequest): Promise<FastWeightKernel>;
  async function prepare(request: Request): Promise<AttentionKernel | FastWeightKernel> {
    // What the backend refuses, it refuses by itself.
    return completed(await backend.prepare(request as AttentionRequest));
  }
  return {
    contract: backend.contract,
    name: backend.name,
    runtime: backend.runtime,
    capabilities: backend.capabilities,
    assess: (request, shape) => backend.assess(request, shape),
    prepare,
    dispose: () => backend.dispose(),
  };
}

function completed(kernel: AttentionKernel): AttentionKernel {
  // What edges carry has to be given with them.
  if (readsEdges(kernel.request.variant)) return kernel;
  return {
    request: kernel.request,
    mergeClass: kernel.mergeClass,
    enqueue: (inputs, options) => kernel.enqueue(joined(inputs), options),
    run: (inputs, options) => kernel.run(joined(inputs), options),
    partial: (inputs, options) => kernel.partial(joined(inputs), options),
    transformKeys: (inputs) => kernel.transformKeys(inputs),
    backward: (inputs, saved, gradients) => kernel.backward(joined(inputs), saved, gradients),
    explain: (about) => kernel.explain('query' in about ? joined(about) : about),
    dispose: () => kernel.dispose(),
  };
}

/** Inputs that say who sees whom in another way, or that are no inputs, stay as they are. */
function joined(inputs: AttentionInputs): AttentionInputs {
  const given: unknown = inputs;
  if (typeof given !== 'object' || given === null) return inputs;
  if (inputs.edges !== undefined || inputs.blocks !== undefined || inputs.packed !== undefined || inputs.pages !== undefined) return inputs;
  const [queries, keys] = [rowsOf(inputs.query), rowsOf(inputs.key)];
  return queries === null || keys === null ? inputs : { ...inputs, edges: complete(queries, keys) };
}

function rowsOf(given: unknown): number | null {
  const shape: unknown = typeof given === 'object' && given !== null ? Reflect.get(given, 'shape') : undefined;
  const rows = Array.isArray(shape) && shape.length === 4 ? (shape as readonly unknown[])[2] : undefined;
  return typeof rows === 'number' ? rows : null;
}

function complete(queries: number, keys: number): HostEdgeList {
  const starts = Int32Array.from({ length: queries + 1 }, (_, query) => query * keys);
  return { starts: tensor(starts, [queries + 1]), keys: tensor(Int32Array.from({ length: queries * keys }, (_, edge) => edge % keys), [queries * keys]) };
}
