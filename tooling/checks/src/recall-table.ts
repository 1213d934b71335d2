import { additiveRule, decayRule, deltaRule, fastWeights, gatedDeltaRule, inputsOfRule, tensor, toFloat64, isHostTensor, type FastWeightInputs, type FastWeightVariant, type HostTensor } from '@heed/core';
import { createReferenceBackend } from '@heed/core/reference';
import { RandomSource } from '@heed/conformance';

/** Keys and values of this width; every number is a mean over this many draws. */
const dim = 16;
const draws = 64;
const decay = 0.95;

const rules: Readonly<Record<string, FastWeightVariant>> = {
  additive: fastWeights({ rule: additiveRule(), scale: 1 }),
  [`decay ${decay}`]: fastWeights({ rule: decayRule({ by: 'step' }), scale: 1 }),
  delta: fastWeights({ rule: deltaRule(), scale: 1 }),
  [`gated delta ${decay}`]: fastWeights({ rule: gatedDeltaRule(), scale: 1 }),
};

/** What is written, in order, and which of the writes are read back. */
interface Experiment {
  readonly name: string;
  /** Number of the key of each write; writes of one number have one key and a value each. */
  readonly keys: readonly number[];
  readonly read: readonly number[];
}

const count = (length: number): readonly number[] => Array.from({ length }, (_, index) => index);

const experiments: readonly Experiment[] = [
  ...[4, 8, 16, 32, 64].map((pairs) => ({ name: `${pairs} pairs`, keys: count(pairs), read: count(pairs) })),
  { name: '64 pairs, the last 4', keys: count(64), read: [60, 61, 62, 63] },
  ...[2, 4, 8].map((times) => ({ name: `4 keys, each written ${times} times`, keys: count(4 * times).map((write) => write % 4), read: count(4).map((key) => 4 * (times - 1) + key) })),
];

/** Mean cosine between what is read at a key and the value that was last written there, by experiment and rule, from the float64 reference. */
export async function recallTable(): Promise<string> {
  const reference = createReferenceBackend();
  const rows: string[] = [];
  for (const experiment of experiments) {
    const cells: string[] = [];
    for (const variant of Object.values(rules)) {
      const kernel = await reference.prepare({ variant, dim, valueDim: dim });
      const { inputs, values } = drawExperiment(experiment, variant);
      const { output } = await kernel.run(inputs);
      if (!isHostTensor(output)) throw new TypeError('the reference computes on the host');
      cells.push(meanCosine(experiment, toFloat64(output), values).toFixed(2));
      await kernel.dispose();
    }
    rows.push(`| ${experiment.name} | ${cells.join(' | ')} |`);
  }
  await reference.dispose();
  const names = Object.keys(rules);
  return [`| written | ${names.join(' | ')} |`, `|---|${names.map(() => '---').join('|')}|`, ...rows].join('\n');
}

/** One head for each draw: unit keys, values of ±1, then reads that write nothing. */
function drawExperiment({ keys, read }: Experiment, variant: FastWeightVariant): { readonly inputs: FastWeightInputs; readonly values: Float64Array } {
  const random = new RandomSource(1);
  const length = keys.length + read.length;
  const [key, query, value] = [new Float64Array(draws * length * dim), new Float64Array(draws * length * dim), new Float64Array(draws * length * dim)];
  for (let draw = 0; draw < draws; draw += 1) {
    const unit = Array.from({ length: Math.max(...keys) + 1 }, () => unitRow(random));
    const place = (token: number): number => (draw * length + token) * dim;
    keys.forEach((number, token) => {
      key.set(unit[number] ?? [], place(token));
      for (let channel = 0; channel < dim; channel += 1) value[place(token) + channel] = random.uniform() < 0.5 ? -1 : 1;
    });
    read.forEach((write, index) => {
      query.set(unit[keys[write] ?? 0] ?? [], place(keys.length + index));
    });
  }
  const rows = (data: Float64Array): HostTensor => tensor(Float32Array.from(data), [1, draws, length, dim]);
  const numbers = (writing: number): HostTensor => tensor(Float32Array.from({ length: draws * length }, (_, place) => (place % length < keys.length ? writing : 0)), [1, draws, length]);
  const made = { writeStrength: () => numbers(1), logDecay: () => numbers(Math.log(decay)) };
  const extras = inputsOfRule(variant.rule).map((name) => [name, name === 'logDecay' || name === 'writeStrength' ? made[name]() : undefined] as const);
  return { inputs: { query: rows(query), key: rows(key), value: rows(value), ...Object.fromEntries(extras) }, values: value };
}

function unitRow(random: RandomSource): readonly number[] {
  const row = Array.from({ length: dim }, () => random.normal());
  const norm = Math.hypot(...row);
  return row.map((element) => element / norm);
}

function meanCosine({ keys, read }: Experiment, output: Float64Array, values: Float64Array): number {
  const length = keys.length + read.length;
  let sum = 0;
  for (let draw = 0; draw < draws; draw += 1) {
    read.forEach((write, index) => {
      const row = (data: Float64Array, token: number): Float64Array => data.subarray((draw * length + token) * dim, (draw * length + token + 1) * dim);
      sum += cosine(row(output, keys.length + index), row(values, write));
    });
  }
  return sum / (draws * read.length);
}

function cosine(a: Float64Array, b: Float64Array): number {
  return a.reduce((total, element, index) => total + element * (b[index] ?? 0), 0) / (Math.hypot(...a) * Math.hypot(...b));
}
