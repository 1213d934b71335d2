import { expect } from 'vitest';
import type { AttentionInputs, AttentionVariant, GradientName, HostTensor } from '../../src/index.ts';
import { tensor, toFloat64 } from '../../src/index.ts';
import { ReferenceKernel } from '../../src/reference/attention/kernel.ts';
import { random } from '../plain.ts';

/** Central differences have an error of O(step²). */
const step = 1e-5;

export interface Case {
  readonly variant: AttentionVariant;
  /** Tables of f32 type are differentiated by; others are bound. */
  readonly tables?: Readonly<Record<string, HostTensor>>;
  readonly queryDim?: number;
  /** What the call has beside query, key and value; or others of those. */
  readonly inputs?: Partial<AttentionInputs>;
}

export const heads = 2;
export const length = 4;

/** The gradients of query, key, value and every float table are the central differences of the forward pass, for a random gradient of the output and of logSumExp (L19). */
export async function checkGradients({ variant, tables = {}, queryDim = 4, inputs: others = {} }: Case): Promise<void> {
  const valueDim = 3;
  const floats = Object.keys(tables).filter((name) => variant.tables[name]?.type === 'f32');
  const gradients: GradientName[] = ['query', 'key', 'value', ...floats.map((name): GradientName => `tables.${name}`)];
  const kernel = new ReferenceKernel({ variant, queryDim, keyDim: queryDim, valueDim, dtypes: { query: 'f64', key: 'f64', value: 'f64' }, gradients }, () => false);
  const inputs: AttentionInputs & { readonly tables: Readonly<Record<string, HostTensor>> } = {
    query: random(1, [1, heads, length, queryDim]),
    key: random(2, [1, 1, length, queryDim]),
    value: random(3, [1, 1, length, valueDim]),
    ...others,
    tables,
  };
  const { saved, output, logSumExp } = await kernel.run(inputs);
  if (saved === undefined) throw new Error('a kernel prepared with gradients saves nothing');
  const outputGradient = random(4, output.shape);
  const logGradient = random(5, output.shape.slice(0, 3));
  const objective = async (changed: AttentionInputs): Promise<number> => {
    const outputs = await kernel.run(changed);
    return dot(outputs.output, outputGradient) + (outputs.logSumExp === undefined ? 0 : dot(outputs.logSumExp, logGradient));
  };
  const got = await kernel.backward(inputs, saved, { output: outputGradient, ...(logSumExp === undefined ? {} : { logSumExp: logGradient }) });
  for (const name of gradients) {
    const original = name === 'query' || name === 'key' || name === 'value' ? (inputs[name] as HostTensor) : inputs.tables[name.slice(7)];
    const gradient = got[name];
    if (original === undefined || gradient === undefined) throw new Error(`no gradient of ${name}`);
    const base = toFloat64(original);
    for (let index = 0; index < base.length; index++) {
      const moved = async (by: number): Promise<number> => {
        const copy = tensor(base.map((each, at) => (at === index ? each + by : each)), original.shape);
        const isTable = name.startsWith('tables.');
        return objective(isTable ? { ...inputs, tables: { ...tables, [name.slice(7)]: copy } } : { ...inputs, [name]: copy });
      };
      const expected = ((await moved(step)) - (await moved(-step))) / (2 * step);
      expect(Math.abs((toFloat64(gradient)[index] ?? Number.NaN) - expected), `${name}[${index}] is ${toFloat64(gradient)[index]}, expected ${expected}`).toBeLessThan(1e-7 + 1e-6 * Math.abs(expected));
    }
  }
}

/** Σ a b over finite a: the logSumExp of an empty row is −∞ however its inputs move. */
function dot(a: HostTensor, b: HostTensor): number {
  const factors = toFloat64(b);
  return toFloat64(a).reduce((sum, each, index) => sum + (each === -Infinity ? 0 : each * (factors[index] ?? 0)), 0);
}
