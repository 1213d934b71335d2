import { isHostTensor, toFloat64, type AttentionInputs, type AttentionKernel, type AttentionRequest, type DType, type Tensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { compare, drawInputs, drawTables, float32Attention, float32LogSumExp, float32Threshold, RandomSource, variants, type Bound, type Shape } from '@heed/conformance';
import { createCpuBackend } from '@heed/cpu';
import { expect, test } from 'vitest';
import { createWebGpuBackend } from '../../src/index.ts';

/** Drawn from a fixed seed; HEED_REQUESTS says how many. */
const count = Number(process.env.HEED_REQUESTS ?? 200);
const seed = 20_261_120;

/** Kernels that are compiled at the same time. */
const batch = 8;

interface Drawn {
  readonly name: string;
  readonly shape: Shape;
  readonly request: AttentionRequest;
  readonly inputs: AttentionInputs;
  readonly score: number;
}

/** A variant of the suite's catalogue, with sizes that it suits, a storage type, and inputs rounded to it. */
function draw(random: RandomSource): Drawn {
  const pick = <T>(choices: readonly T[]): T => {
    const chosen = choices[random.integer(choices.length)];
    if (chosen === undefined) throw new RangeError('there is nothing to pick from');
    return chosen;
  };
  for (;;) {
    const [name, named] = pick(Object.entries(variants));
    const [heads, keyHeads] = pick([[1, 1], [4, 2], [6, 1]] as const);
    const dim = pick([8, 8, 17, 40, 64]);
    const shape: Shape = { batch: pick([1, 2]), heads, keyHeads, queryLength: pick([1, 2, 5, 17, 33]), keyLength: pick([1, 7, 17, 33, 140]), queryDim: dim, keyDim: dim, valueDim: pick([dim, dim, 6]) };
    if (named.suits?.(shape) === false) continue;
    const dtype = pick<DType>(['f32', 'f32', 'f16', 'bf16']);
    const output = pick<DType>([dtype, 'f32']);
    const variant = named.make(shape);
    const rows = drawInputs(random, shape, { dtype });
    const inputs = { ...rows, tables: drawTables(random, variant, shape, { ...named.tables?.(shape) }), queryOffset: Math.max(0, shape.keyLength - shape.queryLength) };
    const request: AttentionRequest = { variant, queryDim: dim, keyDim: dim, valueDim: shape.valueDim, dtypes: { query: dtype, key: dtype, value: dtype, output } };
    return { name: `${name} ${dtype} to ${output} ${JSON.stringify(shape)}`, shape, request, inputs, score: named.score ?? 4 };
  }
}

function numbers(of: Tensor): Float64Array {
  if (!isHostTensor(of)) throw new TypeError('a host query gives host tensors');
  return toFloat64(of);
}

test(`${count} random requests agree with the float64 reference and with cpu`, { timeout: 600_000 }, async () => {
  const random = new RandomSource(seed);
  const [gpu, cpu, reference] = [await createWebGpuBackend(), await createCpuBackend(), createReferenceBackend()];
  const drawn = Array.from({ length: count }, () => draw(random));
  const wrong: string[] = [];
  for (let at = 0; at < drawn.length; at += batch) {
    const own = drawn.slice(at, at + batch);
    const kernels: readonly AttentionKernel[] = await Promise.all(own.map(async ({ request }) => gpu.prepare(request)));
    for (const [index, { name, shape, request, inputs, score }] of own.entries()) {
      const kernel = kernels[index];
      if (kernel === undefined) throw new RangeError('every request has its kernel');
      const others = await Promise.all([reference, cpu].map(async (backend) => backend.prepare(request)));
      const [got, want, besides] = await Promise.all([kernel, ...others].map(async (one) => one.run(inputs)));
      if (got === undefined || want === undefined || besides === undefined) throw new RangeError('three kernels give three results');
      const expected = numbers(want.output);
      const setting = { length: shape.keyLength, dim: shape.queryDim, dtype: got.output.dtype, score, magnitude: expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0) };
      const bound = (request.variant.normalization.rule.kind === 'threshold' ? float32Threshold : float32Attention).bound(setting);
      const check = (what: string, a: Tensor, b: Tensor, within: Bound): void => {
        const { share, got: had, want: should } = compare(numbers(a), numbers(b), within, got.output.dtype);
        if (share > 1) wrong.push(`${name}: ${what} is ${had}, expected ${should}: ${share.toPrecision(2)} × the bound`);
      };
      check('output', got.output, want.output, bound);
      // Both are within the bound of the same numbers, so they are within twice the bound of each other.
      check('output beside that of cpu', got.output, besides.output, { absolute: 2 * bound.absolute, relative: 2 * bound.relative });
      if (got.logSumExp !== undefined && want.logSumExp !== undefined) check('logSumExp', got.logSumExp, want.logSumExp, float32LogSumExp.bound(setting));
      await Promise.all([kernel, ...others].map(async (one) => one.dispose()));
    }
  }
  await Promise.all([gpu, cpu, reference].map(async (backend) => backend.dispose()));
  expect(wrong).toEqual([]);
});
