/** The parts of a split row brought together, in their order: one workgroup for each query row, its invocations sharing the channels (L13, L14). */
import type { AttentionRequest } from '@heed/core';
import type { ProgramSource } from '@heed/runtime-webgpu';
import type { Plan } from '../plan.ts';
import { mergeFields } from '../records.ts';
import { partWidth } from './decode.ts';
import { writeRowEnd } from './finish.ts';
import { moduleOf, type KernelBody } from './module.ts';
import { orEmpty } from './pairwise.ts';

export function mergeProgram(request: AttentionRequest, plan: Plan): ProgramSource {
  const { variant } = request;
  const { walkers, walkerRows } = plan.tile;
  return moduleOf({
    variant,
    plan,
    invocations: walkers,
    queryTables: [],
    declarations: [`const walkers = ${walkers}u;  // invocations`, `const rows = ${walkerRows}u;  // rows of a part`],
    name: 'merge',
    header: ['Parts of rows, over the keys of one part each, as whole rows.', ...variant.structure.split('\n').map((line) => `  ${line}`)],
    bindings: [
      { name: 'parts', element: 'f32', comment: `[part][row][${partWidth(plan)}]: sums over values, then statistics` },
      { name: 'integers', element: 'i32', comment: 'sequences, rows, positions' },
      { name: 'tables', element: 'u32', comment: 'every table of the variant, one after another' },
      { name: 'output', element: 'u32', write: true, comment: 'bits of f32 [batch, heads, queryRows, valueDim]' },
      { name: 'statistics', element: 'u32', write: true, comment: 'bits of f32, planes of [batch, heads, queryRows]' },
    ],
    body: (kernel) => { writeMerge(kernel, request, plan); },
  });
}

function writeMerge(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  const { writer, lowering } = kernel;
  const { rule } = request.variant.normalization;
  const softmax = rule.kind === 'softmax';
  const width = partWidth(plan);
  const field = (name: (typeof mergeFields)[number]): string => `integers[taskAt + ${mergeFields.indexOf(name)}u]`;
  const overParts = (body: () => void): void => {
    writer.block('for (var part = 0u; part < partCount; part++)', () => {
      writer.line(`let at = firstPart + part * partStep;`);
      body();
    });
  };
  writer.section('The row, and its parts.');
  writer.line(
    `let taskAt = parameters.tasksAt + ${mergeFields.length}u * task;`,
    `let sequence = sequenceAt(${field('sequence')});`,
    `let head = ${field('head')};`,
    'let keyHead = head * parameters.keyHeads / parameters.heads;',
    `let queryIndex = ${field('queryIndex')};`,
    'let queryPosition = positionAt(sequence.queryPositions, sequence.queryOffset, queryIndex);',
    'let queryRow = rowInTensor(sequence, head, queryIndex);',
    `let firstPart = (u32(${field('firstPart')}) * rows + u32(${field('place')})) * ${width}u;`,
    `let partStep = u32(${field('partStep')}) * rows * ${width}u;`,
    `let partCount = u32(${field('partCount')});`,
  );
  writer.section('Statistics of the whole row.');
  if (softmax) {
    writer.line('var largest = lowest;', 'var total = 0.0f;');
    overParts(() => writer.line(`largest = max(largest, parts[at + ${plan.valueDim}u]);`));
    overParts(() => writer.line(`total = fma(parts[at + ${plan.valueDim + 1}u], exp(parts[at + ${plan.valueDim}u] - largest), total);`));
  } else {
    writer.line('var total = 0.0f;', 'var counted = 0u;');
    overParts(() => writer.line(`total += parts[at + ${plan.valueDim}u];`, `counted += u32(parts[at + ${plan.valueDim + 1}u]);`));
  }
  writer.section('7  finish');
  const { factor, empty } = writeRowEnd(kernel, request, plan, 'local == 0u');
  writer.block(`for (var channel = i32(local); channel < ${plan.valueDim}i; channel += i32(walkers))`, () => {
    writer.line('var sum = 0.0f;');
    overParts(() => writer.line(softmax ? `sum = fma(parts[at + u32(channel)], exp(parts[at + ${plan.valueDim}u] - largest), sum);` : 'sum += parts[at + u32(channel)];'));
    writer.line(`let aggregated = sum${factor === null ? '' : ` * ${factor}`};`);
    writer.line(`output[queryRow * ${plan.valueDim}u + u32(channel)] = ${orEmpty(plan.partial ? 'aggregated' : lowering().lower(request.variant.aggregation.finish), '0u', empty)};`);
  });
}
