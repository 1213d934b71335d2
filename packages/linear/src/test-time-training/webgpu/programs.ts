/** Shaders of a gradient rule: one workgroup for each value head of each sequence, whose weights stand in its part of `work` from `begin` to `end`. */
import type { Declarations } from '@heed/core';
import { identifier, type ParameterField, type ProgramSource, type RowKernel } from '@heed/runtime-webgpu';
import { moduleOf, type StorageBinding } from '../../gpu/module.ts';
import type { StatePart, TableSource, TrainingPlan } from '../plan.ts';
import { at, meet, overElements, trainingLanes, writeStep } from './steps.ts';

/** What stands in `integers` for each lane. Rows count over batch, heads and rows of their tensors; places of inputs are those of token 0, with what a token adds. */
export const trainingRecord = ['queryRow', 'keyRow', 'valueRow', 'outputRow', 'length', 'sequence', 'valueHead', 'headLane', 'isFirst', 'writeStrength', 'writeStrengthStep', 'logDecay', 'logDecayStep', 'momentum', 'momentumStep'] as const;
export type TrainingField = (typeof trainingRecord)[number];

export const trainingInputs = ['writeStrength', 'logDecay', 'momentum'] as const;

/** Where each tensor of the state begins in `state`. */
export const stateField = (name: string): string => identifier('state', name);

export function stateFields(plan: TrainingPlan): readonly ParameterField[] {
  return [...plan.state.map(({ state }) => ({ name: stateField(state), type: 'u32' as const })), { name: stateField('filled'), type: 'u32' }, { name: 'isFresh', type: 'u32', comment: 'weights begin as the tables' }];
}

export const advanceFields: readonly ParameterField[] = [{ name: 'firstToken', type: 'u32' }, { name: 'endToken', type: 'u32' }, { name: 'rate', type: 'f32' }, { name: 'epsilon', type: 'f32', comment: 'of the norm' }];

const work = (write: boolean): StorageBinding => ({ name: 'work', element: 'f32', write, comment: 'the memory of each lane' });
const integers: StorageBinding = { name: 'integers', element: 'i32', comment: `${trainingRecord.length} for each lane` };
const counts = (write: boolean): StorageBinding => ({ name: 'counts', element: 'u32', write, comment: 'tokens of each lane’s mini-batch so far' });

function readLane({ writer }: RowKernel, plan: TrainingPlan, fields: readonly TrainingField[]): void {
  writer.line(`let base = task * ${plan.size}u;`);
  for (const field of fields) writer.line(`let ${field} = integers[task * ${trainingRecord.length}u + ${trainingRecord.indexOf(field)}u];`);
}

/** The memory of a lane as a call begins: zeros, tables, and the state that it was given. */
export function beginProgram(plan: TrainingPlan, declarations: Declarations): ProgramSource {
  return moduleOf({
    name: `begin ${plan.name}`,
    header: ['Memory of each lane: zeros, then tables and the state.'],
    invocations: trainingLanes,
    fields: stateFields(plan),
    declarations,
    bindings: [{ name: 'tables', element: 'u32', comment: 'every table of the variant, one after another' }, { name: 'state', element: 'f32', comment: 'the state that was given' }, integers, work(true), counts(true)],
    body: (kernel) => {
      const { writer } = kernel;
      readLane(kernel, plan, ['sequence', 'valueHead', 'headLane']);
      writer.block(`for (var place = local; place < ${plan.size}u; place += ${trainingLanes}u)`, () => writer.line('work[base + place] = 0.0f;'));
      meet(kernel);
      for (const { matrix, source } of plan.tables) overElements(kernel, matrix.rows, matrix.columns, () => writer.line(`${at(matrix, 'row', 'column')} = ${tableRead(source)};`));
      for (const part of plan.state) {
        overElements(kernel, part.rows, part.columns, () => {
          const target = at(part.matrix, `(row + ${part.row}u)`, 'column');
          writer.block('if (parameters.isFresh == 0u)', () => writer.line(`${target} = ${stateOf(part)};`));
          const { source } = part;
          if (source !== null) writer.block('else', () => writer.line(`${target} = ${tableRead(source)};`));
        });
      }
      writer.block('if (local == 0u)', () => {
        writer.line('var filled = 0u;');
        if (plan.batch > 1) writer.block('if (parameters.isFresh == 0u)', () => writer.line(`filled = u32(state[parameters.${stateField('filled')} + u32(sequence)]);`));
        writer.line('counts[task] = filled;');
      });
    },
  });
}

function stateOf({ state, rows, columns, of }: StatePart): string {
  return `state[parameters.${stateField(state)} + (u32(${of === 'head' ? 'headLane' : 'i32(task)'}) * ${rows}u + row) * ${columns}u + column]`;
}

