import type { Machine, ProgramSource, WebGpuRuntime } from '@heed/runtime-webgpu';

const invocations = 128;

/**
 * The subgroups that plans may count on: those of the device, where invocation i of a workgroup is neighbour i ^ 1, i ^ 2, … of its subgroup, as on every device
 * known; WGSL does not promise it, so it is tried, once for each backend. Null where it is not so.
 */
export async function triedSubgroups(runtime: WebGpuRuntime): Promise<Machine['subgroups']> {
  const { subgroups } = runtime.machine;
  if (subgroups === null || subgroups.least < 2) return null;
  const steps: number[] = [];
  for (let step = 1; step < Math.min(subgroups.least, invocations); step *= 2) steps.push(step);
  const program = await runtime.compile(sourceOf(steps));
  const result = runtime.tensor([steps.length * invocations], 'i32');
  try {
    runtime.submit([{ program, buffers: [runtime.bufferOf(result)], workgroups: 1 }]);
    const met = (await runtime.read(result)).view();
    const asExpected = steps.every((step, row) => Array.from({ length: invocations }, (_, local) => local).every((local) => met[row * invocations + local] === (local ^ step)));
    return asExpected ? subgroups : null;
  } finally {
    runtime.release(result);
  }
}

/** Each invocation writes down whom it meets. */
function sourceOf(steps: readonly number[]): ProgramSource {
  const meetings = steps.map((step, row) => `  met[${row * invocations}u + local] = i32(subgroupShuffleXor(local, ${step}u));`);
  return {
    name: 'neighbours of subgroups',
    code: `enable subgroups;

@group(0) @binding(0) var<storage, read_write> met: array<i32>;

@compute @workgroup_size(${invocations})
fn main(@builtin(local_invocation_index) local: u32) {
${meetings.join('\n')}
}
`,
    bindings: ['write'],
  };
}
