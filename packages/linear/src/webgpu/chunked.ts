/**
 * The chunked form in three passes. Within a chunk of C tokens everything that does not depend on values is a matrix (VARIANTS: chunk form; Yang 2024, section 3):
 *
 *     factors   for every chunk at once:  read [C, width], within [C, C], write [C, width], and where the rule removes, recall and remove [C, width]
 *     states    one chunk after another:  Y = recall · G;  G ← total ⊙ G − removeᵀ Y + writeᵀ V       G before each chunk is kept
 *     outputs   for every chunk at once:  O = scale · (read · G + within · V)
 *
 * Decays are multiplied token by token, never as quotients of exponentials: no decay is too strong, and one of 0 forgets.
 * With a, b, k, q the rows that are recalled by, removed along, written and read, F the product of the decays between two tokens:
 *
 *     A_tj = a_t · F b_j, R_tj = a_t · F k_j  (j < t);  B_tj = q_t · F b_j, S_tj = q_t · F k_j  (j ≤ t)
 *     recall = (I + A)⁻¹ (a decayed from the start);  M = (I + A)⁻¹ R;  read = q decayed from the start − B · recall;  within = S − B M;  write = k decayed to the end − Mᵀ remove
 */
import type { ParameterField, ProgramSource, RowKernel } from '@heed/runtime-webgpu';
import { lanes, type GpuPlan } from './gpu-plan.ts';
import { moduleOf, type StorageBinding } from '../gpu/module.ts';
import { laneRecord, readLane, type LaneField } from './recurrent.ts';

/** Tokens of a chunk. */
export const chunkTokens = 16;

export const chunkedFields: readonly ParameterField[] = [
  { name: 'firstChunk', type: 'u32', comment: 'chunks firstChunk … firstChunk + chunks − 1 of each lane' },
  { name: 'chunks', type: 'u32' },
  { name: 'isFresh', type: 'u32', comment: 'the state begins as zeros' },
  { name: 'scale', type: 'f32' },
  { name: 'width', type: 'u32', comment: 'sizes, where one program serves all of them' },
  { name: 'columns', type: 'u32' },
  { name: 'valueDim', type: 'u32' },
  { name: 'tokens', type: 'u32', comment: 'of a chunk; loops that count to a number of the call are not unrolled, which compiles in a tenth of the time' },
];

/** Matrices of one chunk in `factors`, in order: [C, C], then [width], then [C, width] each. */
const matrices = ['read', 'write', 'recall', 'remove'] as const;

/** Where one of them begins, given the width: a number or the text of one. */
function startOf(name: (typeof matrices)[number] | 'total', width: string): string {
  return name === 'total' ? `${chunkTokens ** 2}u` : `(${chunkTokens ** 2}u + ${chunkTokens * matrices.indexOf(name) + 1}u * ${width})`;
}

/** Numbers of one chunk. */
function factorCount({ width, recall }: GpuPlan): number {
  return chunkTokens ** 2 + width * (1 + chunkTokens * (recall === null ? 2 : 4));
}

/** The same in a program. */
function chunkSize({ recall }: GpuPlan, width: string): string {
  return `(${chunkTokens ** 2}u + ${1 + chunkTokens * (recall === null ? 2 : 4)}u * ${width})`;
}

/** Numbers that one chunk of one lane keeps between the passes. */
export function chunkNumbers(plan: GpuPlan): { readonly factors: number; readonly states: number } {
  return { factors: factorCount(plan), states: plan.width * plan.columns };
}

export interface ChunkedPrograms {
  readonly factors: ProgramSource;
  readonly states: ProgramSource;
  readonly outputs: ProgramSource;
}

export function chunkedPrograms(plan: GpuPlan): ChunkedPrograms {
  return { factors: factorsProgram(plan), states: statesProgram(plan), outputs: outputsProgram(plan) };
}

