/**
 * Token by token: one workgroup for a block of columns of one lane's G, which stands in registers; tokens pass one after another.
 *
 *     lane of the workgroup = row group × column;  state[n] = G[group · rows + n][column]
 *
 * A product with G is a sum over the rows that a lane holds, then over the groups, through workgroup memory.
 */
import type { FastWeightStep } from '@heed/core';
import type { ParameterField, ProgramSource, RowKernel } from '@heed/runtime-webgpu';
import { lanes, type GpuPlan } from './gpu-plan.ts';
import { moduleOf, type StorageBinding } from '../gpu/module.ts';

export const recurrentFields: readonly ParameterField[] = [
  { name: 'firstStep', type: 'i32', comment: 'this dispatch walks steps firstStep … endStep − 1 of each lane' },
  { name: 'endStep', type: 'i32' },
  { name: 'isFresh', type: 'u32', comment: 'the state begins as zeros' },
  { name: 'scale', type: 'f32' },
];

/**
 * What stands in `integers` for each lane. Step t writes key t and reads query t − shift, where they exist; rows count over batch, heads and rows of their tensors.
 * Places of the rule's inputs are those of step 0, with what one step adds.
 */
export const laneRecord = [
  'queryRow', 'keyRow', 'valueRow', 'outputRow', 'queryCount', 'keyCount', 'shift', 'steps', 'state',
  'logDecay', 'logDecayStep', 'writeStrength', 'writeStrengthStep', 'removalKey', 'removalKeyStep', 'removalWeight', 'removalWeightStep',
] as const;
export type LaneField = (typeof laneRecord)[number];

/** Bindings that the recurrent and the chunked form share. */
export function stateBindings({ width, valueDim, columns, epsilon }: GpuPlan): readonly StorageBinding[] {
  return [
    { name: 'query', element: 'f32', comment: `[batch, heads, rows, ${width}]` },
    { name: 'key', element: 'f32', comment: `[batch, heads, rows, ${width}]` },
    { name: 'value', element: 'f32', comment: `[batch, heads, rows, ${valueDim}]` },
    { name: 'inputs', element: 'u32', comment: 'what the rule reads besides, float32, one after another' },
    { name: 'integers', element: 'i32', comment: `${laneRecord.length} for each lane` },
    { name: 'memory', element: 'f32', write: true, comment: `G of each lane [${width}, ${valueDim}]` },
    ...(epsilon === null ? [] : [{ name: 'normalizer', element: 'f32', write: true, comment: `z of each lane [${width}]` } as const]),
    { name: 'output', element: 'f32', write: true, comment: `[batch, heads, rows, ${columns}]` },
  ];
}

/** `let name = …;` for fields of this task's lane. */
export function readLane(kernel: RowKernel, lane: string, fields: readonly LaneField[]): void {
  for (const field of fields) kernel.writer.line(`let ${field} = integers[${lane} * ${laneRecord.length}u + ${laneRecord.indexOf(field)}u];`);
}

export function recurrentProgram(plan: GpuPlan): ProgramSource {
  const { width, valueDim, columns, rows, groups, blockColumns, epsilon } = plan;
  const blocks = Math.ceil(columns / blockColumns);
  return moduleOf({
    name: `recurrent ${plan.rule.name}`,
    header: [`${plan.rule.name}, token by token: ${blockColumns} columns of a ${width} × ${columns} state in each workgroup, ${groups} lanes to a column, ${rows} rows each.`],
    invocations: lanes,
    fields: recurrentFields,
    bindings: stateBindings(plan),
    globals: groups === 1 ? [] : [`var<workgroup> shares: array<f32, ${2 * lanes}>;`],
    body: (kernel) => {
      const { writer } = kernel;
      writer.line(`let lane = task / ${blocks}u;`, `let column = (task % ${blocks}u) * ${blockColumns}u + local % ${blockColumns}u;`, `let rowGroup = local / ${blockColumns}u;`, `let firstRow = rowGroup * ${rows}u;`, `let isColumn = column < ${columns}u;`);
      const inputs = (['logDecay', 'writeStrength', 'removalKey', 'removalWeight'] as const).filter((name) => reads(plan, name)).flatMap((name): readonly LaneField[] => [name, `${name}Step`]);
      readLane(kernel, 'lane', ['queryRow', 'keyRow', 'valueRow', 'outputRow', 'queryCount', 'keyCount', 'shift', 'steps', 'state', ...inputs]);
      const place = `(u32(state) * ${width}u + row) * ${valueDim}u + column`;
      writer.section('The state as it was left.');
      writer.line(`var held: array<f32, ${rows}>;`);
      eachRow(kernel, plan, () => {
        writer.block('if (parameters.isFresh == 0u && isColumn)', () => writer.line(epsilon === null ? `held[n] = memory[${place}];` : `if (column < ${valueDim}u) { held[n] = memory[${place}]; } else { held[n] = normalizer[u32(state) * ${width}u + row]; }`));
      });
      if (groups > 1) writer.line('var parity = 0u;');
      writer.line('');
      writer.block('for (var t = parameters.firstStep; t < min(parameters.endStep, steps); t++)', () => {
        writer.line('let step = t + min(shift, 0i);', 'let queryIndex = step - shift;', 'let hasKey = step >= 0i && step < keyCount;', 'let hasQuery = queryIndex >= 0i && queryIndex < queryCount;');
        writer.line(`let keyAt = u32(keyRow + max(step, 0i)) * ${width}u;`, `let queryAt = u32(queryRow + max(queryIndex, 0i)) * ${width}u;`);
        const element = `value[u32(valueRow + step) * ${valueDim}u + column]`;
        writer.line('var element = 0.0f;');
        writer.block('if (hasKey && isColumn)', () => writer.line(epsilon === null ? `element = ${element};` : `if (column < ${valueDim}u) { element = ${element}; } else { element = 1.0f; }`));
        for (const name of ['logDecay', 'writeStrength', 'removalKey', 'removalWeight'] as const) if (reads(plan, name)) writer.line(`let ${name}At = u32(${name} + step * ${name}Step);`);
        for (const step of plan.rule.steps) writeStep(kernel, plan, step);
      });
      writer.section('The state as it is left.');
      eachRow(kernel, plan, () => {
        writer.block('if (isColumn)', () => writer.line(epsilon === null ? `memory[${place}] = held[n];` : `if (column < ${valueDim}u) { memory[${place}] = held[n]; } else { normalizer[u32(state) * ${width}u + row] = held[n]; }`));
      });
    },
  });
}

