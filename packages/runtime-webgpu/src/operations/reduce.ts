import { AttentionError, type Tensor } from '@heed/core';
import { rowsOf, type GroupShader, type OperationCall } from './context.ts';
import { groupLanes, joinLanes, lanesOf, rowLocals } from './lanes.ts';

/** Sum, greatest or mean of the last axis, which must not be empty. */
export function reduce(call: OperationCall, x: Tensor, reduction: 'sum' | 'max' | 'mean'): Tensor {
  if (x.shape.length < 1) throw new AttentionError('invalid-shape', 'reduce got a scalar.', 'Expected at least one axis.');
  const { rows, size } = rowsOf(x.shape);
  if (size === 0) throw new AttentionError('invalid-shape', 'reduce got rows of nothing.', 'Expected at least one element.');
  const reads = [call.dense(x)];
  const lanes = lanesOf(size);
  return call.store(x.shape.slice(0, -1), x.dtype, (target) => {
    call.runUnits(shader(reduction, lanes), { count: rows, reads: [4 * size], result: 4 }, (part) => Math.ceil(part / (groupLanes / lanes)), (part) => [part, size], reads, target);
  });
}

function shader(reduction: 'sum' | 'max' | 'mean', lanes: number): GroupShader {
  const join = (a: string, b: string): string => (reduction === 'max' ? `max(${a}, ${b})` : `${a} + ${b}`);
  return {
    name: `reduce ${reduction}, ${lanes} lanes a row`,
    reads: { x: 'f32' },
    result: 'f32',
    fields: [['rows', 'u32'], ['size', 'u32']],
    lanes: groupLanes,
    shared: [`shares: array<f32, ${groupLanes}>`],
    functions: [joinLanes('joined', lanes, join)],
    body: (writer) => {
      writer.line(...rowLocals(lanes));
      writer.line(`var total = ${reduction === 'max' ? 'x[start]' : '0.0f'};`);
      writer.block(`for (var index = lane; index < parameters.size; index += ${lanes}u)`, () => writer.line(`total = ${join('total', 'x[start + index]')};`));
      writer.line('total = joined(local, total);');
      writer.block('if (lane == 0u && own == row)', () => writer.line(`result[row] = total${reduction === 'mean' ? ' / f32(parameters.size)' : ''};`));
    },
  };
}
