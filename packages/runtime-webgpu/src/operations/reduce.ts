import { AttentionError, type Tensor } from '@heed/core';
import { rowsOf, type OperationCall } from './context.ts';

/** Sum, greatest or mean of the last axis, which must not be empty. */
export function reduce(call: OperationCall, x: Tensor, reduction: 'sum' | 'max' | 'mean'): Tensor {
  if (x.shape.length < 1) throw new AttentionError('invalid-shape', 'reduce got a scalar.', 'Expected at least one axis.');
  const { rows, size } = rowsOf(x.shape);
  if (size === 0) throw new AttentionError('invalid-shape', 'reduce got rows of nothing.', 'Expected at least one element.');
  const reads = [call.dense(x)];
  const shader = {
    name: `reduce ${reduction}`,
    reads: { x: 'f32' },
    result: 'f32',
    fields: [['size', 'u32']],
    body: (writer) => {
      writer.line('let start = place * parameters.size;', 'var total = x[start];');
      writer.block('for (var index = 1u; index < parameters.size; index++)', () => writer.line(reduction === 'max' ? 'total = max(total, x[start + index]);' : 'total += x[start + index];'));
      writer.line(`result[place] = total${reduction === 'mean' ? ' / f32(parameters.size)' : ''};`);
    },
  } satisfies Parameters<OperationCall['run']>[0];
  return call.store(x.shape.slice(0, -1), x.dtype, (target) => {
    call.run(shader, rows, [size], reads, target);
  });
}
