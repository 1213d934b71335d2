import { contiguousStrides, isHostTensor, tensor, toFloat64, type AttentionInputs, type AttentionVariant, type Backend, type HostTensor, type Runtime, type Tensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { createCpuBackend } from '@heed/cpu';
import { createWebGpuBackend } from '@heed/webgpu';
import { expect } from 'vitest';

/** Backends that layers are tried on. Layers are the same code on each, so the device gets a few tests. */
export const backends: Readonly<Record<'reference' | 'cpu' | 'webgpu', () => Promise<Backend>>> = {
  reference: async () => createReferenceBackend(),
  cpu: async () => createCpuBackend({ threads: 2 }),
  webgpu: async () => createWebGpuBackend(),
};

/** The backends of the lane that runs: that of devices has the device alone. */
export const tried: readonly (keyof typeof backends)[] = process.env.HEED_ON_DEVICE === undefined ? ['reference', 'cpu'] : ['webgpu'];

/** Closes the backend and, where it does not do so itself, its runtime. */
export async function close(backend: Backend): Promise<void> {
  await backend.dispose();
  await backend.runtime.dispose();
}

/** Normal numbers from a seed. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** In (0, 1): mulberry32. */
  uniform(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  }

  integer(from: number, to: number): number {
    return from + Math.floor(this.uniform() * (to - from + 1));
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.integer(0, choices.length - 1)]!;
  }

  normal(): number {
    return Math.sqrt(-2 * Math.log(this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Normal numbers times `deviation`. */
  tensor(shape: readonly number[], deviation: number = 1): HostTensor {
    return tensor(Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, () => this.normal() * deviation), shape);
  }

  /** A linear weight [outputs, inputs] that keeps the size of what it is given. */
  weight(outputs: number, inputs: number): HostTensor {
    return this.tensor([outputs, inputs], 1 / Math.sqrt(inputs));
  }
}

/** Elements of any tensor. */
export async function elements(given: Tensor): Promise<Float64Array> {
  return toFloat64(given.runtime === null && isHostTensor(given) ? given : await given.runtime!.read(given));
}

/** Elements of a tensor that is not needed any more. */
export async function take(given: Tensor): Promise<Float64Array> {
  const numbers = await elements(given);
  given.runtime?.release(given);
  return numbers;
}

/** @throws when an element differs by more than `allowed` · (1 + |want|) */
export function expectClose(got: ArrayLike<number>, want: ArrayLike<number>, allowed: number = 2e-5): void {
  expect(got.length).toBe(want.length);
  for (let index = 0; index < want.length; index++) {
    const [a, b] = [got[index]!, want[index]!];
    if (!(Math.abs(a - b) <= allowed * (1 + Math.abs(b)))) expect.fail(`element ${index}: got ${a}, want ${b}`);
  }
}

/** x [… , inputs] · weightᵀ + bias in float64, as loops. */
export function plainLinear(x: Float64Array, weight: HostTensor, bias?: HostTensor): Float64Array {
  const [outputs = 0, inputs = 0] = weight.shape;
  const [w, b] = [toFloat64(weight), bias === undefined ? null : toFloat64(bias)];
  const rows = x.length / inputs;
  const result = new Float64Array(rows * outputs);
  for (let row = 0; row < rows; row++) {
    for (let output = 0; output < outputs; output++) {
      let sum = b?.[output] ?? 0;
      for (let input = 0; input < inputs; input++) sum += x[row * inputs + input]! * w[output * inputs + input]!;
      result[row * outputs + output] = sum;
    }
  }
  return result;
}

/** Rows [batch, length, heads · dim] as [batch, heads, length, dim], float64, without a copy. */
export function plainHeads(rows: Float64Array, batch: number, length: number, heads: number): HostTensor {
  const dim = rows.length / (batch * length * heads);
  return tensor(rows, [batch, heads, length, dim], { strides: [length * heads * dim, dim, heads * dim, 1] });
}

/** Attention of the reference over float64 rows, its output as [batch, length, heads · valueDim]. */
export async function plainAttention(variant: AttentionVariant, inputs: AttentionInputs): Promise<Float64Array> {
  const reference = createReferenceBackend();
  const dtypes = { query: 'f64', key: 'f64', value: 'f64' } as const;
  const kernel = await reference.prepare({ variant, queryDim: inputs.query.shape[3]!, keyDim: inputs.key.shape[3]!, valueDim: inputs.value.shape[3]!, dtypes });
  const { output } = await kernel.run(inputs);
  const [batch = 0, heads = 0, length = 0, dim = 0] = output.shape;
  const source = toFloat64(output as HostTensor);
  await reference.dispose();
  const strides = contiguousStrides([batch, heads, length, dim]);
  return Float64Array.from(source, (_, index) => {
    const [channel, head, row, sequence] = [index % dim, Math.floor(index / dim) % heads, Math.floor(index / (dim * heads)) % length, Math.floor(index / (dim * heads * length))];
    return source[sequence * strides[0]! + head * strides[1]! + row * strides[2]! + channel]!;
  });
}

/** Bytes that a piece of work leaves behind on a runtime. */
export async function bytesLeft(runtime: Runtime, work: () => Promise<void>): Promise<number> {
  await runtime.idle();
  const before = runtime.memory().bytes;
  await work();
  await runtime.idle();
  return runtime.memory().bytes - before;
}
