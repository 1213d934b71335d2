import { AttentionError, elementCount, type Tensor } from '@heed/core';
import { checkShape, type ElementShader, type OperationCall } from './context.ts';

export interface ConvolutionOptions {
  readonly tail?: Tensor;
  readonly bias?: Tensor;
}

/** y[t, c] = Σ_n weight[c, n] · x[t − taps + 1 + n, c] + bias[c]; `tail` [batch, taps − 1, channels] stands before the first row. */
export function causalConvolution(call: OperationCall, x: Tensor, weight: Tensor, { tail, bias }: ConvolutionOptions = {}): { readonly output: Tensor; readonly tail: Tensor } {
  if (x.shape.length !== 3 || weight.shape.length !== 2) {
    throw new AttentionError('invalid-shape', `causalConvolution got x [${x.shape.join(', ')}] and weight [${weight.shape.join(', ')}].`, 'Expected [batch, length, channels] and [channels, taps].');
  }
  const [batch = 0, length = 0, channels = 0] = x.shape;
  const taps = weight.shape[1] ?? 0;
  checkShape('causalConvolution’s weight', weight.shape, [channels, Math.max(1, taps)]);
  if (tail !== undefined) checkShape('causalConvolution’s tail', tail.shape, [batch, taps - 1, channels]);
  if (bias !== undefined) checkShape('causalConvolution’s bias', bias.shape, [channels]);
  const [rows, before] = [call.dense(x), tail === undefined ? [] : [call.dense(tail)]];
  const sizes = [length, channels, taps];
  const output = call.store(x.shape, x.dtype, (target) => {
    const reads = [rows, ...before, call.dense(weight), ...(bias === undefined ? [] : [call.dense(bias)])];
    call.run(sums(tail !== undefined, bias !== undefined), elementCount(x.shape), sizes, reads, target);
  });
  const shape = [batch, taps - 1, channels];
  const next = call.store(shape, x.dtype, (target) => {
    call.run(lastRows(tail !== undefined), elementCount(shape), sizes, [rows, ...before], target);
  });
  return { output, tail: next };
}

const fields = [['length', 'u32'], ['channels', 'u32'], ['taps', 'u32']] as const;

/** Row `row` of a sequence, rows of the tail counting from −(taps − 1). */
function past(hasTail: boolean): string {
  const older = hasTail ? 'tail[u32(i32((sequence + 1u) * (parameters.taps - 1u)) + row) * parameters.channels + channel]' : '0.0f';
  return `if (row < 0i) { element = ${older}; } else { element = x[(sequence * parameters.length + u32(row)) * parameters.channels + channel]; }`;
}

function sums(hasTail: boolean, bias: boolean): ElementShader {
  return {
    name: `causal convolution${hasTail ? ', tail' : ''}${bias ? ', bias' : ''}`,
    reads: { x: 'f32', ...(hasTail ? { tail: 'f32' } : {}), weight: 'f32', ...(bias ? { bias: 'f32' } : {}) },
    result: 'f32',
    fields,
    body: (writer) => {
      writer.line('let channel = place % parameters.channels;', 'let token = place / parameters.channels % parameters.length;', 'let sequence = place / (parameters.channels * parameters.length);');
      writer.line(`var sum = ${bias ? 'bias[channel]' : '0.0f'};`);
      writer.block('for (var tap = 0u; tap < parameters.taps; tap++)', () => {
        writer.line('let row = i32(token + tap) - i32(parameters.taps - 1u);', 'var element = 0.0f;', past(hasTail), 'sum = fma(weight[channel * parameters.taps + tap], element, sum);');
      });
      writer.line('result[place] = sum;');
    },
  };
}

function lastRows(hasTail: boolean): ElementShader {
  return {
    name: `last rows of a causal convolution${hasTail ? ', tail' : ''}`,
    reads: { x: 'f32', ...(hasTail ? { tail: 'f32' } : {}) },
    result: 'f32',
    fields,
    body: (writer) => {
      writer.line('let rows = parameters.taps - 1u;', 'let channel = place % parameters.channels;', 'let sequence = place / (parameters.channels * rows);');
      writer.line('let row = i32(parameters.length + place / parameters.channels % rows) - i32(rows);', 'var element = 0.0f;', past(hasTail), 'result[place] = element;');
    },
  };
}
