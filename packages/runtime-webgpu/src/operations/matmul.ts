import { AttentionError, elementCount, type DType, type Tensor } from '@heed/core';
import { checkShape, type ElementShader, type OperationCall } from './context.ts';

export interface MatmulOptions {
  readonly transposed?: boolean;
  readonly bias?: Tensor;
  readonly dtype?: DType;
}

/** a [… , m, k] · b [… , k, n], or [… , n, k] when transposed, + bias [n]: one invocation for each element. */
export function matmul(call: OperationCall, a: Tensor, b: Tensor, { transposed = false, bias, dtype = a.dtype }: MatmulOptions = {}): Tensor {
  const lead = a.shape.slice(0, -2);
  const [m = 0, k = 0] = a.shape.slice(-2);
  const [bRows = 0, bColumns = 0] = b.shape.slice(-2);
  const n = transposed ? bRows : bColumns;
  const fits = a.shape.length >= 2 && b.shape.length === a.shape.length && (transposed ? bColumns : bRows) === k && lead.every((size, axis) => b.shape[axis] === size || b.shape[axis] === 1);
  if (!fits) {
    throw new AttentionError('invalid-shape', `matmul got [${a.shape.join(', ')}] and [${b.shape.join(', ')}].`, `Expected the second to be [… , ${transposed ? `n, ${k}` : `${k}, n`}] with the same leading axes, or 1.`);
  }
  if (bias !== undefined) checkShape('matmul’s bias', bias.shape, [n]);
  const map = Int32Array.from({ length: elementCount(lead) }, (_, matrix) => sharedMatrix(matrix, lead, b.shape));
  const matrices = call.runtime.uploadWords(map);
  const reads = [call.dense(a), call.dense(b), matrices, ...(bias === undefined ? [] : [call.dense(bias)])];
  const result = call.store([...lead, m, n], dtype, (target) => {
    call.run(shader(transposed, bias !== undefined), map.length * m * n, [m, k, n], reads, target);
  });
  call.runtime.releaseBuffer(matrices);
  return result;
}

function shader(transposed: boolean, bias: boolean): ElementShader {
  return {
    name: `matmul${transposed ? ', b transposed' : ''}${bias ? ', bias' : ''}`,
    reads: { a: 'f32', b: 'f32', matrices: 'i32', ...(bias ? { bias: 'f32' } : {}) },
    result: 'f32',
    fields: [['m', 'u32'], ['k', 'u32'], ['n', 'u32']],
    body: (writer) => {
      writer.line('let column = place % parameters.n;', 'let row = place / parameters.n;', 'let matrix = u32(matrices[row / parameters.m]);');
      writer.line(`var sum = ${bias ? 'bias[column]' : '0.0f'};`);
      writer.block('for (var inner = 0u; inner < parameters.k; inner++)', () => {
        const at = transposed ? '(matrix * parameters.n + column) * parameters.k + inner' : '(matrix * parameters.k + inner) * parameters.n + column';
        writer.line(`sum = fma(a[row * parameters.k + inner], b[${at}], sum);`);
      });
      writer.line('result[place] = sum;');
    },
  };
}

/** Which matrix of b goes with one of a, where axes of size 1 repeat. */
function sharedMatrix(matrix: number, lead: readonly number[], bShape: readonly number[]): number {
  let [rest, index, step] = [matrix, 0, 1];
  for (let axis = lead.length - 1; axis >= 0; axis -= 1) {
    const size = lead[axis] ?? 1;
    const own = bShape[axis] ?? 1;
    if (own !== 1) index += (rest % size) * step;
    rest = Math.floor(rest / size);
    step *= own;
  }
  return index;
}