const integers: StorageBinding = { name: 'integers', element: 'i32', comment: `${laneRecord.length} for each lane` };
const factors = (write: boolean): StorageBinding => ({ name: 'factors', element: 'f32', write, comment: 'of each lane and chunk: within, total, read, write, recall, remove' });
const states = (write: boolean): StorageBinding => ({ name: 'states', element: 'f32', write, comment: 'G before each chunk [width, columns]' });

/** `chunk` of this dispatch, and the step at which it begins; chunks behind a lane's last return. */
function beginChunk({ writer }: RowKernel, chunk: string): void {
  writer.line(`let firstStep = i32((parameters.firstChunk + ${chunk}) * ${chunkTokens}u);`);
}

/** Whether a step has a key, and a query; `t` counts from the start of the chunk. */
function stepAt({ writer }: RowKernel, t: string): void {
  writer.line(`let step = firstStep + i32(${t}) + min(shift, 0i);`, 'let queryIndex = step - shift;', 'let hasKey = step >= 0i && step < keyCount;', 'let hasQuery = queryIndex >= 0i && queryIndex < queryCount;');
}

// ── Factors ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Products of rows: of queries or recalled rows, with written or removed rows. */
interface Score {
  readonly name: 'queryWritten' | 'queryRemoved' | 'recallWritten' | 'recallRemoved';
  readonly left: 'query' | 'recall';
  readonly right: 'written' | 'removed';
}

function scoresOf({ recall }: GpuPlan): readonly Score[] {
  const all: readonly Score[] = [
    { name: 'queryWritten', left: 'query', right: 'written' },
    { name: 'recallWritten', left: 'recall', right: 'written' },
    { name: 'queryRemoved', left: 'query', right: 'removed' },
    { name: 'recallRemoved', left: 'recall', right: 'removed' },
  ];
  return recall === null ? all.slice(0, 1) : recall.isDelta ? all.slice(0, 2) : all;
}

const input = (place: string): string => `finite(inputs[${place}])`;

