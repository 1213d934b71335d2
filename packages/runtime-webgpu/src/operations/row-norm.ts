import { AttentionError, type Tensor } from '@heed/core';
import { checkShape, rowsOf, type OperationCall } from './context.ts';

export interface RowNormOptions {
  readonly norm: 'l2' | 'rms' | 'layer';
  readonly epsilon: number;
  readonly gain?: Tensor;
  readonly shift?: Tensor;
}

/** l2: row / max(‖row‖, ε).  rms: row / √(mean(row²) + ε).  layer: (row − mean) / √(variance + ε).  Then times gain plus shift. */
export function rowNorm(call: OperationCall, x: Tensor, { norm, epsilon, gain, shift }: RowNormOptions): Tensor {
  if (typeof epsilon !== 'number' || !(epsilon >= 0)) throw new AttentionError('invalid-argument', `rowNorm got epsilon ${String(epsilon)}.`, 'Expected a number of 0 or more.');
  const { rows, size } = rowsOf(x.shape);
  if (x.shape.length < 1 || size < 1) throw new AttentionError('invalid-shape', `rowNorm got shape [${x.shape.join(', ')}].`, 'Expected rows of at least one channel.');
  if (gain !== undefined) checkShape('rowNorm’s gain', gain.shape, [size]);
  if (shift !== undefined) checkShape('rowNorm’s shift', shift.shape, [size]);
  const reads = [call.dense(x), ...(gain === undefined ? [] : [call.dense(gain)]), ...(shift === undefined ? [] : [call.dense(shift)])];
  const shader = {
    name: `${norm} norm${gain === undefined ? '' : ', gain'}${shift === undefined ? '' : ', shift'}`,
    reads: { x: 'f32', ...(gain === undefined ? {} : { gain: 'f32' }), ...(shift === undefined ? {} : { shift: 'f32' }) },
    result: 'f32',
    fields: [['size', 'u32'], ['epsilon', 'f32']],
    body: (writer) => {
      writer.line('let start = place * parameters.size;', 'var mean = 0.0f;');
      if (norm === 'layer') {
        writer.block('for (var channel = 0u; channel < parameters.size; channel++)', () => writer.line('mean += x[start + channel];'));
        writer.line('mean /= f32(parameters.size);');
      }
      writer.line('var squares = 0.0f;');
      writer.block('for (var channel = 0u; channel < parameters.size; channel++)', () => writer.line('let centred = x[start + channel] - mean;', 'squares = fma(centred, centred, squares);'));
      writer.line(norm === 'l2' ? 'let divisor = max(sqrt(squares), parameters.epsilon);' : 'let divisor = sqrt(squares / f32(parameters.size) + parameters.epsilon);');
      writer.block('for (var channel = 0u; channel < parameters.size; channel++)', () => {
        const normed = '(x[start + channel] - mean) / divisor';
        writer.line(`result[start + channel] = ${normed}${gain === undefined ? '' : ' * gain[channel]'}${shift === undefined ? '' : ' + shift[channel]'};`);
      });
    },
  } satisfies Parameters<OperationCall['run']>[0];
  return call.store(x.shape, x.dtype, (target) => {
    call.run(shader, rows, [size, epsilon], reads, target);
  });
}
