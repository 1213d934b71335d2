/** Rows of query, key or value as the kernels over edges read them: float32, transformed, prepared. One workgroup for each row, which stands in workgroup memory from the first transform to the last. */
import { transformedWidth, type AttentionRequest, type RowTransform } from '@heed/core';
import { laneReductions, rowLanes, storageOf, turnsWidth, writeRowTransform, type ProgramSource, type RowKernel } from '@heed/runtime-webgpu';
import { moduleOf, type StorageBinding } from './module.ts';
import type { Plan } from './plan.ts';

export type Side = 'query' | 'key' | 'value';

/** The transforms of a side; values have none but what prepares them. */
export function transformsOf({ variant }: AttentionRequest, side: Side, keysTransformed: boolean): readonly RowTransform[] {
  return side === 'query' ? variant.scoring.queryTransforms : side === 'key' && !keysTransformed ? variant.scoring.keyTransforms : [];
}

/** True when rows of this side are read as they are. */
export function isReadInPlace(request: AttentionRequest, { dtypes }: Plan, side: Side, keysTransformed: boolean): boolean {
  return dtypes[side] === 'f32' && transformsOf(request, side, keysTransformed).length === 0 && (side !== 'value' || request.variant.aggregation.prepare.kind === 'input');
}

/** @param keysTransformed the rows are transformed already, and only their type changes */
export function rowsProgram(request: AttentionRequest, plan: Plan, side: Side, keysTransformed = false): ProgramSource {
  const { variant } = request;
  const transforms = transformsOf(request, side, keysTransformed);
  const from = side === 'query' ? plan.queryDim : side === 'value' ? plan.valueDim : keysTransformed ? plan.scoreDim : plan.keyDim;
  const dtype = plan.dtypes[side];
  const storage = storageOf(dtype);
  const own = side === 'query' ? 'query' : 'key';
  const body = (kernel: RowKernel): void => {
    const { writer, builtins } = kernel;
    for (const builtin of storage.builtins) if (builtin.startsWith('from')) builtins.add(builtin);
    writer.section('The row: its sequence, head, index and position.');
    writer.line(
      'let ordinal = task / u32(parameters.heads);',
      'let head = i32(task % u32(parameters.heads));',
      `let sequence = sequenceAt(i32(ordinal) / parameters.${own}Rows);`,
      `let index = i32(ordinal) % parameters.${own}Rows;`,
      `let position = positionAt(sequence.${own}Positions, sequence.${own}Offset, index);`,
      `let rowAt = u32((sequence.tensorBatch * parameters.heads + head) * parameters.${own}Rows + index);`,
    );
    writer.block(`for (var channel = local; channel < ${from}u; channel += ${rowLanes}u)`, () => {
      writer.line(`let place = rowAt * ${from}u + channel;`);
      writer.line(`first[channel] = ${storage.load(`source[place / ${storage.perWord}u]`, `(place % ${storage.perWord}u)`)};`);
    });
    writer.line('workgroupBarrier();');
    const { row, width } = writeTransforms(kernel, transforms, from);
    writer.section('The row as it is read from now on.');
    writer.block(`for (var place = local; place < ${width}u; place += ${rowLanes}u)`, () => {
      if (side !== 'value' || variant.aggregation.prepare.kind === 'input') {
        writer.line(`result[rowAt * ${width}u + place] = ${row}[place];`);
        return;
      }
      writer.line('let channel = i32(place);', `let element = ${row}[place];`);
      const prepared = kernel.lowering({ keyIndex: 'index', keyPosition: 'position', keyHead: 'head' }).lower(variant.aggregation.prepare);
      writer.line(`result[rowAt * ${width}u + place] = ${prepared};`);
    });
  };
  const widest = Math.max(plan.rowWidth, from);
  return moduleOf({
    name: `${side} rows`,
    header: [`Rows of ${side}, ${dtype}, one workgroup each, as float32${transforms.length === 0 ? '' : ` after ${transforms.map(({ name }) => name).join(', ')}`}.`],
    variant,
    plan,
    invocations: rowLanes,
    queryTables: [],
    bindings: rowBindings(`${dtype} [batch, heads, rows, ${from}]`),
    declarations: [
      `var<workgroup> first: array<f32, ${widest}>;`,
      ...(transforms.length === 0 ? [] : [`var<workgroup> second: array<f32, ${widest}>;`, `var<workgroup> shares: array<f32, ${rowLanes}>;`, '', ...laneReductions]),
    ],
    body,
  });
}

function rowBindings(source: string): readonly StorageBinding[] {
  return [
    { name: 'source', element: 'u32', comment: source },
    { name: 'integers', element: 'i32', comment: 'sequences, positions' },
    { name: 'tables', element: 'u32', comment: 'every table of the variant, one after another' },
    { name: 'turns', element: 'f32', comment: 'cosines and sines of each row, computed in float64' },
    { name: 'result', element: 'f32', write: true, comment: '[batch, heads, rows, width]' },
  ];
}

/** All transforms, one after another. @returns the array that the row stands in, and how wide it is */
function writeTransforms(kernel: RowKernel, transforms: readonly RowTransform[], from: number): { readonly row: string; readonly width: number } {
  const { writer } = kernel;
  let width = from;
  let turns = 0;
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
  return { row, width };
}