function factorsProgram(plan: GpuPlan): ProgramSource {
  const { decay, recall, strength } = plan;
  const scores = scoresOf(plan);
  const reads: readonly LaneField[] = [
    ...(decay === null ? [] : (['logDecay', 'logDecayStep'] as const)),
    ...(strength || recall?.strength === 'writeStrength' ? (['writeStrength', 'writeStrengthStep'] as const) : []),
    ...(recall !== null && (recall.by === 'removalKey' || recall.along === 'removalKey') ? (['removalKey', 'removalKeyStep'] as const) : []),
    ...(recall?.strength === 'removalWeight' ? (['removalWeight', 'removalWeightStep'] as const) : []),
  ];
  const places = reads.filter((field) => !field.endsWith('Step'));
  return moduleOf({
    name: 'chunk factors',
    header: [`Chunks of ${chunkTokens} tokens: what does not depend on values or on the state, one workgroup for each chunk.`, `${decay === null ? 'No decay' : `Decay by ${decay}`}; ${recall === null ? 'nothing is removed' : `what ${recall.by} recalls${recall.beforeDecay ? ' before the decay' : ''} is removed along ${recall.along}`}.`],
    invocations: lanes,
    fields: chunkedFields,
    bindings: [
      { name: 'query', element: 'f32', comment: '[batch, heads, rows, width]' },
      { name: 'key', element: 'f32', comment: '[batch, heads, rows, width]' },
      { name: 'inputs', element: 'u32', comment: 'what the rule reads besides, float32' },
      integers,
      factors(true),
    ],
    globals: [
      ...['queryAt', 'keyAt', ...places.map((name) => `${name}At`)].map((name) => `var<workgroup> ${name}: array<i32, ${chunkTokens}>;  // −1: the token has none`),
      `var<workgroup> strengths: array<f32, ${chunkTokens}>;`,
      `var<workgroup> decays: array<f32, ${chunkTokens}>;`,
      `var<workgroup> parts: array<f32, ${lanes * chunkTokens}>;`,
      ...scores.map(({ name }) => `var<workgroup> ${name}: array<f32, ${chunkTokens ** 2}>;`),
      ...(recall === null ? [] : [`var<workgroup> solved: array<f32, ${chunkTokens ** 2}>;`]),
      '',
      ...elementFunctions(plan),
    ],
    body: (kernel) => {
      const { writer, builtins } = kernel;
      if (places.length > 0) builtins.add('finite');
      if (decay !== null) builtins.add('exponential');
      writer.line('let lane = task / parameters.chunks;', 'let chunk = task % parameters.chunks;');
      readLane(kernel, 'lane', ['queryRow', 'keyRow', 'queryCount', 'keyCount', 'shift', 'steps', ...reads]);
      beginChunk(kernel, 'chunk');
      writer.block('if (firstStep >= steps)', () => writer.line('return;'));
      writer.line(`let base = task * ${chunkSize(plan, 'parameters.width')};`);
      writer.section('Where each token’s rows stand.');
      writer.block(`if (local < ${chunkTokens}u)`, () => {
        stepAt(kernel, 'local');
        writer.line(`queryAt[local] = select(-1i, (queryRow + queryIndex) * i32(parameters.width), hasQuery);`, `keyAt[local] = select(-1i, (keyRow + step) * i32(parameters.width), hasKey);`);
        for (const name of places) writer.line(`${name}At[local] = select(-1i, ${name} + step * ${name}Step, hasKey);`);
        if (places.includes('writeStrength')) writer.line(`strengths[local] = select(0.0f, ${input('u32(max(writeStrengthAt[local], 0i))')}, hasKey);`);
        if (decay !== null && decay !== 'channel') writer.line(`decays[local] = select(1.0f, exponential(${input('u32(max(logDecayAt[local], 0i))')}), hasKey);`);
      });
      writer.line('workgroupBarrier();');
      writeScores(kernel, plan, scores);
      writeWithin(kernel, plan);
      writeColumns(kernel, plan);
    },
  });
}

/** Elements of a token's rows: 0, and decays of 1, where it has none. */
function elementFunctions({ decay, recall, strength }: GpuPlan): readonly string[] {
  const element = (name: string, at: string, value: string, otherwise = '0.0f'): readonly string[] => [`fn ${name}(t: u32, channel: u32) -> f32 {`, `  if (${at}[t] < 0i) { return ${otherwise}; }`, `  return ${value};`, '}'];
  const place = (name: string): string => `u32(${name}At[t]) + channel`;
  const rowOf = (name: 'key' | 'removalKey'): string => (name === 'key' ? `key[${place('key')}]` : input(place('removalKey')));
  const lines = [...element('queryOf', 'queryAt', `query[${place('query')}]`), ...element('writtenOf', 'keyAt', `key[${place('key')}]${strength ? ' * strengths[t]' : ''}`)];
  if (recall !== null) {
    lines.push(...element('recallOf', 'keyAt', rowOf(recall.by)));
    const factor = recall.strength === null ? '' : recall.strength === 'writeStrength' ? ' * strengths[t]' : ` * ${input(place('removalWeight'))}`;
    if (!recall.isDelta) lines.push(...element('removedOf', 'keyAt', `${rowOf(recall.along)}${factor}`));
  }
  if (decay === 'channel') lines.push(...element('decayOf', 'keyAt', `exponential(${input(place('logDecay'))})`, '1.0f'));
  return lines;
}

/** What a rule removes along is what it writes, where one difference serves both. */
const removedOf = ({ recall }: GpuPlan): string => (recall?.isDelta === true ? 'writtenOf' : 'removedOf');

