/** What the device can do at most, measured: the numbers that kernels are compared with. */
import type { ProgramSource } from './pipelines.ts';
import type { WebGpuRuntime } from './runtime.ts';

/** Best rates seen. */
export interface DeviceLimit {
  readonly description: string;
  /** One multiply and one add are two. */
  readonly gigaflopsPerSecond: number;
  readonly readGigabytesPerSecond: number;
  /** Bytes copied, each counted once. */
  readonly copyGigabytesPerSecond: number;
}

export interface DeviceLimits {
  readonly f32: DeviceLimit;
  /** Null where shaders may not compute in float16. */
  readonly f16: DeviceLimit | null;
}

/** Work is doubled until it takes this many milliseconds, so that what a submit costs does not count. */
const telling = 40;
const attempts = 5;

/** Bytes that are read and copied: in the end, where a device is fast and bindings allow it, more than caches hold. */
const [shortestStream, longestStream] = [8 * 2 ** 20, 256 * 2 ** 20];

/**
 * Multiply-adds in registers, and streams through buffers. Takes about a second.
 * @throws AttentionError `out-of-memory` where the runtime may not hold two buffers of 256 MiB, or of the largest binding
 */
export async function measureDeviceLimits(runtime: WebGpuRuntime): Promise<DeviceLimits> {
  const streams = await measureStreams(runtime);
  const rate = async (type: 'f32' | 'f16'): Promise<DeviceLimit> => ({
    description: `WebGPU, multiply-adds of ${type === 'f32' ? 'float32' : 'float16'} in registers`,
    gigaflopsPerSecond: await measureMultiplyAdds(runtime, type),
    ...streams,
  });
  return { f32: await rate('f32'), f16: runtime.machine.float16 ? await rate('f16') : null };
}

/** Chains of each invocation, each of vectors of four, so that none waits for another. */
const chains = 8;
const lanes = 64;
const flopsPerStep = chains * 4 * 2;

function multiplyAdds(type: 'f32' | 'f16'): ProgramSource {
  const names = Array.from({ length: chains }, (_, chain) => `chain${chain}`);
  return {
    name: `multiply-adds of ${type}`,
    bindings: ['uniform', 'write'],
    code: `${type === 'f16' ? 'enable f16;\n' : ''}// ${chains} chains of multiply-adds in registers
struct Parameters { steps: u32, factor: f32, term: f32 }

@group(0) @binding(0) var<uniform> parameters: Parameters;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(${lanes})
fn main(@builtin(local_invocation_index) local: u32) {
  let factor = vec4<${type}>(${type}(parameters.factor));
  let term = vec4<${type}>(${type}(parameters.term));
${names.map((name, chain) => `  var ${name} = vec4<${type}>(${type}(local + ${chain}u));`).join('\n')}
  for (var step = 0u; step < parameters.steps; step++) {
${names.map((name) => `    ${name} = fma(${name}, factor, term);`).join('\n')}
  }
  let total = ${names.join(' + ')};
  // Never so; but the compiler cannot know.
  if (total.x + total.y + total.z + total.w == ${type}(12345)) {
    result[local] = f32(total.x);
  }
}
`,
  };
}

async function measureMultiplyAdds(runtime: WebGpuRuntime, type: 'f32' | 'f16'): Promise<number> {
  const program = await runtime.compile(multiplyAdds(type));
  const result = runtime.acquireBuffer(4 * lanes);
  let [workgroups, steps] = [64, 64];
  const once = async (): Promise<number> => {
    const words = new Uint32Array(3);
    new Float32Array(words.buffer).set([0.999, 0.001], 1);
    words[0] = steps;
    return timed(runtime, () => {
      runtime.submit([{ program, parameters: words, buffers: [result], workgroups }]);
    });
  };
  try {
    // Enough workgroups to fill any device, then longer ones.
    for (await once(); (await once()) < telling; ) {
      if (workgroups < 8192) workgroups *= 2;
      else steps *= 2;
    }
    return (workgroups * lanes * steps * flopsPerStep) / (await best(once)) / 1e6;
  } finally {
    runtime.releaseBuffer(result);
  }
}

const reading: ProgramSource = {
  name: 'read a stream',
  bindings: ['uniform', 'read', 'write'],
  code: `// neighbouring invocations read neighbouring elements
@group(0) @binding(0) var<uniform> parameters: vec4<u32>;
@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  var total = vec4<f32>();
  for (var place = group.x * 256u + local; place < parameters.x; place += groups.x * 256u) {
    total += source[place];
  }
  if (total.x + total.y + total.z + total.w == 12345.0f) {
    result[local] = total.x;
  }
}
`,
};

const copying: ProgramSource = {
  name: 'copy a stream',
  bindings: ['uniform', 'read', 'write'],
  code: `@group(0) @binding(0) var<uniform> parameters: vec4<u32>;
@group(0) @binding(1) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> result: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  for (var place = group.x * 256u + local; place < parameters.x; place += groups.x * 256u) {
    result[place] = source[place];
  }
}
`,
};

const streamWorkgroups = 4096;

async function measureStreams(runtime: WebGpuRuntime): Promise<Pick<DeviceLimit, 'readGigabytesPerSecond' | 'copyGigabytesPerSecond'>> {
  return { readGigabytesPerSecond: await measureStream(runtime, reading), copyGigabytesPerSecond: await measureStream(runtime, copying) };
}

/** Streams that are as long as it takes, up to what no cache holds; then repeated. */
async function measureStream(runtime: WebGpuRuntime, source: ProgramSource): Promise<number> {
  const program = await runtime.compile(source);
  const longest = Math.min(longestStream, runtime.machine.bindingBytes);
  for (let [bytes, repeats] = [Math.min(shortestStream, longest), 1]; ; ) {
    const buffers = [runtime.acquireBuffer(bytes), runtime.acquireBuffer(bytes)];
    const dispatch = { program, parameters: Uint32Array.of(Math.floor(bytes / 16), 0, 0, 0), buffers, workgroups: streamWorkgroups };
    const dispatches = Array.from({ length: repeats }, () => dispatch);
    const once = async (): Promise<number> => timed(runtime, () => {
      runtime.submit(dispatches);
    });
    try {
      await once();
      if ((await once()) >= telling) return (repeats * bytes) / (await best(once)) / 1e6;
    } finally {
      for (const buffer of buffers) runtime.releaseBuffer(buffer);
    }
    if (bytes < longest) bytes = Math.min(longest, 2 * bytes);
    else repeats *= 2;
  }
}

/** Milliseconds from submit to completion. */
async function timed(runtime: WebGpuRuntime, work: () => void): Promise<number> {
  const start = performance.now();
  work();
  await runtime.finished();
  return performance.now() - start;
}

async function best(work: () => Promise<number>): Promise<number> {
  let least = Infinity;
  for (let attempt = 0; attempt < attempts; attempt += 1) least = Math.min(least, await work());
  return least;
}
