/**
 * Rows of query, key or value as the kernels over pairs read them: float32, transformed, prepared. One workgroup for each row, which stands in workgroup
 * memory from the first transform to the last.
 */
import { transformedWidth, type AttentionRequest, type Expression, type RowTransform } from '@heed/core';
import { identifier, storageOf, type ProgramSource } from '@heed/runtime-webgpu';
import type { Plan } from '../plan.ts';
import { moduleOf, type KernelBody } from './module.ts';

export type Side = 'query' | 'key' | 'value';

const lanes = 64;

/** Numbers of the buffer `turns` that a transform reads for each row. */
export function turnsWidth(transform: RowTransform, dim: number): number {
  if (transform.kind === 'rope') return 2 * (transform.width ?? dim);
  return transform.kind === 'featureMap' && transform.map.rule === 'cosformer' ? 2 : 0;
}

/** The transforms of a side; values have none but what prepares them. */
export function transformsOf({ variant }: AttentionRequest, side: Side): readonly RowTransform[] {
  return side === 'query' ? variant.scoring.queryTransforms : side === 'key' ? variant.scoring.keyTransforms : [];
}

/** True when rows of this side are read as they are. */
export function isReadInPlace(request: AttentionRequest, plan: Plan, side: Side, keysTransformed: boolean): boolean {
  const changes = side === 'value' ? request.variant.aggregation.prepare.kind !== 'input' : transformsOf(request, side).length > 0 && !(side === 'key' && keysTransformed);
  return plan.dtypes[side] === 'f32' && !changes;
}

/** @param keysTransformed the rows are transformed already, and only their type changes */
export function transformProgram(request: AttentionRequest, plan: Plan, side: Side, keysTransformed = false): ProgramSource {
  const { variant } = request;
  const transforms = keysTransformed ? [] : transformsOf(request, side);
  const from = side === 'query' ? plan.queryDim : side === 'value' ? plan.valueDim : keysTransformed ? plan.scoreDim : plan.keyDim;
  const dtype = plan.dtypes[side];
  const storage = storageOf(dtype);
  const start = side === 'query' ? 'queryStart' : 'keyStart';
  const [positions, offset] = side === 'query' ? ['queryPositions', 'queryOffset'] : ['keyPositions', 'keyOffset'];
  const body = (kernel: KernelBody): void => {
    const { writer, builtins } = kernel;
    for (const builtin of storage.builtins) if (builtin.startsWith('from')) builtins.add(builtin);
    writer.section('The row: its sequence, head, index and position.');
    writer.line(
      'let ordinal = task / u32(parameters.heads);',
      'let head = i32(task % u32(parameters.heads));',
      'let sequence = sequenceAt(integers[parameters.tasksAt + 2u * ordinal]);',
      'let index = integers[parameters.tasksAt + 2u * ordinal + 1u];',
      `let position = positionAt(sequence.${positions}, sequence.${offset}, index);`,
      `let rowAt = u32((sequence.tensorBatch * parameters.heads + head) * parameters.queryRows + sequence.${start} + index);`,
    );
    writer.block(`for (var channel = local; channel < ${from}u; channel += ${lanes}u)`, () => {
      writer.line(`let place = rowAt * ${from}u + channel;`);
      writer.line(`first[channel] = ${storage.load(`source[place / ${storage.perWord}u]`, `(place % ${storage.perWord}u)`)};`);
    });
    writer.line('workgroupBarrier();');
    let width = from;
    let turns = 0;
    let [row, next] = ['first', 'second'];
    for (const transform of transforms) {
      writer.section(`${transform.name}: ${width} → ${transformedWidth(transform, width)} channels`);
      writer.block('', () => {
        writeTransform(kernel, transform, { row, next, width, turnsAt: `${turns}u * parameters.rowCount + ordinal * ${turnsWidth(transform, width)}u` });
        writer.line('workgroupBarrier();');
      });
      turns += turnsWidth(transform, width);
      width = transformedWidth(transform, width);
      [row, next] = [next, row];
    }
    writer.section('The row as it is read from now on.');
    writer.block(`for (var place = local; place < ${width}u; place += ${lanes}u)`, () => {
      if (side === 'value' && variant.aggregation.prepare.kind !== 'input') {
        writer.line('let channel = i32(place);', `let element = ${row}[place];`);
        const prepared = kernel.lowering({ keyIndex: 'index', keyPosition: 'position', keyHead: 'head' }).lower(variant.aggregation.prepare);
        writer.line(`result[rowAt * ${width}u + place] = ${prepared};`);
      } else writer.line(`result[rowAt * ${width}u + place] = ${row}[place];`);
    });
  };
  const widest = Math.max(plan.rowWidth, from);
  return moduleOf({
    name: `${side} rows`,
    header: [`Rows of ${side}, ${dtype}, one workgroup each, as float32${transforms.length === 0 ? '' : ` after ${transforms.map(({ name }) => name).join(', ')}`}.`],
    variant,
    plan,
    invocations: lanes,
    queryTables: [],
    bindings: [
      { name: 'source', element: 'u32', comment: `${dtype} [batch, heads, rows, ${from}]` },
      { name: 'integers', element: 'i32', comment: 'sequences, then [sequence, index] of each row, positions' },
      { name: 'tables', element: 'u32', comment: 'every table of the variant, one after another' },
      { name: 'turns', element: 'f32', comment: 'cosines and sines of each row, computed in float64' },
      { name: 'result', element: 'f32', write: true, comment: '[batch, heads, rows, width]' },
    ],
    declarations: [
      `var<workgroup> first: array<f32, ${widest}>;`,
      ...(transforms.length === 0 ? [] : [`var<workgroup> second: array<f32, ${widest}>;`, `var<workgroup> shares: array<f32, ${lanes}>;`, '', ...reductions]),
    ],
    body,
  });
}

