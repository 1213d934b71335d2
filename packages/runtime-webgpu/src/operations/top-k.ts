import { AttentionError, elementCount, type Tensor } from '@heed/core';
import { rowsOf, type ElementShader, type OperationCall } from './context.ts';

/** The k largest of each row, descending, the lower index first on ties: an element's place is the number of those that stand before it. */
export function topK(call: OperationCall, x: Tensor, k: number): { readonly values: Tensor; readonly indices: Tensor } {
  const { size } = rowsOf(x.shape);
  if (x.shape.length < 1 || !Number.isSafeInteger(k) || k < 0 || k > size) {
    throw new AttentionError('invalid-argument', `topK got k = ${k} for shape [${x.shape.join(', ')}].`, `Expected an integer from 0 to ${size}.`);
  }
  const { runtime } = call;
  const shape = [...x.shape.slice(0, -1), k];
  const source = call.dense(x);
  const indices = runtime.tensor(shape, 'i32');
  call.run(ranks, elementCount(x.shape), [size, k], [source], runtime.bufferOf(indices));
  const values = call.store(shape, x.dtype, (target) => {
    call.run(picks, elementCount(shape), [size, k], [source, runtime.bufferOf(indices)], target);
  });
  return { values, indices };
}

const ranks: ElementShader = {
  name: 'top k, indices',
  reads: { x: 'f32' },
  result: 'i32',
  fields: [['size', 'u32'], ['k', 'u32']],
  body: (writer) => {
    writer.line('let row = place / parameters.size;', 'let own = place % parameters.size;', 'let value = x[place];', 'var rank = 0u;');
    writer.block('for (var index = 0u; index < parameters.size; index++)', () => {
      writer.line('let other = x[row * parameters.size + index];', 'rank += select(0u, 1u, other > value || (other == value && index < own));');
    });
    writer.block('if (rank < parameters.k)', () => writer.line('result[row * parameters.k + rank] = i32(own);'));
  },
};

const picks: ElementShader = {
  name: 'top k, values',
  reads: { x: 'f32', indices: 'i32' },
  result: 'f32',
  fields: [['size', 'u32'], ['k', 'u32']],
  body: (writer) => {
    writer.line('result[place] = x[place / parameters.k * parameters.size + u32(indices[place])];');
  },
};
