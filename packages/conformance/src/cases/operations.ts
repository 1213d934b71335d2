import type { DType, HostTensor, Tensor } from '@heed/core';
import { bytesPerElement, encode, permute, reader, slice, tensor, toFloat64, write } from '@heed/core';
import type { Case } from '../case.ts';
import { defineCase } from '../case.ts';
import type { CaseContext } from '../context.ts';
import { integerTensor, normalTensor } from '../inputs.ts';
import { exact, float32Attention } from '../tolerance.ts';

const needs = [] as const;
const tolerance = float32Attention;

/** The operations of the runtime, which layers and selectors compute with, against their definitions written as loops. */
export const operationCases: readonly Case[] = [
  ...([[3, 5, 7], [1, 64, 65], [17, 1, 3]] as const).flatMap(([rows, inner, columns]) =>
    [false, true].map((transposed) =>
      defineCase({ name: 'operations/matmul', parameters: { m: rows, k: inner, n: columns, transposed }, needs, plan: `Two batches of ${rows} × ${inner} times one shared ${transposed ? `${columns} × ${inner}, transposed` : `${inner} × ${columns}`}, plus a bias.`, tolerance }, async (context) => {
        const a = normalTensor(context.random, [2, rows, inner]);
        const b = normalTensor(context.random, transposed ? [1, columns, inner] : [1, inner, columns]);
        const bias = normalTensor(context.random, [columns]);
        const [x, y, z] = [toFloat64(a), toFloat64(b), toFloat64(bias)];
        const want = fill([2, rows, columns], ([batch = 0, row = 0, column = 0]) => {
          let sum = z[column] ?? 0;
          for (let index = 0; index < inner; index++) sum += (x[(batch * rows + row) * inner + index] ?? 0) * (y[transposed ? column * inner + index : index * columns + column] ?? 0);
          return sum;
        });
        await withUploads(context, [a, b, bias], async ([left, right, added]) => {
          if (left === undefined || right === undefined || added === undefined) return [];
          const product = context.backend.runtime.operations.matmul(left, right, { transposed, bias: added });
          context.check(product.shape.join() === `2,${rows},${columns}`, () => `The product has shape [${product.shape.join(', ')}].`);
          context.close('product', await context.values(product), want, bound(inner));
          return [product];
        });
      }),
    ),
  ),
  ...(['l2', 'rms', 'layer'] as const).map((norm) =>
    defineCase({ name: 'operations/row-norm', parameters: { norm }, needs, plan: `Rows of 40 channels under the ${norm} norm, times a gain, plus a shift.`, tolerance }, async (context) => {
      const [x, gain, shift] = [normalTensor(context.random, [3, 2, 40]), normalTensor(context.random, [40]), normalTensor(context.random, [40])];
      const [values, factors, added] = [toFloat64(x), toFloat64(gain), toFloat64(shift)];
      const epsilon = 1e-3;
      const want = values.map((value, index) => {
        const row = values.subarray(index - (index % 40), index - (index % 40) + 40);
        const mean = norm === 'layer' ? row.reduce((sum, one) => sum + one, 0) / 40 : 0;
        const square = row.reduce((sum, one) => sum + (one - mean) ** 2, 0);
        const divisor = norm === 'l2' ? Math.max(Math.sqrt(square), epsilon) : Math.sqrt(square / 40 + epsilon);
        return ((value - mean) / divisor) * (factors[index % 40] ?? 0) + (added[index % 40] ?? 0);
      });
      await withUploads(context, [x, gain, shift], async ([rows, times, plus]) => {
        if (rows === undefined || times === undefined || plus === undefined) return [];
        const result = context.backend.runtime.operations.rowNorm(rows, { norm, epsilon, gain: times, shift: plus });
        context.close('rows', await context.values(result), want, bound(40));
        return [result];
      });
    }),
  ),
  defineCase({ name: 'operations/elementwise', needs, plan: 'One expression over two tensors and a uniform: tanh(a) · b + shift, element by element.', tolerance }, async (context) => {
    const [a, b] = [normalTensor(context.random, [3, 17]), normalTensor(context.random, [3, 17])];
    const { expression } = write('transform', '', ({ table, uniform }) => table('a', []).at().tanh().mul(table('b', []).at()).add(uniform('shift', 0)));
    const [x, y] = [toFloat64(a), toFloat64(b)];
    await withUploads(context, [a, b], async ([left, right]) => {
      if (left === undefined || right === undefined) return [];
      const result = context.backend.runtime.operations.elementwise(expression, { a: left, b: right }, { uniforms: { shift: 0.25 } });
      context.close('elements', await context.values(result), x.map((value, index) => Math.tanh(value) * (y[index] ?? 0) + 0.25), bound(1));
      return [result];
    });
  }),
  defineCase({ name: 'operations/gather', needs, plan: 'Rows in any order, some of them twice, bit for bit.', tolerance: exact }, async (context) => {
    const x = normalTensor(context.random, [2, 5, 3]);
    const order = [4, 0, 0, 2, 1, 3, 3, 4];
    const values = toFloat64(x);
    await withUploads(context, [x, integerTensor(order, [2, 4])], async ([rows, indices]) => {
      if (rows === undefined || indices === undefined) return [];
      const result = context.backend.runtime.operations.gather(rows, indices);
      context.sameBits('rows', await context.values(result), fill([2, 4, 3], ([batch = 0, place = 0, channel = 0]) => values[(batch * 5 + (order[batch * 4 + place] ?? 0)) * 3 + channel] ?? 0));
      return [result];
    });
  }),
  ...(['sum', 'max', 'mean'] as const).map((reduction) =>
    defineCase({ name: 'operations/reduce', parameters: { reduction }, needs, plan: `The ${reduction} of the last axis of 65 elements.`, tolerance }, async (context) => {
      const x = normalTensor(context.random, [4, 65]);
      const values = toFloat64(x);
      const want = fill([4], ([row = 0]) => {
        const part = values.subarray(row * 65, row * 65 + 65);
        const sum = part.reduce((total, value) => total + value, 0);
        return reduction === 'max' ? Math.max(...part) : reduction === 'sum' ? sum : sum / 65;
      });
      await withUploads(context, [x], async ([source]) => {
        if (source === undefined) return [];
        const result = context.backend.runtime.operations.reduce(source, reduction);
        context.check(result.shape.join() === '4', () => `The result has shape [${result.shape.join(', ')}].`);
        context.close('elements', await context.values(result), want, bound(65));
        return [result];
      });
    }),
  ),
  defineCase({ name: 'operations/top-k', needs, plan: 'The 4 largest, descending, the lower index first where elements are equal.', tolerance: exact }, async (context) => {
    const x = tensor([3, 1, 3, 2, 5, 2, 0, 0, 0, 0, 0, 0, -1, -5, -2, -3, -4, -6], [3, 6]);
    await withUploads(context, [x], async ([source]) => {
      if (source === undefined) return [];
      const { values, indices } = context.backend.runtime.operations.topK(source, 4);
      context.sameBits('values', await context.values(values), [5, 3, 3, 2, 0, 0, 0, 0, -1, -2, -3, -4]);
      context.sameBits('indices', await context.values(indices), [4, 0, 2, 3, 0, 1, 2, 3, 0, 2, 3, 4]);
      return [values, indices];
    });
  }),
  defineCase({ name: 'operations/causal-convolution', needs, plan: 'Four taps over 9 tokens in two parts, the tail of the first handed to the second, is the convolution of the whole.', tolerance }, async (context) => {
    const [x, weight, bias] = [normalTensor(context.random, [2, 9, 3]), normalTensor(context.random, [3, 4]), normalTensor(context.random, [3])];
    const [values, taps, added] = [toFloat64(x), toFloat64(weight), toFloat64(bias)];
    const whole = (batch: number, token: number, channel: number): number => {
      let sum = added[channel] ?? 0;
      for (let tap = 0; tap < 4; tap++) if (token - 3 + tap >= 0) sum += (taps[channel * 4 + tap] ?? 0) * (values[(batch * 9 + token - 3 + tap) * 3 + channel] ?? 0);
      return sum;
    };
    const { operations } = context.backend.runtime;
    await withUploads(context, [dense(slice(x, 1, 0, 5)), dense(slice(x, 1, 5, 9)), weight, bias], async ([first, second, kernel, plus]) => {
      if (first === undefined || second === undefined || kernel === undefined || plus === undefined) return [];
      const head = operations.causalConvolution(first, kernel, { bias: plus });
      const rest = operations.causalConvolution(second, kernel, { bias: plus, tail: head.tail });
      context.close('first five tokens', await context.values(head.output), fill([2, 5, 3], ([batch = 0, token = 0, channel = 0]) => whole(batch, token, channel)), bound(4));
      context.close('last four tokens', await context.values(rest.output), fill([2, 4, 3], ([batch = 0, token = 0, channel = 0]) => whole(batch, token + 5, channel)), bound(4));
      context.close('tail', await context.values(rest.tail), fill([2, 3, 3], ([batch = 0, token = 0, channel = 0]) => values[(batch * 9 + token + 6) * 3 + channel] ?? 0), bound(1));
      return [head.output, head.tail, rest.output, rest.tail];
    });
  }),
  ...(['f16', 'bf16'] as const).map((dtype) =>
    defineCase({ name: 'operations/copy', parameters: { dtype }, laws: ['L9'], needs: [`dtype:${dtype}`], plan: `Copying to ${dtype} rounds to nearest even and overflows to ±∞; copying back changes nothing more; into a given tensor writes there.`, tolerance: exact }, async (context) => {
      const x = tensor([1, -1 / 3, 65504, 65519, 65520, -1e6, 3.4e38, 6e-8, 1e-9, 0, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -8, 1 + 3 * 2 ** -8], [2, 7]);
      const want = roundedTo(toFloat64(x), dtype);
      const { operations } = context.backend.runtime;
      await withUploads(context, [x], async ([source]) => {
        if (source === undefined) return [];
        const narrow = operations.copy(source, { dtype });
        context.check(narrow.dtype === dtype, () => `The copy is ${narrow.dtype}.`);
        context.sameBits('narrow', await context.values(narrow), want);
        const back = operations.copy(narrow, { dtype: 'f32' });
        context.sameBits('back', await context.values(back), want);
        const target = context.backend.runtime.tensor([2, 7], 'f32');
        operations.copy(narrow, { into: target });
        context.sameBits('into', await context.values(target), want);
        return [narrow, back, target];
      });
    }),
  ),
  ...(['f32', 'f16', 'i32', 'i8'] as const).map((dtype) =>
    defineCase({ name: 'operations/view', parameters: { dtype }, needs: dtype === 'f16' ? ['dtype:f16'] : needs, plan: `Views of a tensor of ${dtype}, permuted, sliced and repeated, are read as what they show; a copy into one writes its places and no other.`, tolerance: exact }, async (context) => {
      const { runtime } = context.backend;
      const numbers = tensor(encode(Array.from({ length: 60 }, (_, index) => index - 30), dtype), [3, 4, 5], { dtype });
      const few = tensor(encode(Array.from({ length: 6 }, (_, index) => 100 + index), dtype), [2, 3], { dtype });
      await withUploads(context, [numbers, few], async ([source, rows]) => {
        if (source === undefined || rows === undefined) return [];
        const at = (a: number, b: number, c: number): number => a * 20 + b * 5 + c - 30;
        const turned = runtime.view(source, [5, 3, 2], [1, 20, 5], 10);
        context.sameBits('turned', await context.values(turned), fill([5, 3, 2], ([c = 0, a = 0, b = 0]) => at(a, b + 2, c)));
        const copied = runtime.operations.copy(turned);
        context.sameBits('copied', await context.values(copied), fill([5, 3, 2], ([c = 0, a = 0, b = 0]) => at(a, b + 2, c)));
        const repeated = runtime.operations.copy(runtime.view(turned, [2, 3], [0, 20], 1));
        context.sameBits('repeated', await context.values(repeated), fill([2, 3], ([, a = 0]) => at(a, 2, 1)));
        runtime.operations.copy(rows, { into: runtime.view(source, [2, 3], [20, 5], 21) });
        context.sameBits('written', await context.values(source), fill([3, 4, 5], ([a = 0, b = 0, c = 0]) => (a > 0 && b < 3 && c === 1 ? 100 + 3 * (a - 1) + b : at(a, b, c))));
        return [copied, repeated];
      });
    }),
  ),
  defineCase({ name: 'operations/view-product', needs, plan: 'A product reads a strided view as the matrix that it shows.', tolerance }, async (context) => {
    const x = normalTensor(context.random, [6, 3, 8]);
    const w = normalTensor(context.random, [5, 8]);
    const [xs, ws] = [toFloat64(x), toFloat64(w)];
    await withUploads(context, [x, w], async ([source, weight]) => {
      if (source === undefined || weight === undefined) return [];
      const { runtime } = context.backend;
      const product = runtime.operations.matmul(runtime.view(source, [6, 8], [24, 1], 8), weight, { transposed: true });
      context.close('product', await context.values(product), fill([6, 5], ([row = 0, column = 0]) => Array.from({ length: 8 }, (_, inner) => (xs[row * 24 + 8 + inner] ?? 0) * (ws[column * 8 + inner] ?? 0)).reduce((a, b) => a + b, 0)), bound(8));
      return [product];
    });
  }),
  defineCase({ name: 'operations/strided', needs, plan: 'A host tensor whose axes are exchanged is uploaded as what it shows.', tolerance: exact }, async (context) => {
    const turned = permute(normalTensor(context.random, [3, 4, 5]), [2, 0, 1]);
    await withUploads(context, [turned], async ([source]) => {
      if (source === undefined) return [];
      context.check(source.shape.join() === '5,3,4', () => `The tensor has shape [${source.shape.join(', ')}].`);
      context.sameBits('elements', await context.values(source), toFloat64(turned));
      return [];
    });
  }),
];