/** All products of rows of the chunk: a lane takes one row of one matrix over a slice of the channels, with the decay from one token back to the next as it goes. */
function writeScores(kernel: RowKernel, plan: GpuPlan, scores: readonly Score[]): void {
  const { writer } = kernel;
  const { decay, recall } = plan;
  const slices = lanes / (scores.length * chunkTokens);
  const square = chunkTokens ** 2;
  writer.section(`Products of rows: ${scores.length} matrices of ${chunkTokens} rows, ${slices} slices of the channels.`);
  writer.block('', () => {
    writer.line(`let slice = local / ${scores.length * chunkTokens}u;`, `let matrix = local / ${chunkTokens}u % ${scores.length}u;`, `let t = local % ${chunkTokens}u;`, `var sums: array<f32, ${chunkTokens}>;`);
    const isRecall = scores.map(({ left }, index) => (left === 'recall' ? `matrix == ${index}u` : '')).filter((one) => one !== '').join(' || ') || 'false';
    const isRemoved = scores.map(({ right }, index) => (right === 'removed' ? `matrix == ${index}u` : '')).filter((one) => one !== '').join(' || ') || 'false';
    writer.line(`let isRecall = ${isRecall};`, `let isRemoved = ${isRemoved};`, '// A recalled row meets earlier tokens alone.', 'let last = select(t + 1u, t, isRecall);');
    const decayAt = (token: string): string => (decay === 'channel' ? `decayOf(${token}, channel)` : `decays[${token}]`);
    // Recalled before the decay of its own token, a row has come through one decay less.
    const firstFactor = decay === null || recall === null || recall.beforeDecay ? '1.0f' : `select(1.0f, ${decayAt('t')}, isRecall)`;
    writer.block(`for (var channel = slice; channel < parameters.width; channel += ${slices}u)`, () => {
      writer.line(`var left = queryOf(t, channel);`);
      if (recall !== null) writer.block('if (isRecall)', () => writer.line('left = recallOf(t, channel);'));
      if (decay === 'channel') writer.line(`var factor = ${firstFactor};`);
      writer.block('for (var back = last; back > 0u; back--)', () => {
        writer.line('let j = back - 1u;', 'var right = writtenOf(j, channel);');
        if (recall !== null && !recall.isDelta) writer.block('if (isRemoved)', () => writer.line('right = removedOf(j, channel);'));
        writer.line(`sums[j] = fma(left, ${decay === 'channel' ? 'factor * right' : 'right'}, sums[j]);`);
        if (decay === 'channel') writer.line(`factor *= ${decayAt('j')};`);
      });
    });
    if (decay !== null && decay !== 'channel') {
      writer.line(`var factor = ${firstFactor};`);
      writer.block('for (var back = last; back > 0u; back--)', () => writer.line('sums[back - 1u] *= factor;', `factor *= ${decayAt('back - 1u')};`));
    }
    writer.block(`for (var j = 0u; j < parameters.tokens; j++)`, () => writer.line(`parts[local * ${chunkTokens}u + j] = sums[j];`));
  });
  writer.line('workgroupBarrier();');
  writer.block(`for (var element = local; element < ${square}u; element += ${lanes}u)`, () => {
    scores.forEach(({ name }, index) => {
      const part = (slice: number): string => `parts[${(slice * scores.length + index) * square}u + element]`;
      writer.line(`${name}[element] = ${Array.from({ length: slices }, (_, slice) => part(slice)).join(' + ')};`);
    });
  });
  writer.line('workgroupBarrier();');
}

