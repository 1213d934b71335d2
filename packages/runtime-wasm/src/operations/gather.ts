/** Rows by index. An index outside gives zeros; where the indices are an array of the host, it is an error at once. */
import { AttentionError, bytesPerElement, elementCount, isHostTensor, type Tensor } from '@heed/core';
import { instructions } from '../emit/instruction.ts';
import { rowsPerTask, type KernelBody, type OperationCall } from './context.ts';
import { packWords, readWords, taskRows } from './words.ts';

const { i32, memory } = instructions;

const wordNames = ['x', 'indices', 'out', 'count', 'each', 'perMatrix', 'rows', 'rowBytes'] as const;

export function gather(call: OperationCall, x: Tensor, indices: Tensor): Tensor {
  if (indices.dtype !== 'i32') throw new AttentionError('invalid-dtype', `gather’s indices are ${indices.dtype}.`, 'Expected i32.');
  const lead = x.shape.slice(0, -2);
  const [rows = 0, dim = 0] = x.shape.slice(-2);
  const n = indices.shape.at(-1) ?? 0;
  if (x.shape.length < 2 || indices.shape.length !== x.shape.length - 1 || lead.some((size, axis) => indices.shape[axis] !== size)) {
    throw new AttentionError('invalid-shape', `gather got x [${x.shape.join(', ')}] and indices [${indices.shape.join(', ')}].`, 'Expected x [… , rows, dim] and indices [… , n] with the same leading axes.');
  }
  const places = call.dense(indices);
  if (indices.runtime === null && isHostTensor(places.tensor)) {
    for (const index of places.tensor.view()) {
      if (index < 0 || index >= rows) throw new AttentionError('invalid-argument', `gather got index ${index} for ${rows} rows.`, `Expected 0 … ${rows - 1}.`);
    }
  }
  const source = call.dense(x);
  const out = call.runtime.tensor([...lead, n, dim], x.dtype);
  const count = elementCount(indices.shape);
  const rowBytes = dim * bytesPerElement[x.dtype];
  const { each, tasks } = rowsPerTask(count, dim + 8);
  call.run({
    key: 'gather',
    kernels: { gather: kernel },
    phases: [
      {
        kernel: 'gather',
        tasks,
        words: packWords(wordNames, { x: source.address, indices: places.address, out: call.runtime.addressOf(out), count, each, perMatrix: n, rows, rowBytes }),
      },
    ],
    reads: [source, places],
    writes: [out],
    microseconds: (count * (rowBytes + 32)) / 8000,
  });
  return out;
}

const kernel: KernelBody = (f, { task, words }) => {
  const { x, indices, out, count, each, perMatrix, rows, rowBytes } = readWords(f, words, wordNames);
  const { first, end } = taskRows(f, task, each, count);
  const place = f.local('place', 'i32');
  const index = f.local('index', 'i32');
  const target = f.local('target', 'i32');
  f.for(place, { from: first, to: end }, () => {
    f.set(index, i32.load(i32.add(indices, i32.shl(place, 2))));
    f.set(target, i32.add(out, i32.mul(place, rowBytes)));
    // Unsigned, so that a negative index is outside as well.
    f.if(
      i32.lt_u(index, rows),
      () => {
        const row = i32.add(i32.mul(i32.div_u(place, perMatrix), rows), index);
        f.do(memory.copy(target, i32.add(x, i32.mul(row, rowBytes)), rowBytes));
      },
      () => {
        f.do(memory.fill(target, 0, rowBytes));
      },
    );
  });
};