function bound(terms: number): ReturnType<typeof float32Attention.bound> {
  return float32Attention.bound({ length: terms, dim: terms, dtype: 'f32', magnitude: 8 });
}

/** Uploads tensors, and releases them with what the work returns; the runtime must then hold what it held before. */
async function withUploads(context: CaseContext, sources: readonly HostTensor[], work: (uploaded: readonly Tensor[]) => Promise<readonly Tensor[]>): Promise<void> {
  const { runtime } = context.backend;
  await runtime.idle();
  const held = runtime.memory().bytes;
  const uploaded = sources.map((source) => runtime.upload(source));
  const expected = sources.reduce((sum, source) => sum + toFloat64(source).length * bytesPerElement[source.dtype], 0);
  context.check(runtime.memory().bytes - held >= expected, () => `Uploading ${expected} bytes added ${runtime.memory().bytes - held}.`);
  const made = await work(uploaded);
  for (const one of [...uploaded, ...made]) runtime.release(one);
  context.check(runtime.memory().bytes === held, () => `${runtime.memory().bytes - held} bytes stay after every tensor was released.`);
}

/** A dense array of a shape, element by element. */
function fill(shape: readonly number[], entry: (index: readonly number[]) => number): Float64Array {
  const count = shape.reduce((product, size) => product * size, 1);
  return Float64Array.from({ length: count }, (_, flat) => {
    let rest = flat;
    const index = [...shape].reverse().map((size) => {
      const own = rest % size;
      rest = Math.floor(rest / size);
      return own;
    });
    return entry(index.reverse());
  });
}

function dense(source: HostTensor): HostTensor {
  return tensor(Float32Array.from(toFloat64(source)), source.shape);
}

function roundedTo(values: Float64Array, dtype: DType): Float64Array {
  const stored = encode(values, dtype);
  const read = reader(dtype, stored);
  return values.map((_, index) => read(index));
}
