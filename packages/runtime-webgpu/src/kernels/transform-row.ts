/** Row transforms in WGSL: a row stands in workgroup memory from the first transform to the last, and the lanes of one workgroup share its channels. */
import type { Expression, InputName, RowTransform } from '@heed/core';
import type { Builtin } from '../wgsl/builtins.ts';
import type { WgslLowering } from '../wgsl/expression.ts';
import { identifier, type WgslWriter } from '../wgsl/writer.ts';

/** Lanes of a workgroup that transforms rows. */
export const rowLanes = 64;

/** Where statements and expressions of a kernel are written. */
export interface RowKernel {
  readonly writer: WgslWriter;
  readonly builtins: Set<Builtin>;
  /** Writes expressions, reading inputs by the names of their locals; `names` gives those that differ. */
  readonly lowering: (names?: Readonly<Partial<Record<InputName, string>>>) => WgslLowering;
}

/** Numbers of the buffer `turns` that a transform reads for each row. */
export function turnsWidth(transform: RowTransform, dim: number): number {
  if (transform.kind === 'rope') return 2 * (transform.width ?? dim);
  return transform.kind === 'featureMap' && transform.map.rule === 'cosformer' ? 2 : 0;
}

/** Sum and maximum over the lanes, the same for all of them, in one order. */
export const laneReductions: readonly string[] = [
  ['laneSum', '0.0f', 'result += shares[lane];'] as const,
  ['laneMaximum', 'shares[0]', 'result = max(result, shares[lane]);'] as const,
].flatMap(([name, start, step]) => [
  `fn ${name}(local: u32, own: f32) -> f32 {
  workgroupBarrier();
  shares[local] = own;
  workgroupBarrier();
  var result = ${start};
  for (var lane = 0u; lane < ${rowLanes}u; lane++) {
    ${step}
  }
  return result;
}`,
  '',
]);

/** A row in workgroup memory, and where the next is written. */
export interface TransformedRows {
  /** Names of arrays of the workgroup: the row as it is, and as it will be. */
  readonly row: string;
  readonly next: string;
  readonly width: number;
  readonly turnsAt: string;
}

/**
 * One transform of a row by the lanes of a workgroup, between two barriers. `local` is the number of the lane; `head` and `position` are locals of the kernel.
 * Tables are functions of their indices, named `identifier('table', name)`; cosines and sines stand in the binding `turns`.
 */
export function writeRowTransform(kernel: RowKernel, transform: RowTransform, rows: TransformedRows): void {
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

function writeFeatureMap(kernel: RowKernel, { map }: Extract<RowTransform, { kind: 'featureMap' }>, { row, next, width, turnsAt }: TransformedRows): void {
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

function overChannels({ writer }: RowKernel, width: number, body: () => void): void {
  writer.block(`for (var channel = local; channel < ${width}u; channel += ${rowLanes}u)`, body);
}

/** This lane's share of a sum over channels, as `<name>Own`. */
function own(kernel: RowKernel, width: number, name: string, term: string): void {
  kernel.writer.line(`var ${name}Own = 0.0f;`);
  overChannels(kernel, width, () => kernel.writer.line(`${name}Own += ${term};`));
}