/** Sum and maximum over the lanes, the same for all of them, in one order. */
const reductions: readonly string[] = [
  ['laneSum', '0.0f', 'result += shares[lane];'] as const,
  ['laneMaximum', 'shares[0]', 'result = max(result, shares[lane]);'] as const,
].flatMap(([name, start, step]) => [
  `fn ${name}(local: u32, own: f32) -> f32 {
  workgroupBarrier();
  shares[local] = own;
  workgroupBarrier();
  var result = ${start};
  for (var lane = 0u; lane < ${lanes}u; lane++) {
    ${step}
  }
  return result;
}`,
  '',
]);

interface Rows {
  readonly row: string;
  readonly next: string;
  readonly width: number;
  readonly turnsAt: string;
}

function writeTransform(kernel: KernelBody, transform: RowTransform, rows: Rows): void {
  const { writer } = kernel;
  const { row, next, width } = rows;
  const at = (expression: Expression, element = '0.0f'): string => kernel.lowering({ element, channel: 'i32(channel)', keyHead: 'head' }).lower(expression);
  switch (transform.kind) {
    case 'projection': {
      const [matrix, heads] = [identifier('table', transform.table), transform.perHead ? 'head, ' : ''];
      overChannels(kernel, transform.width, () => {
        writer.line(`var sum = ${transform.bias === null ? '0.0f' : `${identifier('table', transform.bias)}(${heads}i32(channel))`};`);
        writer.block(`for (var other = 0u; other < ${width}u; other++)`, () => writer.line(`sum = fma(${row}[other], ${matrix}(${heads}i32(channel), i32(other)), sum);`));
        writer.line(`${next}[channel] = sum;`);
      });
      return;
    }
    case 'norm': {
      writer.line('let channel = 0u;');
      writer.line(`let epsilon = ${at(transform.epsilon)};`);
      if (transform.norm === 'layer') {
        own(kernel, width, 'sum', `${row}[channel]`);
        writer.line(`let centre = laneSum(local, sumOwn) / ${width}.0f;`);
      } else writer.line('let centre = 0.0f;');
      own(kernel, width, 'squares', `(${row}[channel] - centre) * (${row}[channel] - centre)`);
      writer.line('let squares = laneSum(local, squaresOwn);', `let divisor = ${transform.norm === 'l2' ? 'max(sqrt(squares), epsilon)' : `sqrt(squares / ${width}.0f + epsilon)`};`);
      overChannels(kernel, width, () => {
        const gain = transform.gain === null ? '' : ` * (${at(transform.gain)})`;
        const shift = transform.shift === null ? '' : ` + (${at(transform.shift)})`;
        writer.line(`${next}[channel] = (${row}[channel] - centre) / divisor${gain}${shift};`);
      });
      return;
    }
    case 'rope': {
      const turned = transform.width ?? width;
      overChannels(kernel, width, () => {
        writer.line(`${next}[channel] = ${row}[channel];`);
        writer.block(`if (channel < ${turned}u)`, () => {
          writer.line(`let partner = ${transform.pairing === 'half' ? `(channel + ${turned / 2}u) % ${turned}u` : 'channel ^ 1u'};`);
          writer.line(`let turn = ${rows.turnsAt} + channel;`, `${next}[channel] = ${row}[channel] * turns[turn] + ${row}[partner] * turns[turn + ${turned}u];`);
        });
      });
      return;
    }
    case 'elementwise':
      overChannels(kernel, width, () => {
        writer.line(`let element = ${row}[channel];`);
        writer.line(`${next}[channel] = ${at(transform.expression, 'element')};`);
      });
      return;
    case 'featureMap':
      writeFeatureMap(kernel, transform, rows);
  }
}

