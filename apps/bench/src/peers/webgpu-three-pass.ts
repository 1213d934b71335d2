import type { Program, ProgramSource, WebGpuRuntime } from '@heed/runtime-webgpu';
import { toFloat64, type HostTensor } from '@heed/core';
import type { Competitor, Prepared } from '../competitor.ts';
import type { Inputs } from '../inputs.ts';
import { webgpuLimits } from '../limits.ts';
import type { Workload } from '../workloads.ts';
import { isPlainCausal, seesEverything } from './mask-table.ts';

/**
 * Attention as three shaders that anyone would write first: all scores, their softmax, all weighted sums; one invocation for each number, or each row, rows read
 * where they lie. It keeps every score at once. What is computed in tiles is measured against it.
 */
export async function webgpuThreePass(): Promise<Competitor> {
  const { createWebGpuRuntime } = await import('@heed/runtime-webgpu');
  const runtime = await createWebGpuRuntime();
  return {
    name: 'webgpu-three-pass',
    role: 'peer',
    about: `Three plain shaders (all scores, softmax, all sums). ${runtime.describe().join(' ')}`,
    limit: webgpuLimits.f32,
    refuses,
    prepare: async (workload, inputs) => prepare(runtime, workload, inputs),
    dispose: async () => runtime.dispose(),
  };
}

function refuses(workload: Workload): string | null {
  const { layer, dtype } = workload;
  if (dtype !== 'f32') return `holds float32 only, not ${dtype}`;
  if (layer.normalization !== 'softmax') return `has no ${layer.normalization}`;
  if (layer.scoring.kind !== 'dot' || layer.softcap !== null || layer.position.kind === 'alibi' || layer.position.kind === 'decomposed' || layer.sink) return 'has scaled products of rows only';
  return seesEverything(workload) || isPlainCausal(workload) ? null : 'has no mask but the causal one';
}

async function prepare(runtime: WebGpuRuntime, workload: Workload, { query, key, value }: Inputs): Promise<Prepared> {
  const { layer, batch, queryLength, keyLength } = workload;
  const rows = batch * layer.heads * queryLength;
  const programs = await Promise.all([scores, softmax, sums].map(async (body) => runtime.compile(sourceOf(workload, body))));
  const [q, k, v] = [query, key, value].map((tensor) => runtime.upload(tensor));
  const pairs = runtime.tensor([rows, keyLength], 'f32');
  const output = runtime.tensor([batch, layer.heads, queryLength, layer.valueDim], 'f32');
  if (q === undefined || k === undefined || v === undefined) throw new RangeError('there are three inputs');
  const [first, second, third] = programs;
  if (first === undefined || second === undefined || third === undefined) throw new RangeError('there are three programs');
  const buffers = [q, k, v, pairs, output].map((tensor) => runtime.bufferOf(tensor));
  const pass = (program: Program, items: number): void => {
    runtime.submit([{ program, buffers, workgroups: Math.ceil(items / 64) }]);
  };
  return {
    run: async () => {
      pass(first, rows * keyLength);
      pass(second, rows);
      pass(third, rows * layer.valueDim);
      await runtime.finished();
    },
    output: async () => toFloat64((await runtime.read(output)) satisfies HostTensor),
    memory: () => runtime.memory(),
    dispose: () => {
      for (const tensor of [q, k, v, pairs, output]) runtime.release(tensor);
    },
  };
}

/** One of the three shaders. `item` counts what it computes; every name of the workload's sizes is a constant. */
function sourceOf({ layer, queryLength, keyLength, queryOffset, ...workload }: Workload, { name, items, body }: Pass): ProgramSource {
  const causal = layer.mask.kind === 'causal' && !seesEverything({ layer, queryLength, keyLength, queryOffset, ...workload });
  const code = `// ${name}: one invocation for each of ${items}
@group(0) @binding(0) var<storage, read> query: array<f32>;
@group(0) @binding(1) var<storage, read> key: array<f32>;
@group(0) @binding(2) var<storage, read> value: array<f32>;
@group(0) @binding(3) var<storage, read_write> pairs: array<f32>;
@group(0) @binding(4) var<storage, read_write> output: array<f32>;

const heads = ${layer.heads}u;
const keyHeads = ${layer.keyHeads}u;
const queryLength = ${queryLength}u;
const keyLength = ${keyLength}u;
const dim = ${layer.queryDim}u;
const valueDim = ${layer.valueDim}u;
const rows = ${workload.batch * layer.heads * queryLength}u;
const scale = ${layer.scale};
const causal = ${causal};

// The first key row of the head that a query row belongs to.
fn firstKeyRow(row: u32) -> u32 {
  let plane = row / queryLength;
  return ((plane / heads) * keyHeads + (plane % heads) * keyHeads / heads) * keyLength;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let item = (group.x + group.y * groups.x) * 64u + local;
${body}
  // Every shader has the same bindings.
  if (item == 0xffffffffu) {
    output[0] = query[0] + key[0] + value[0] + pairs[0];
  }
}
`;
  return { name: `three-pass ${name}`, code, bindings: ['read', 'read', 'read', 'write', 'write'] };
}

interface Pass {
  readonly name: string;
  readonly items: string;
  readonly body: string;
}

const scores: Pass = {
  name: 'scores',
  items: 'rows × keyLength pairs',
  body: `  if (item < rows * keyLength) {
    let row = item / keyLength;
    let j = item % keyLength;
    let keyRow = firstKeyRow(row) + j;
    var sum = 0.0;
    for (var d = 0u; d < dim; d++) {
      sum += query[row * dim + d] * key[keyRow * dim + d];
    }
    pairs[item] = select(sum * scale, -1.0e30, causal && j > row % queryLength);
  }`,
};

const softmax: Pass = {
  name: 'softmax',
  items: 'rows',
  body: `  if (item < rows) {
    var largest = -1.0e30;
    for (var j = 0u; j < keyLength; j++) {
      largest = max(largest, pairs[item * keyLength + j]);
    }
    var total = 0.0;
    for (var j = 0u; j < keyLength; j++) {
      let weight = exp(pairs[item * keyLength + j] - largest);
      pairs[item * keyLength + j] = weight;
      total += weight;
    }
    for (var j = 0u; j < keyLength; j++) {
      pairs[item * keyLength + j] /= total;
    }
  }`,
};

const sums: Pass = {
  name: 'sums',
  items: 'rows × valueDim numbers',
  body: `  if (item < rows * valueDim) {
    let row = item / valueDim;
    let channel = item % valueDim;
    let keyRow = firstKeyRow(row);
    var sum = 0.0;
    for (var j = 0u; j < keyLength; j++) {
      sum += pairs[row * keyLength + j] * value[(keyRow + j) * valueDim + channel];
    }
    output[item] = sum;
  }`,
};
