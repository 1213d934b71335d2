/** Query and key rows as the kernels over states read them: float32, transformed. One workgroup for each row, which stands in workgroup memory from the first transform to the last. */
import { transformedWidth, type Declarations, type RowTransform } from '@heed/core';
import { laneReductions, rowLanes, storageOf, turnsWidth, writeRowTransform, type ParameterField, type ProgramSource } from '@heed/runtime-webgpu';
import type { FloatStorage } from '../plan.ts';
import { moduleOf } from './module.ts';

export interface RowSource {
  readonly side: 'query' | 'key';
  readonly transforms: readonly RowTransform[];
  readonly dim: number;
  readonly dtype: FloatStorage;
  readonly declarations: Declarations;
}

export const rowFields: readonly ParameterField[] = [
  { name: 'heads', type: 'u32' },
  { name: 'rows', type: 'u32', comment: 'of the tensor, for each entry of its batch' },
  { name: 'rowCount', type: 'u32', comment: 'rows of all sequences' },
];

/** What stands in `integers` for each row of all sequences. */
export const rowRecord = ['tensorBatch', 'row', 'batch', 'index', 'position'] as const;

export function rowsProgram({ side, transforms, dim, dtype, declarations }: RowSource): ProgramSource {
  const storage = storageOf(dtype);
  const widths = [dim];
  for (const transform of transforms) widths.push(transformedWidth(transform, widths.at(-1) ?? dim));
  const widest = Math.max(...widths);
  return moduleOf({
    name: `${side} rows`,
    header: [`Rows of ${side}, ${dtype}, one workgroup each, as float32 after ${transforms.map(({ name }) => name).join(', ')}.`],
    invocations: rowLanes,
    fields: rowFields,
    declarations,
    bindings: [
      { name: 'source', element: 'u32', comment: `${dtype} [batch, heads, rows, ${dim}]` },
      { name: 'integers', element: 'i32', comment: `${rowRecord.join(', ')} of each row` },
      { name: 'tables', element: 'u32', comment: 'every table of the variant, one after another' },
      { name: 'turns', element: 'f32', comment: 'cosines and sines of each row, computed in float64' },
      { name: 'result', element: 'f32', write: true, comment: '[batch, heads, rows, width]' },
    ],
    globals: [`var<workgroup> first: array<f32, ${widest}>;`, `var<workgroup> second: array<f32, ${widest}>;`, `var<workgroup> shares: array<f32, ${rowLanes}>;`, '', ...laneReductions],
    body: (kernel) => {
      const { writer, builtins } = kernel;
      for (const builtin of storage.builtins) if (builtin.startsWith('from')) builtins.add(builtin);
      writer.line('let ordinal = task / parameters.heads;', 'let head = i32(task % parameters.heads);', `let record = ordinal * ${rowRecord.length}u;`);
      writer.line('let batch = integers[record + 2u];', 'let index = integers[record + 3u];', 'let position = integers[record + 4u];');
      writer.line('let rowAt = (u32(integers[record]) * parameters.heads + u32(head)) * parameters.rows + u32(integers[record + 1u]);');
      writer.block(`for (var channel = local; channel < ${dim}u; channel += ${rowLanes}u)`, () => {
        writer.line(`let place = rowAt * ${dim}u + channel;`, `first[channel] = ${storage.load(`source[place / ${storage.perWord}u]`, `(place % ${storage.perWord}u)`)};`);
      });
      writer.line('workgroupBarrier();');
      let [width, turns] = [dim, 0];
      let [row, next] = ['first', 'second'];
      for (const transform of transforms) {
        writer.section(`${transform.name}: ${width} → ${transformedWidth(transform, width)} channels`);
        writer.block('', () => {
          writeRowTransform(kernel, transform, { row, next, width, turnsAt: `${turns}u * parameters.rowCount + ordinal * ${turnsWidth(transform, width)}u` });
          writer.line('workgroupBarrier();');
        });
        turns += turnsWidth(transform, width);
        width = transformedWidth(transform, width);
        [row, next] = [next, row];
      }
      writer.block(`for (var channel = local; channel < ${width}u; channel += ${rowLanes}u)`, () => writer.line(`result[rowAt * ${width}u + channel] = ${row}[channel];`));
    },
  });
}
