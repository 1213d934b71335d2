import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWebGpuRuntime, type ProgramSource, type WebGpuRuntime } from '../../src/index.ts';
import { codeOf, codeOfPromise } from './code-of.ts';

const adding = (term: string): ProgramSource => ({
  name: `adding ${term}`,
  bindings: ['uniform', 'write'],
  code: `@group(0) @binding(0) var<uniform> parameters: vec4<u32>;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;

@compute @workgroup_size(1)
fn main() {
  x[parameters.x] += ${term};
}
`,
});

describe('pipelines', () => {
  let runtime: WebGpuRuntime;
  beforeAll(async () => {
    runtime = await createWebGpuRuntime({ compilations: 3 });
  });
  afterAll(async () => {
    await runtime.dispose();
  });

  test('the same text compiles once, also when asked for at the same time', async () => {
    const [first, second] = await Promise.all([runtime.compile(adding('1u')), runtime.compile(adding('1u'))]);
    expect(second).toBe(first);
    expect(runtime.compileNow(adding('1u'))).toBe(first);
  });

  test('many at once compile a few at a time', async () => {
    const { device } = runtime;
    const original = device.createComputePipelineAsync.bind(device);
    let [now, most] = [0, 0];
    Object.defineProperty(device, 'createComputePipelineAsync', {
      configurable: true,
      value: async (descriptor: GPUComputePipelineDescriptor) => {
        now += 1;
        most = Math.max(most, now);
        try {
          return await original(descriptor);
        } finally {
          now -= 1;
        }
      },
    });
    await Promise.all(Array.from({ length: 20 }, async (_, index) => runtime.compile(adding(`${index + 2}u`))));
    expect(most).toBe(3);
    Reflect.deleteProperty(device, 'createComputePipelineAsync');
  });

  test('a mistake is an error with the shader’s name and the line; the next text compiles', async () => {
    const wrong = adding('nothing');
    await expect(runtime.compile(wrong)).rejects.toThrow(/Shader 'adding nothing' does not compile: line 6: .*nothing.* in 'x\[parameters.x\] \+= nothing;'/);
    expect(await codeOfPromise(runtime.compile(wrong))).toBe('internal');
    await runtime.compile(adding('100u'));
  });

  test('a mistake in what compiles at once poisons what it writes, and rejects at read and at idle, once', async () => {
    const made = runtime.tensor([1], 'i32');
    const wrong = adding('missing');
    runtime.submit([{ program: runtime.compileNow(wrong), parameters: Uint32Array.of(0, 0, 0, 0), buffers: [runtime.bufferOf(made)], workgroups: 1 }]);
    await expect(runtime.read(made)).rejects.toThrow(/Shader 'adding missing' does not compile: line 6/);
    await expect(runtime.idle()).rejects.toThrow(/Shader 'adding missing'/);
    await runtime.idle();
    runtime.release(made);
  });

  test('more buffers than a shader may have are refused with the limit and both numbers', () => {
    const most = runtime.machine.storageBindings;
    const source = { ...adding('1u'), code: `${adding('1u').code}\n`, bindings: Array.from({ length: most + 1 }, () => 'read' as const) };
    expect(() => runtime.compileNow(source)).toThrow(new RegExp(`${most + 1} buffers; maxStorageBuffersPerShaderStage of this device is ${most}`));
    expect(codeOf(() => runtime.compileNow(source))).toBe('unsupported');
  });

  test('work between what many dispatches share goes to the device in order', async () => {
    const made = runtime.upload({ dtype: 'i32', shape: [4], strides: [1], runtime: null, view: () => Int32Array.of(0, 0, 0, 0) });
    const program = runtime.compileNow(adding('1u'));
    for (let index = 0; index < 1000; index += 1) runtime.submit([{ program, parameters: Uint32Array.of(index % 4, 0, 0, 0), buffers: [runtime.bufferOf(made)], workgroups: 1 }]);
    expect([...(await runtime.read(made)).view()]).toEqual([250, 250, 250, 250]);
    runtime.release(made);
  });
});