/** The table's number for `row` and `column` of a matrix. */
function tableRead({ table, perHead, rowAxis, columnAxis }: TableSource): string {
  const indices = [...(perHead ? ['valueHead'] : []), ...(rowAxis === null ? ['i32(column)'] : rowAxis < columnAxis ? ['i32(row)', 'i32(column)'] : ['i32(column)', 'i32(row)'])];
  return `${identifier('table', table)}(${indices.join(', ')})`;
}

/** The state as a call leaves it. */
export function endProgram(plan: TrainingPlan): ProgramSource {
  return moduleOf({
    name: `end ${plan.name}`,
    header: ['The state of each lane, dense.'],
    invocations: trainingLanes,
    fields: stateFields(plan),
    bindings: [work(false), integers, counts(false), { name: 'state', element: 'f32', write: true, comment: 'every tensor of the state, one after another' }],
    body: (kernel) => {
      const { writer } = kernel;
      readLane(kernel, plan, ['sequence', 'valueHead', 'headLane', 'isFirst']);
      for (const part of plan.state) {
        overElements(kernel, part.rows, part.columns, () => {
          const store = `${stateOf(part)} = ${at(part.matrix, `(row + ${part.row}u)`, 'column')};`;
          writer.line(part.of === 'head' ? `if (isFirst == 1i) { ${store} }` : store);
        });
      }
      if (plan.batch > 1) writer.block('if (local == 0u && valueHead == 0i)', () => writer.line(`state[parameters.${stateField('filled')} + u32(sequence)] = f32(counts[task]);`));
    },
  });
}

/** Some tokens of each lane, in pieces that no end of a mini-batch crosses. */
export function advanceProgram(plan: TrainingPlan): ProgramSource {
  const { name, batch, block, width, valueDim, key, query, target, rates } = plan;
  return moduleOf({
    name: `advance ${name}`,
    header: [`${name}: pieces of at most ${block} tokens, none across the end of a batch of ${batch}, one workgroup for each value head.`],
    invocations: trainingLanes,
    fields: advanceFields,
    bindings: [
      { name: 'query', element: 'f32', comment: `[batch, heads, rows, ${width}]` },
      { name: 'key', element: 'f32', comment: `[batch, heads, rows, ${width}]` },
      { name: 'value', element: 'f32', comment: `[batch, heads, rows, ${valueDim}]` },
      { name: 'inputs', element: 'u32', comment: 'what the rule reads besides, float32' },
      integers,
      work(true),
      counts(true),
      { name: 'output', element: 'f32', write: true, comment: `[batch, heads, rows, ${valueDim}]` },
    ],
    globals: ['var<workgroup> filledBefore: u32;'],
    body: (kernel) => {
      const { writer } = kernel;
      readLane(kernel, plan, ['queryRow', 'keyRow', 'valueRow', 'outputRow', 'length', ...(rates === null ? [] : (['writeStrength', 'writeStrengthStep'] as const)), ...(rates?.optimizer === 'momentum' ? (['logDecay', 'logDecayStep', 'momentum', 'momentumStep'] as const) : [])]);
      writer.block('if (local == 0u)', () => writer.line('filledBefore = counts[task];'));
      writer.line('var filled = workgroupUniformLoad(&filledBefore);', 'let end = min(parameters.endToken, u32(length));');
      writer.block('for (var first = parameters.firstToken; first < end;)', () => {
        writer.line(`let room = ${batch}u - filled;`, `let tokens = min(min(end - first, room), ${block}u);`, 'let batchEnds = tokens == room;');
        for (const [side, matrix] of [['key', key], ['query', query]] as const) {
          overElements(kernel, 'tokens', matrix.columns, () => {
            const read = `${side}[(u32(${side}Row) + first + row) * ${width}u + column]`;
            if (matrix.columns === width) writer.line(`${at(matrix, 'row', 'column')} = ${read};`);
            else writer.line('var channel = 1.0f;', `if (column < ${width}u) { channel = ${read}; }`, `${at(matrix, 'row', 'column')} = channel;`);
          });
        }
        overElements(kernel, 'tokens', valueDim, () => writer.line(`${at(target, 'row', 'column')} = value[(u32(valueRow) + first + row) * ${valueDim}u + column]${plan.subtractsKey ? ` - ${at(key, 'row', 'column')}` : ''};`));
        for (const step of plan.steps) writeStep(kernel, plan, step);
        writer.line('first += tokens;', 'filled = select(filled + tokens, 0u, batchEnds);');
      });
      writer.block('if (local == 0u)', () => writer.line('counts[task] = filled;'));
    },
  });
}