/** M by forward substitution, one lane for each column; within = S − B M. */
function writeWithin(kernel: RowKernel, { recall }: GpuPlan): void {
  const { writer } = kernel;
  const at = (row: string, column: string): string => `[${row} * ${chunkTokens}u + ${column}]`;
  if (recall === null) {
    writer.block(`for (var element = local; element < ${chunkTokens ** 2}u; element += ${lanes}u)`, () => writer.line(`factors[base + element] = queryWritten[element];`));
    return;
  }
  const [a, b] = recall.isDelta ? ['recallWritten', 'queryWritten'] : ['recallRemoved', 'queryRemoved'];
  writer.section('What recalled rows hold of each value, and what queries then do.');
  writer.block(`if (local < ${chunkTokens}u)`, () => {
    writer.line(`var column: array<f32, ${chunkTokens}>;`);
    writer.block(`for (var t = 0u; t < parameters.tokens; t++)`, () => {
      writer.line(`var sum = recallWritten${at('t', 'local')};`);
      writer.block('for (var j = 0u; j < t; j++)', () => writer.line(`sum = fma(-${a}${at('t', 'j')}, column[j], sum);`));
      writer.line('column[t] = sum;', `solved${at('t', 'local')} = sum;`, `var result = queryWritten${at('t', 'local')};`);
      writer.block('for (var j = 0u; j <= t; j++)', () => writer.line(`result = fma(-${b}${at('t', 'j')}, column[j], result);`));
      writer.line(`factors[base + t * ${chunkTokens}u + local] = result;`);
    });
  });
  writer.line('workgroupBarrier();');
}

/** Everything that is as wide as a row: a lane takes a channel. */
function writeColumns(kernel: RowKernel, plan: GpuPlan): void {
  const { writer } = kernel;
  const { decay, recall } = plan;
  const decayAt = (token: string): string => (decay === 'channel' ? `decayOf(${token}, channel)` : `decays[${token}]`);
  const place = (name: (typeof matrices)[number]): string => `factors[base + ${startOf(name, 'parameters.width')} + t * parameters.width + channel]`;
  writer.section('Rows of queries, of what is recalled, removed and written, a channel at a time.');
  writer.block(`for (var channel = local; channel < parameters.width; channel += ${lanes}u)`, () => {
    if (recall !== null) writer.line(`var column: array<f32, ${chunkTokens}>;`);
    if (decay !== null) writer.line('var since = 1.0f;');
    writer.block(`for (var t = 0u; t < parameters.tokens; t++)`, () => {
      if (decay !== null) writer.line('let before = since;', `since *= ${decayAt('t')};`);
      writer.line(`var row = queryOf(t, channel)${decay === null ? '' : ' * since'};`);
      if (recall !== null) {
        const [a, b] = recall.isDelta ? ['recallWritten', 'queryWritten'] : ['recallRemoved', 'queryRemoved'];
        writer.line(`var sum = recallOf(t, channel)${decay === null ? '' : recall.beforeDecay ? ' * before' : ' * since'};`);
        writer.block('for (var j = 0u; j < t; j++)', () => writer.line(`sum = fma(-${a}[t * ${chunkTokens}u + j], column[j], sum);`));
        writer.line('column[t] = sum;', `${place('recall')} = sum;`);
        writer.block('for (var j = 0u; j <= t; j++)', () => writer.line(`row = fma(-${b}[t * ${chunkTokens}u + j], column[j], row);`));
      }
      writer.line(`${place('read')} = row;`);
    });
    if (decay !== null) writer.line(`factors[base + ${startOf('total', '')} + channel] = since;`);
    if (decay !== null) writer.line('var until = 1.0f;');
    writer.block(`for (var back = parameters.tokens; back > 0u; back--)`, () => {
      writer.line('let t = back - 1u;', `var row = writtenOf(t, channel)${decay === null ? '' : ' * until'};`);
      if (recall !== null) {
        // What stands in `column` from the end on is what is removed.
        writer.line(`column[t] = ${removedOf(plan)}(t, channel)${decay === null ? '' : ' * until'};`, `${place('remove')} = column[t];`);
        writer.block(`for (var later = t + 1u; later < parameters.tokens; later++)`, () => writer.line(`row = fma(-solved[later * ${chunkTokens}u + t], column[later], row);`));
      }
      writer.line(`${place('write')} = row;`);
      if (decay !== null) writer.line(`until *= ${decayAt('t')};`);
    });
  });
}