function writeFeatureMap(kernel: KernelBody, { map }: Extract<RowTransform, { kind: 'featureMap' }>, { row, next, width, turnsAt }: Rows): void {
  const { writer, builtins } = kernel;
  switch (map.rule) {
    case 'hedgehog': {
      builtins.add('exponential');
      const logit = `select(-${row}[channel % ${width}u], ${row}[channel % ${width}u], channel < ${width}u)`;
      if (map.softmax) {
        writer.line('var largestOwn = 0.0f;');
        overChannels(kernel, width, () => writer.line(`largestOwn = max(largestOwn, abs(${row}[channel]));`));
        writer.line('let largest = laneMaximum(local, largestOwn);');
        own(kernel, 2 * width, 'total', `exponential(${logit} - largest)`);
        writer.line('let total = laneSum(local, totalOwn);');
      }
      overChannels(kernel, 2 * width, () => writer.line(`${next}[channel] = exponential(${logit}${map.softmax ? ' - largest) / total' : ')'};`));
      return;
    }
    case 'favor': {
      builtins.add('exponential');
      own(kernel, width, 'squares', `${row}[channel] * ${row}[channel]`);
      writer.line(`let half = 0.5f * laneSum(local, squaresOwn) * ${width ** -0.5}f;`);
      overChannels(kernel, map.features, () => {
        writer.line('var projected = 0.0f;');
        writer.block(`for (var other = 0u; other < ${width}u; other++)`, () => writer.line(`projected = fma(${row}[other], ${identifier('table', map.table)}(i32(channel), i32(other)), projected);`));
        writer.line(`${next}[channel] = exponential(projected * ${width ** -0.25}f - half) * ${map.features ** -0.5}f;`);
      });
      return;
    }
    case 'cosformer':
      overChannels(kernel, 2 * width, () => writer.line(`${next}[channel] = max(${row}[channel % ${width}u], 0.0f) * turns[${turnsAt} + channel / ${width}u];`));
      return;
    case 'based':
      overChannels(kernel, 1 + 2 * width + (width * (width - 1)) / 2, () => {
        writer.line('var feature = 1.0f;');
        writer.block(`if (channel > ${2 * width}u)`, () => {
          writer.line('// Products of i < j, row by row.', `var rest = channel - ${2 * width + 1}u;`, 'var i = 0u;');
          writer.block(`while (rest >= ${width - 1}u - i)`, () => writer.line(`rest -= ${width - 1}u - i;`, 'i += 1u;'));
          writer.line(`feature = ${row}[i] * ${row}[i + 1u + rest] * ${width ** -0.5}f;`);
        });
        writer.block(`else if (channel > ${width}u)`, () => writer.line(`feature = ${row}[channel - ${width + 1}u] * ${row}[channel - ${width + 1}u] * ${(2 * width) ** -0.5}f;`));
        writer.block('else if (channel > 0u)', () => writer.line(`feature = ${row}[channel - 1u] * ${width ** -0.25}f;`));
        writer.line(`${next}[channel] = feature;`);
      });
      return;
    case 'dpfp': {
      const both = 2 * width;
      const rectified = (place: string): string => `max(select(-${row}[${place} % ${width}u], ${row}[${place} % ${width}u], ${place} < ${width}u), 0.0f)`;
      overChannels(kernel, both * map.order, () => {
        writer.line(`let place = channel % ${both}u;`, `let rolled = (place + ${both}u - channel / ${both}u - 1u) % ${both}u;`);
        writer.line(`${next}[channel] = ${rectified('place')} * ${rectified('rolled')};`);
      });
    }
  }
}

function overChannels({ writer }: KernelBody, width: number, body: () => void): void {
  writer.block(`for (var channel = local; channel < ${width}u; channel += ${lanes}u)`, body);
}

/** This lane's share of a sum over channels, as `<name>Own`. */
function own(kernel: KernelBody, width: number, name: string, term: string): void {
  kernel.writer.line(`var ${name}Own = 0.0f;`);
  overChannels(kernel, width, () => kernel.writer.line(`${name}Own += ${term};`));
}
