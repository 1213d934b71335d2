import { AttentionError, type Tensor } from '@heed/core';
import { checkShape, rowsOf, type GroupShader, type OperationCall } from './context.ts';
import { groupLanes, joinLanes, lanesOf, rowLocals } from './lanes.ts';

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
  const lanes = lanesOf(size);
  const units = { count: rows, reads: [4 * size, ...reads.slice(1).map(() => 0)], result: 4 * size };
  return call.store(x.shape, x.dtype, (target) => {
    call.runUnits(shader(norm, gain !== undefined, shift !== undefined, lanes), units, (part) => Math.ceil(part / (groupLanes / lanes)), (part) => [part, size, epsilon], reads, target);
  });
}

function shader(norm: RowNormOptions['norm'], gain: boolean, shift: boolean, lanes: number): GroupShader {
  return {
    name: `${norm} norm${gain ? ', gain' : ''}${shift ? ', shift' : ''}, ${lanes} lanes a row`,
    reads: { x: 'f32', ...(gain ? { gain: 'f32' } : {}), ...(shift ? { shift: 'f32' } : {}) },
    result: 'f32',
    fields: [['rows', 'u32'], ['size', 'u32'], ['epsilon', 'f32']],
    lanes: groupLanes,
    shared: [`shares: array<f32, ${groupLanes}>`],
    functions: [joinLanes('joined', lanes, (a, b) => `${a} + ${b}`)],
    body: (writer) => {
      const overChannels = (...lines: readonly string[]): void => {
        writer.block(`for (var channel = lane; channel < parameters.size; channel += ${lanes}u)`, () => writer.line(...lines));
      };
      writer.line(...rowLocals(lanes), 'var mean = 0.0f;');
      if (norm === 'layer') {
        overChannels('mean += x[start + channel];');
        writer.line('mean = joined(local, mean) / f32(parameters.size);');
      }
      writer.line('var squares = 0.0f;');
      overChannels('let centred = x[start + channel] - mean;', 'squares = fma(centred, centred, squares);');
      writer.line('squares = joined(local, squares);');
      writer.line(norm === 'l2' ? 'let divisor = max(sqrt(squares), parameters.epsilon);' : 'let divisor = sqrt(squares / f32(parameters.size) + parameters.epsilon);');
      writer.block('if (own == row)', () => {
        overChannels(`result[start + channel] = (x[start + channel] - mean) / divisor${gain ? ' * gain[channel]' : ''}${shift ? ' + shift[channel]' : ''};`);
      });
    },
  };
}