function reads({ decay, recall, strength }: GpuPlan, name: 'logDecay' | 'writeStrength' | 'removalKey' | 'removalWeight'): boolean {
  switch (name) {
    case 'logDecay':
      return decay !== null;
    case 'writeStrength':
      return strength || recall?.strength === 'writeStrength';
    case 'removalKey':
      return recall?.by === 'removalKey' || recall?.along === 'removalKey';
    case 'removalWeight':
      return recall?.strength === 'removalWeight';
  }
}

/** Every row that the lane holds, as `row`, where it exists. */
function eachRow({ writer }: RowKernel, { width, rows, groups }: GpuPlan, body: () => void): void {
  writer.block(`for (var n = 0u; n < ${rows}u; n++)`, () => {
    writer.line('let row = firstRow + n;');
    if (rows * groups === width) body();
    else writer.block(`if (row < ${width}u)`, body);
  });
}

/** A number of the rule's inputs; −∞ as the lowest number. */
const input = (place: string): string => `finite(inputs[${place}])`;

function writeStep(kernel: RowKernel, plan: GpuPlan, step: FastWeightStep): void {
  const { writer, builtins } = kernel;
  const rowOf = (name: 'key' | 'removalKey'): string => (name === 'key' ? 'key[keyAt + row]' : input('removalKeyAt + row'));
  switch (step.step) {
    case 'decay':
      builtins.add('exponential').add('finite');
      writer.block('if (hasKey)', () => {
        if (step.by !== 'channel') writer.line(`let decay = exponential(${input('logDecayAt')});`);
        eachRow(kernel, plan, () => writer.line(`held[n] *= ${step.by === 'channel' ? `exponential(${input('logDecayAt + row')})` : 'decay'};`));
      });
      return;
    case 'recall':
      if (step.by === 'removalKey') builtins.add('finite');
      writeProduct(kernel, plan, 'recalled', rowOf(step.by), 'hasKey');
      return;
    case 'remove':
      if (step.strength !== null || step.along === 'removalKey') builtins.add('finite');
      writer.block('if (hasKey)', () => {
        if (step.strength === 'writeStrength') writer.line(`let strength = ${input('writeStrengthAt')};`);
        const factor = step.strength === null ? '' : step.strength === 'writeStrength' ? ' * strength' : ` * ${input('removalWeightAt + row')}`;
        eachRow(kernel, plan, () => writer.line(`held[n] = fma(-${rowOf(step.along)}${factor}, recalled, held[n]);`));
      });
      return;
    case 'write':
      if (step.strength !== null) builtins.add('finite');
      writer.block('if (hasKey)', () => {
        writer.line(`let written = element${step.strength === null ? '' : ` * ${input('writeStrengthAt')}`};`);
        eachRow(kernel, plan, () => writer.line('held[n] = fma(key[keyAt + row], written, held[n]);'));
      });
      return;
    case 'read':
      writeProduct(kernel, plan, 'read', 'query[queryAt + row]', 'hasQuery');
      writer.block('if (hasQuery && isColumn && rowGroup == 0u)', () => writer.line(`output[u32(outputRow + queryIndex) * ${plan.columns}u + column] = ${plan.epsilon === null ? 'parameters.scale * ' : ''}read;`));
  }
}

/** The column of Gᵀx, the same in all lanes of a column. */
function writeProduct(kernel: RowKernel, plan: GpuPlan, name: string, element: string, condition: string): void {
  const { writer } = kernel;
  const { groups, blockColumns } = plan;
  writer.line(`var ${name} = 0.0f;`);
  writer.block(`if (${condition})`, () => eachRow(kernel, plan, () => writer.line(`${name} = fma(${element}, held[n], ${name});`)));
  if (groups === 1) return;
  // Two halves in turn, so that one barrier is enough.
  writer.line(`shares[parity + local] = ${name};`, 'workgroupBarrier();', `${name} = 0.0f;`);
  writer.block(`for (var other = 0u; other < ${groups}u; other++)`, () => writer.line(`${name} += shares[parity + other * ${blockColumns}u + local % ${blockColumns}u];`));
  writer.line(`parity = ${lanes}u - parity;`);
}