// ── States ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** `element` of this lane's column at token `t` of the chunk; ones in the column of the row sum. */
function readValue({ writer }: RowKernel, { epsilon }: GpuPlan): void {
  const value = 'value[u32(valueRow + step) * parameters.valueDim + column]';
  writer.line('var element = 0.0f;');
  writer.block('if (hasKey && isColumn)', () => writer.line(epsilon === null ? `element = ${value};` : `if (column < parameters.valueDim) { element = ${value}; } else { element = 1.0f; }`));
}

function statesProgram(plan: GpuPlan): ProgramSource {
  const { width, valueDim, columns, rows, groups, blockColumns, epsilon, recall, decay } = plan;
  const blocks = Math.ceil(columns / blockColumns);
  return moduleOf({
    name: 'chunk states',
    header: [`G from chunk to chunk, ${blockColumns} columns in each workgroup, ${groups} lanes to a column, ${rows} rows each.`],
    invocations: lanes,
    fields: chunkedFields,
    bindings: [
      { name: 'value', element: 'f32', comment: `[batch, heads, rows, ${valueDim}]` },
      integers,
      factors(false),
      { name: 'memory', element: 'f32', write: true, comment: `G of each lane [${width}, ${valueDim}]` },
      ...(epsilon === null ? [] : [{ name: 'normalizer', element: 'f32', write: true, comment: `z of each lane [${width}]` } as const]),
      states(true),
    ],
    globals: groups === 1 || recall === null ? [] : [`var<workgroup> shares: array<f32, ${lanes * chunkTokens}>;`],
    body: (kernel) => {
      const { writer } = kernel;
      writer.line(`let lane = task / ${blocks}u;`, `let column = (task % ${blocks}u) * ${blockColumns}u + local % ${blockColumns}u;`, `let firstRow = local / ${blockColumns}u * ${rows}u;`, `let isColumn = column < ${columns}u;`);
      readLane(kernel, 'lane', ['valueRow', 'queryCount', 'keyCount', 'shift', 'steps', 'state']);
      const place = `(u32(state) * ${width}u + row) * ${valueDim}u + column`;
      const eachRow = (body: () => void): void => {
        writer.block(`for (var n = 0u; n < ${rows}u; n++)`, () => {
          writer.line('let row = firstRow + n;');
          if (rows * groups === width) body();
          else writer.block(`if (row < ${width}u)`, body);
        });
      };
      writer.line(`var held: array<f32, ${rows}>;`);
      eachRow(() => writer.block('if (parameters.isFresh == 0u && isColumn)', () => writer.line(epsilon === null ? `held[n] = memory[${place}];` : `if (column < ${valueDim}u) { held[n] = memory[${place}]; } else { held[n] = normalizer[u32(state) * ${width}u + row]; }`)));
      writer.line('');
      writer.block('for (var chunk = 0u; chunk < parameters.chunks; chunk++)', () => {
        beginChunk(kernel, 'chunk');
        writer.block('if (firstStep >= steps)', () => writer.line('break;'));
        writer.line('let at = lane * parameters.chunks + chunk;', `let base = at * ${factorCount(plan)}u;`);
        eachRow(() => writer.block('if (isColumn)', () => writer.line(`states[(at * ${width}u + row) * ${columns}u + column] = held[n];`)));
        if (recall !== null) {
          writer.line(`var recalled: array<f32, ${chunkTokens}>;`);
          writer.block(`for (var t = 0u; t < ${chunkTokens}u; t++)`, () => {
            writer.line('var sum = 0.0f;');
            eachRow(() => writer.line(`sum = fma(factors[base + ${startOf('recall', `${width}u`)} + t * ${width}u + row], held[n], sum);`));
            writer.line(groups === 1 ? 'recalled[t] = sum;' : `shares[t * ${lanes}u + local] = sum;`);
          });
          if (groups > 1) {
            writer.line('workgroupBarrier();');
            writer.block(`for (var t = 0u; t < ${chunkTokens}u; t++)`, () => {
              writer.line('recalled[t] = 0.0f;');
              writer.block(`for (var other = 0u; other < ${groups}u; other++)`, () => writer.line(`recalled[t] += shares[t * ${lanes}u + other * ${blockColumns}u + local % ${blockColumns}u];`));
            });
            writer.line('workgroupBarrier();');
          }
        }
        if (decay !== null) eachRow(() => writer.line(`held[n] *= factors[base + ${startOf('total', '')} + row];`));
        writer.block(`for (var t = 0u; t < ${chunkTokens}u; t++)`, () => {
          stepAt(kernel, 't');
          readValue(kernel, plan);
          eachRow(() => {
            if (recall !== null) writer.line(`held[n] = fma(-factors[base + ${startOf('remove', `${width}u`)} + t * ${width}u + row], recalled[t], held[n]);`);
            writer.line(`held[n] = fma(factors[base + ${startOf('write', `${width}u`)} + t * ${width}u + row], element, held[n]);`);
          });
        });
      });
      eachRow(() => writer.block('if (isColumn)', () => writer.line(epsilon === null ? `memory[${place}] = held[n];` : `if (column < ${valueDim}u) { memory[${place}] = held[n]; } else { normalizer[u32(state) * ${width}u + row] = held[n]; }`)));
    },
  });
}

