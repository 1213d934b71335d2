import { compare, distributions, drawInputs, drawTables, float32Attention, float32Threshold, RandomSource, variants, type Shape } from '@heed/conformance';
import { isHostTensor, toFloat64, type AttentionRequest, type Backend, type DType, type Tensor } from '@heed/core';
import { createCpuBackend } from '@heed/cpu';
import { createWebGpuBackend } from '@heed/webgpu';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

/** Requests drawn from variant × shape × dtype; the same ones every time. */
const count = 200;
const perTest = 20;

const sizes = { queryLength: [1, 3, 17, 33, 65], keyLength: [1, 5, 17, 40, 65], dim: [1, 8, 16, 24], valueDim: [1, 8, 16, 20], heads: [[1, 1], [4, 4], [6, 2], [3, 1]], batch: [1, 2], dtype: ['f32', 'f16', 'bf16'] } as const;

interface Drawn {
  readonly name: string;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly seed: number;
}

function pick<T>(random: RandomSource, from: readonly T[]): T {
  const one = from[random.integer(from.length)];
  if (one === undefined) throw new RangeError('nothing to pick from');
  return one;
}

/** Every variant in turn, so that none is left out, with a random shape that suits it. */
function drawRequests(names: readonly string[]): readonly Drawn[] {
  const random = new RandomSource(20_261_121);
  const drawn: Drawn[] = [];
  for (let seed = 0; drawn.length < count; seed += 1) {
    const name = names[drawn.length % names.length] ?? '';
    const [heads, keyHeads] = pick(random, sizes.heads);
    const dim = pick(random, sizes.dim);
    const shape: Shape = { batch: pick(random, sizes.batch), heads, keyHeads, queryLength: pick(random, sizes.queryLength), keyLength: pick(random, sizes.keyLength), queryDim: dim, keyDim: dim, valueDim: pick(random, sizes.valueDim) };
    const dtype = pick(random, sizes.dtype);
    // Else the same variant again, with another shape.
    if (variants[name]?.suits?.(shape) !== false) drawn.push({ name, shape, dtype, seed });
  }
  return drawn;
}

const names = Object.keys(variants);

describe(`${count} random requests give on webgpu what they give on cpu`, () => {
  let backends: { readonly webgpu: Backend; readonly cpu: Backend };
  beforeAll(async () => {
    backends = { webgpu: await createWebGpuBackend(), cpu: await createCpuBackend({ threads: 1 }) };
  });
  afterAll(async () => {
    for (const backend of Object.values(backends)) await backend.dispose();
  });

  const seen = new Set<string>();
  const refused = new Set<string>();
  const requests = drawRequests(names);
  for (let first = 0; first < count; first += perTest) {
    test(`${first + 1} to ${first + perTest}`, { timeout: 120_000 }, async () => {
      for (const one of requests.slice(first, first + perTest)) {
        if (await agrees(backends, one)) seen.add(one.name);
        else refused.add(one.name);
      }
    });
  }

  test('every variant that the suite names was among them, but those whose edges a dense backend refuses', () => {
    expect([...seen, ...refused].sort()).toEqual([...names].sort());
    expect([...refused].filter((name) => !/edge/i.test(name))).toEqual([]);
  });
});

/** False where both refuse the request. */
async function agrees({ webgpu, cpu }: { readonly webgpu: Backend; readonly cpu: Backend }, { name, shape, dtype, seed }: Drawn): Promise<boolean> {
  const named = variants[name];
  if (named === undefined) throw new RangeError(`no variant ${name}`);
  const variant = named.make(shape);
  const request: AttentionRequest = { variant, queryDim: shape.queryDim, keyDim: shape.keyDim, valueDim: shape.valueDim, dtypes: { query: dtype, key: dtype, value: dtype, output: 'f32' } };
  const supported = [webgpu, cpu].map((backend) => backend.assess(request).supported);
  if (supported.every((one) => !one)) return false;
  expect(supported, name).toEqual([true, true]);
  const random = new RandomSource(seed);
  const inputs = { ...drawInputs(random, shape, { dtype }), tables: drawTables(random, variant, shape, named.tables?.(shape) ?? {}), ...(shape.queryLength === shape.keyLength ? {} : { queryOffset: 'start' as const }) };
  const outputs: Float64Array[] = [];
  for (const backend of [webgpu, cpu]) {
    const kernel = await backend.prepare(request);
    const { output } = await kernel.run(inputs);
    outputs.push(onHost(output));
    await kernel.dispose();
  }
  const [got = new Float64Array(0), want = new Float64Array(0)] = outputs;
  const magnitude = want.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const tolerance = variant.normalization.rule.kind === 'threshold' ? float32Threshold : float32Attention;
  const bound = tolerance.bound({ length: shape.keyLength, dim: shape.queryDim, dtype: 'f32', magnitude, ...(named.score === undefined ? {} : { score: named.score }) });
  // Both may be off by the bound, in opposite directions.
  const difference = compare(got, want, { absolute: 2 * bound.absolute, relative: 2 * bound.relative }, 'f32');
  expect(difference.share, `${name} ${JSON.stringify(shape)} ${dtype}, inputs ${distributions.normal}`).toBeLessThanOrEqual(1);
  return true;
}

function onHost(output: Tensor): Float64Array {
  if (!isHostTensor(output)) throw new TypeError('the output is not on the host');
  return toFloat64(output);
}
