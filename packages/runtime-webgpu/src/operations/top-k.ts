import { AttentionError, type Tensor } from '@heed/core';
import { rowsOf, type ElementShader, type GroupShader, type OperationCall } from './context.ts';
import { groupLanes } from './lanes.ts';

/** Up to so many are found one after another, each by a walk over the row; more by counting, for every element, those that stand before it. */
const mostWalks = 64;

/** The k largest of each row, descending, the lower index first on ties. */
export function topK(call: OperationCall, x: Tensor, k: number): { readonly values: Tensor; readonly indices: Tensor } {
  const { rows, size } = rowsOf(x.shape);
  if (x.shape.length < 1 || !Number.isSafeInteger(k) || k < 0 || k > size) {
    throw new AttentionError('invalid-argument', `topK got k = ${k} for shape [${x.shape.join(', ')}].`, `Expected an integer from 0 to ${size}.`);
  }
  const { runtime } = call;
  const shape = [...x.shape.slice(0, -1), k];
  const source = call.dense(x);
  const indices = runtime.tensor(shape, 'i32');
  const units = { count: rows, reads: [4 * size], result: 4 * k };
  if (k > 0 && k <= mostWalks) call.runUnits(walks, units, (part) => part, () => [size, k], [source], runtime.bufferOf(indices));
  else call.runUnits(ranks, units, (part) => part * size, () => [size, k], [source], runtime.bufferOf(indices));
  const values = call.store(shape, x.dtype, (target) => {
    call.runUnits(picks, { count: rows, reads: [4 * size, 4 * k], result: 4 * k }, (part) => part * k, () => [size, k], [source, runtime.bufferOf(indices)], target);
  });
  return { values, indices };
}

/** True where a stands before b in the order of the result. */
const stands = `fn standsBefore(a: f32, aIndex: u32, b: f32, bIndex: u32) -> bool {
  return a > b || (a == b && aIndex < bIndex);
}`;

/** One workgroup a row: k times the first of those that stand behind the last one found. `parameters.size` is the index of nothing. */
const walks: GroupShader = {
  name: 'top k, indices by walks',
  reads: { x: 'f32' },
  result: 'i32',
  fields: [['size', 'u32'], ['k', 'u32']],
  lanes: groupLanes,
  shared: [`values: array<f32, ${groupLanes}>`, `indices: array<u32, ${groupLanes}>`],
  functions: [stands],
  body: (writer) => {
    writer.line('let start = group * parameters.size;', 'var last = 0.0f;', 'var lastIndex = parameters.size;');
    writer.block('for (var rank = 0u; rank < parameters.k; rank++)', () => {
      writer.line('var best = 0.0f;', 'var bestIndex = parameters.size;');
      writer.block(`for (var index = local; index < parameters.size; index += ${groupLanes}u)`, () => {
        writer.line('let value = x[start + index];', 'let open = rank == 0u || standsBefore(last, lastIndex, value, index);');
        writer.block('if (open && (bestIndex == parameters.size || standsBefore(value, index, best, bestIndex)))', () => writer.line('best = value;', 'bestIndex = index;'));
      });
      writer.line('workgroupBarrier();', 'values[local] = best;', 'indices[local] = bestIndex;');
      writer.block(`for (var step = ${groupLanes / 2}u; step > 0u; step /= 2u)`, () => {
        writer.line('workgroupBarrier();');
        writer.block('if (local < step)', () => {
          writer.line('let other = indices[local + step];', 'let own = indices[local];');
          writer.block('if (other < parameters.size && (own == parameters.size || standsBefore(values[local + step], other, values[local], own)))', () => writer.line('values[local] = values[local + step];', 'indices[local] = other;'));
        });
      });
      writer.line('workgroupBarrier();', 'last = values[0];', 'lastIndex = indices[0];');
      writer.block('if (local == 0u)', () => writer.line('result[group * parameters.k + rank] = i32(lastIndex);'));
    });
  },
};

const ranks: ElementShader = {
  name: 'top k, indices by counting',
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