// ── Outputs ────────────────────────────────────────────────────────────────────────────────────────────────────────────

function outputsProgram(plan: GpuPlan): ProgramSource {
  const { epsilon } = plan;
  return moduleOf({
    name: 'chunk outputs',
    header: [`Rows of the output, one workgroup for ${lanes} columns of a chunk.`],
    invocations: lanes,
    fields: chunkedFields,
    bindings: [
      { name: 'value', element: 'f32', comment: '[batch, heads, rows, valueDim]' },
      integers,
      factors(false),
      states(false),
      { name: 'output', element: 'f32', write: true, comment: '[batch, heads, rows, columns]' },
    ],
    body: (kernel) => {
      const { writer } = kernel;
      writer.line(`let blocks = (parameters.columns + ${lanes - 1}u) / ${lanes}u;`, 'let at = task / blocks;', 'let lane = at / parameters.chunks;', `let column = task % blocks * ${lanes}u + local;`, 'let isColumn = column < parameters.columns;');
      readLane(kernel, 'lane', ['valueRow', 'outputRow', 'queryCount', 'keyCount', 'shift', 'steps']);
      beginChunk(kernel, 'at % parameters.chunks');
      writer.block('if (firstStep >= steps || !isColumn)', () => writer.line('return;'));
      writer.line(`let base = at * ${chunkSize(plan, 'parameters.width')};`, `var sums: array<f32, ${chunkTokens}>;`);
      const everyToken = (body: () => void): void => {
        writer.block(`for (var t = 0u; t < ${chunkTokens}u; t++)`, body);
      };
      writer.block(`for (var row = 0u; row < parameters.width; row++)`, () => {
        writer.line(`let held = states[(at * parameters.width + row) * parameters.columns + column];`);
        everyToken(() => writer.line(`sums[t] = fma(factors[base + ${startOf('read', 'parameters.width')} + t * parameters.width + row], held, sums[t]);`));
      });
      writer.block(`for (var j = 0u; j < ${chunkTokens}u; j++)`, () => {
        stepAt(kernel, 'j');
        readValue(kernel, plan);
        everyToken(() => writer.line(`sums[t] = fma(factors[base + t * ${chunkTokens}u + j], element, sums[t]);`));
      });
      everyToken(() => {
        stepAt(kernel, 't');
        writer.block('if (hasQuery)', () => writer.line(`output[u32(outputRow + queryIndex) * parameters.columns + column] = ${epsilon === null ? 'parameters.scale * ' : ''}sums[t];`));
      });
    },
  });
}
