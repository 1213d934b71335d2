import { describe, expect, test } from 'vitest';
import type { HostTensor, Tensor } from '../../src/index.ts';
import { attention, causal, toFloat64, zeros } from '../../src/index.ts';
import { ReferenceKernel } from '../../src/reference/attention/kernel.ts';
import { createHostRuntime } from '../../src/reference/runtime.ts';
import { key, query, random, sizes, value } from '../plain.ts';

// What the contract says of places: results live where the rows live that they come from, and other runtimes' tensors are refused.
const { dim, valueDim } = sizes;
const runtime = createHostRuntime();
const kernel = new ReferenceKernel(
  { variant: attention({ masking: causal() }), queryDim: dim, keyDim: dim, valueDim, dtypes: { query: 'f64', key: 'f64', value: 'f64' }, observe: { stages: ['weights'], keyMass: true }, gradients: ['query', 'key'] },
  () => false,
  runtime,
);
const inputs = { query, key, value, queryOffset: 1 };
const bits = (tensor: Tensor | undefined): Float64Array => toFloat64(tensor as HostTensor);

describe('results live where their rows live', () => {
  test('a host query gives host outputs, a query of the runtime gives its tensors, with the same bits', async () => {
    const host = await kernel.run(inputs);
    const uploaded = { ...inputs, query: runtime.upload(query), key: runtime.upload(key), value: runtime.upload(value) };
    const owned = await kernel.run(uploaded);
    for (const [mine, theirs] of [[host.output, owned.output], [host.logSumExp, owned.logSumExp], [host.keyMass, owned.keyMass], [host.observed?.weights, owned.observed?.weights]]) {
      expect(mine?.runtime).toBeNull();
      expect(theirs?.runtime).toBe(runtime);
      expect(bits(theirs)).toEqual(bits(mine));
    }
    const gradient = { output: random(5, host.output.shape) };
    const [hostGradients, ownGradients] = [await kernel.backward(inputs, host.saved!, gradient), await kernel.backward(uploaded, owned.saved!, gradient)];
    expect([hostGradients.query?.runtime, ownGradients.query?.runtime]).toEqual([null, runtime]);
    expect(bits(ownGradients.key)).toEqual(bits(hostGradients.key));
    expect([(await kernel.transformKeys({ key })).runtime, (await kernel.transformKeys({ key: uploaded.key })).runtime]).toEqual([null, runtime]);
  });

  test('enqueue gives tensors of the runtime, or what it was given to write to', () => {
    const { output } = kernel.enqueue(inputs);
    expect(output.runtime).toBe(runtime);
    const into = zeros(output.shape, 'f64');
    expect(kernel.enqueue(inputs, { into: { output: into } }).output).toBe(into);
    expect(bits(into)).toEqual(bits(output));
  });

  test('tensors of another runtime are refused', async () => {
    const foreign = createHostRuntime().upload(query);
    await expect(kernel.run({ ...inputs, query: foreign })).rejects.toMatchObject({ code: 'foreign-tensor' });
    expect((await kernel.run(inputs)).output.shape).toEqual([...query.shape.slice(0, 3), valueDim]);
  });
});
