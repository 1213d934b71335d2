import type { FastWeightInputs, HostTensor } from '@heed/core';
import { inputsOfRule, tensor } from '@heed/core';
import { RandomSource } from '@heed/conformance';
import type { LinearWorkload } from './workloads.ts';

export type HostInputs = FastWeightInputs & Readonly<Record<'query' | 'key' | 'value', HostTensor>>;

/** Seeded inputs of a workload; queries and keys from −1 to 1, decays from e^−0.1 to 1. */
export function linearInputs({ variant, heads, length, dim }: LinearWorkload): HostInputs {
  const random = new RandomSource(20_261_120);
  const draw = (shape: readonly number[], entry: () => number): HostTensor => tensor(Float32Array.from({ length: shape.reduce((product, size) => product * size, 1) }, entry), shape);
  const rows = [1, heads, length, dim];
  const even = (): number => 2 * random.uniform() - 1;
  const by = variant.rule.kind === 'recurrent' ? variant.rule.steps.find((step) => step.step === 'decay')?.by : undefined;
  const made = {
    logDecay: () => draw(by === 'head' ? [1, heads, 1] : by === 'channel' ? rows : [1, heads, length], () => -0.1 * random.uniform()),
    writeStrength: () => draw([1, heads, length], () => random.uniform()),
    removalKey: () => draw(rows, () => even() / Math.sqrt(dim)),
    removalWeight: () => draw(rows, () => random.uniform()),
    momentum: () => draw([1, heads, length], () => random.uniform()),
  };
  return { query: draw(rows, even), key: draw(rows, even), value: draw(rows, even), ...Object.fromEntries(inputsOfRule(variant.rule).map((name) => [name, made[name]()])) };
}
