import { AttentionError, elementCount, isHostTensor, type Tensor } from '@heed/core';
import type { ElementShader, OperationCall } from './context.ts';

/** Rows `indices` [… , n] of x [… , rows, dim] → [… , n, dim]; an index outside gives zeros. */
export function gather(call: OperationCall, x: Tensor, indices: Tensor): Tensor {
  const lead = x.shape.slice(0, -2);
  const [rows = 0, dim = 0] = x.shape.slice(-2);
  const n = indices.shape.at(-1) ?? 0;
  if (indices.dtype !== 'i32') throw new AttentionError('invalid-dtype', `gather’s indices are ${indices.dtype}.`, 'Expected i32.');
  if (x.shape.length < 2 || indices.shape.length !== x.shape.length - 1 || lead.some((size, axis) => indices.shape[axis] !== size)) {
    throw new AttentionError('invalid-shape', `gather got x [${x.shape.join(', ')}] and indices [${indices.shape.join(', ')}].`, 'Expected x [… , rows, dim] and indices [… , n] with the same leading axes.');
  }
  if (isHostTensor(indices)) {
    const outside = [...indices.view()].find((index) => index < 0 || index >= rows);
    if (outside !== undefined) throw new AttentionError('invalid-argument', `gather got index ${outside} for ${rows} rows.`, `Expected 0 … ${rows - 1}.`);
  }
  const shape = [...lead, n, dim];
  const whole = x.dtype === 'i32' || x.dtype === 'i8' || x.dtype === 'u8';
  const reads = [call.dense(x, whole ? 'i32' : 'f32'), call.dense(indices, 'i32')];
  const run = (target: GPUBuffer): void => {
    call.run(shader(whole ? 'i32' : 'f32'), elementCount(shape), [n, rows, dim], reads, target);
  };
  if (!whole) return call.store(shape, x.dtype, run);
  const made = call.runtime.tensor(shape, 'i32');
  run(call.runtime.bufferOf(made));
  if (x.dtype === 'i32') return made;
  const narrow = call.runtime.tensor(shape, x.dtype);
  call.convert(made, x.dtype, call.runtime.bufferOf(narrow));
  call.runtime.release(made);
  return narrow;
}

function shader(element: 'f32' | 'i32'): ElementShader {
  return {
    name: `gather ${element}`,
    reads: { x: element, indices: 'i32' },
    result: element,
    fields: [['n', 'u32'], ['rows', 'u32'], ['dim', 'u32']],
    body: (writer) => {
      writer.line('let row = place / parameters.dim;', 'let index = u32(indices[row]);', 'let matrix = row / parameters.n;');
      writer.line('let inside = index < parameters.rows;', 'let origin = (matrix * parameters.rows + select(0u, index, inside)) * parameters.dim + place % parameters.dim;');
      writer.line(`result[place] = select(${element}(0), x[origin], inside);`);
    },
  };
}
