import { expect } from 'vitest';
import { fastWeights, tensor, toFloat64 } from '../../src/index.ts';
import type { FastWeightInputs, FastWeightKernel, FastWeightOptions, FastWeightOutputs, FastWeightRequest, FastWeightState, HostTensor, Tensor } from '../../src/index.ts';
import { prepareFastWeights } from '../../src/reference/fast-weights/kernel.ts';

const f64 = { query: 'f64', key: 'f64', value: 'f64' } as const;

/** Numbers from N(0, 1): the same ones for the same seed. */
export function normal(seed: number, count: number): Float64Array {
  let state = seed | 0;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (((mixed ^ (mixed >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return Float64Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

export function random(seed: number, shape: readonly number[], change: (x: number) => number = (x) => x): HostTensor {
  return tensor(normal(seed, shape.reduce((a, b) => a * b, 1)).map(change), shape);
}

/** Rows of length one along the last axis. */
export function unitRows(seed: number, shape: readonly number[]): HostTensor {
  const data = toFloat64(random(seed, shape));
  const width = shape.at(-1) ?? 1;
  for (let at = 0; at < data.length; at += width) {
    const row = data.subarray(at, at + width);
    const norm = Math.hypot(...row);
    row.forEach((element, channel) => (row[channel] = element / norm));
  }
  return tensor(data, shape);
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
/** Decays between 0 and 1, as natural logarithms. */
export const logSigmoid = (x: number): number => -Math.log1p(Math.exp(-x));

export async function prepare(options: FastWeightOptions, dim: number, valueDim: number, gradients?: FastWeightRequest['gradients']): Promise<FastWeightKernel> {
  return prepareFastWeights({ variant: fastWeights(options), dim, valueDim, dtypes: f64, ...(gradients === undefined ? {} : { gradients }) });
}

/** Runs in f64 with dims as the tensors have them; the kernel and its result live on the host. */
export async function run(options: FastWeightOptions, inputs: FastWeightInputs): Promise<FastWeightOutputs<HostTensor>> {
  const kernel = await prepare(options, inputs.query.shape[3] ?? 0, inputs.value.shape[3] ?? 0);
  return (await kernel.run(inputs)) as FastWeightOutputs<HostTensor>;
}

export function values(given: Tensor | undefined): readonly number[] {
  return given === undefined ? [] : [...toFloat64(given as HostTensor)];
}

export function expectClose(got: readonly number[], want: readonly number[], tolerance: number = 1e-12): void {
  expect(got).toHaveLength(want.length);
  got.forEach((each, index) => {
    const expected = want[index] ?? Number.NaN;
    const isClose = each === expected || Math.abs(each - expected) <= tolerance * (1 + Math.abs(expected));
    if (!isClose) expect.fail(`element ${index} is ${each}, expected ${expected}, of [${got.slice(0, 8).join(', ')}, …]`);
  });
}

export function expectSameState(got: FastWeightState, want: FastWeightState, tolerance?: number): void {
  expect(Object.keys(got).sort()).toEqual(Object.keys(want).sort());
  for (const name of Object.keys(want)) {
    expect(got[name]?.shape).toEqual(want[name]?.shape);
    expectClose(values(got[name]), values(want[name]), tolerance);
  }
}

/** Rows first … last − 1 of a tensor [batch, heads, length, …], as its own. A length of 1 that repeats stays. */
export function rowsOf(source: Tensor, first: number, last: number): HostTensor {
  const [batch = 1, heads = 1, length = 1, ...rest] = source.shape;
  if (length === 1) return source as HostTensor;
  const width = rest.reduce((a, b) => a * b, 1);
  const data = toFloat64(source as HostTensor);
  const parts = Array.from({ length: batch * heads }, (_, lane) => [...data.subarray((lane * length + first) * width, (lane * length + last) * width)]);
  return tensor(Float64Array.from(parts.flat()), [batch, heads, last - first, ...rest]);
}

const rowNames = ['query', 'key', 'value', 'logDecay', 'writeStrength', 'removalKey', 'removalWeight', 'momentum'] as const;

/** Inputs of tokens first … last − 1. */
export function tokens(inputs: FastWeightInputs, first: number, last: number): FastWeightInputs {
  const cut = rowNames.flatMap((name) => {
    const given = inputs[name];
    return given === undefined ? [] : [[name, rowsOf(given, first, last)] as const];
  });
  return { ...inputs, ...Object.fromEntries(cut), offset: first };
}

/** Runs the tokens in pieces that end at `ends`, handing the state on; outputs joined along the length. */
export async function runInPieces(options: FastWeightOptions, inputs: FastWeightInputs, ends: readonly number[]): Promise<{ readonly output: readonly number[]; readonly state: FastWeightState }> {
  const [batch = 1, valueHeads = 1, length = 0, valueDim = 1] = inputs.value.shape;
  const output = new Float64Array(batch * valueHeads * length * valueDim);
  let state: FastWeightState | undefined = inputs.state;
  let first = 0;
  for (const last of ends) {
    const piece = await run(options, { ...tokens(inputs, first, last), ...(state === undefined ? {} : { state }) });
    const data = toFloat64(piece.output);
    const width = (last - first) * valueDim;
    for (let lane = 0; lane < batch * valueHeads; lane++) output.set(data.subarray(lane * width, (lane + 1) * width), (lane * length + first) * valueDim);
    state = piece.state;
    first = last;
  }
  return { output: [...output], state: state ?? {} };
}

// ── Small dense matrices for readings written out in tests ─────────────────────────────────────────────────────────────

export type Table = readonly (readonly number[])[];

/** One head of a tensor [batch, heads, length, width] as rows. */
export function headOf(source: Tensor, batch: number, head: number): Table {
  const [, heads = 1, length = 1, width = 1] = source.shape;
  const data = toFloat64(source as HostTensor);
  return Array.from({ length }, (_, row) => {
    const start = ((batch * heads + head) * length + row) * width;
    return [...data.subarray(start, start + width)];
  });
}

export function transpose(a: Table): Table {
  return (a[0] ?? []).map((_, column) => a.map((row) => row[column] ?? Number.NaN));
}

export function multiply(a: Table, b: Table): Table {
  const columns = transpose(b);
  return a.map((row) => columns.map((column) => row.reduce((sum, element, index) => sum + element * (column[index] ?? Number.NaN), 0)));
}

export function combine(a: Table, b: Table, each: (x: number, y: number) => number): Table {
  return a.map((row, index) => row.map((element, column) => each(element, b[index]?.[column] ?? Number.NaN)));
}

export function identity(size: number): Table {
  return Array.from({ length: size }, (_, row) => Array.from({ length: size }, (_unused, column) => Number(row === column)));
}
