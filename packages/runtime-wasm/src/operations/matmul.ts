/**
 * a [… , m, k] · b, in one of two ways.
 * Few rows: each number of b is read once and meets all rows of a (b transposed: dot products; else: sums of scaled rows of b).
 * Many rows: b is packed into panels of a tile's columns, and register tiles run over them and the rows of a as they lie.
 */
import { AttentionError, elementCount, type DType, type Tensor } from '@heed/core';
import { checkShape, floatStorage, type Dense, type OperationCall } from './context.ts';
import { fewRows, fewRowsColumns, fewRowsScratchBytes, fewRowsWords, type FewRows } from './matmul-few-rows.ts';
import { manyRows, manyRowsWords, panelBytes, rowsOfBlock, tileShape, type ManyRows } from './matmul-tiled.ts';
import { packWords } from './words.ts';

export interface MatmulOptions {
  readonly transposed?: boolean;
  readonly bias?: Tensor;
  readonly dtype?: DType;
}

interface Sizes {
  readonly matrices: number;
  readonly m: number;
  readonly k: number;
  readonly n: number;
}

/** Up to this many rows of a, packing b costs more than it gains. */
const fewRowsLimit = 4;

export function matmul(call: OperationCall, a: Tensor, b: Tensor, { transposed = false, bias, dtype = a.dtype }: MatmulOptions = {}): Tensor {
  floatStorage('matmul’s a', a);
  const right = floatStorage('matmul’s b', b);
  const stored = floatStorage('matmul’s result', { dtype });
  const { lead, sizes } = checkSizes(a, b, transposed);
  const { matrices, m, k, n } = sizes;
  if (bias !== undefined) {
    checkShape('matmul’s bias', bias.shape, [n]);
    floatStorage('matmul’s bias', bias);
  }
  const { runtime } = call;
  const aDense = call.dense(a, 'f32');
  const bDense = call.dense(b);
  const biasDense = bias === undefined ? undefined : call.dense(bias, 'f32');
  const out = runtime.tensor([...lead, m, n], dtype);
  if (matrices * m * n === 0) return out;
  const reads: readonly Dense[] = biasDense === undefined ? [aDense, bDense] : [aDense, bDense, biasDense];
  const common = { a: aDense.address, b: bDense.address, bias: biasDense?.address ?? 0, out: runtime.addressOf(out), m, k, n };
  const map = call.temporary([matrices], 'i32');
  const bMatrices = sharedMatrices(lead, b.shape);
  (map.view() as Int32Array).set(bMatrices);
  const microseconds = (matrices * m * n * Math.max(1, k)) / 10_000;
  const { fused, wide } = runtime.machine;
  if (m <= fewRowsLimit) {
    const form: FewRows = { right, stored, fused, transposed, bias: bias !== undefined, rows: m };
    const each = fewRowsColumns(transposed, { k, n, rows: m });
    const tasks = Math.ceil(n / each);
    call.run({
      key: `matmul few ${JSON.stringify(form)}`,
      kernels: { multiply: fewRows(form) },
      phases: [
        {
          kernel: 'multiply',
          tasks: tasks * matrices,
          words: packWords(fewRowsWords, { ...common, map: runtime.addressOf(map), each, perMatrix: tasks }),
          scratchBytes: fewRowsScratchBytes(form, each),
        },
      ],
      reads,
      writes: [out],
      microseconds,
    });
    return out;
  }
  const shape = tileShape(wide);
  const form: ManyRows = { right, stored, fused, transposed, bias: bias !== undefined, ...shape };
  const bCount = Math.max(0, ...bMatrices) + 1;
  const panels = Math.ceil(n / shape.columns);
  const packed = call.temporary([bCount * panels * panelBytes(form, k)], 'u8');
  const blocks = Math.ceil(m / rowsOfBlock(form));
  // A task multiplies its rows by as many panels as take about 50 µs.
  const group = Math.max(1, Math.min(panels, Math.ceil(2_000_000 / (rowsOfBlock(form) * shape.columns * Math.max(1, k)))));
  const groups = Math.ceil(panels / group);
  const words = packWords(manyRowsWords, { ...common, map: runtime.addressOf(map), packed: runtime.addressOf(packed), panels, blocks, group, groups });
  call.run({
    key: `matmul tiled ${JSON.stringify(form)}`,
    kernels: manyRows(form),
    phases: [
      { kernel: 'pack', tasks: bCount * panels, words },
      { kernel: 'multiply', tasks: matrices * blocks * groups, words, scratchBytes: shape.rows * shape.columns * 4 },
    ],
    reads,
    writes: [out],
    microseconds,
  });
  return out;
}

function checkSizes(a: Tensor, b: Tensor, transposed: boolean): { readonly lead: readonly number[]; readonly sizes: Sizes } {
  const lead = a.shape.slice(0, -2);
  const [m = 0, k = 0] = a.shape.slice(-2);
  const [bRows = 0, bColumns = 0] = b.shape.slice(-2);
  const n = transposed ? bRows : bColumns;
  const fits =
    a.shape.length >= 2 && b.shape.length === a.shape.length && (transposed ? bColumns : bRows) === k && lead.every((size, axis) => b.shape[axis] === size || b.shape[axis] === 1);
  if (!fits) {
    const expected = [...lead.map((size) => `${size} or 1`), ...(transposed ? ['n', k] : [k, 'n'])];
    throw new AttentionError('invalid-shape', `matmul got [${a.shape.join(', ')}] and [${b.shape.join(', ')}].`, `Expected ${a.shape.length < 2 ? 'ranks of 2 or more' : `the second to be [${expected.join(', ')}]`}.`);
  }
  return { lead, sizes: { matrices: elementCount(lead), m, k, n } };
}

/** Which matrix of b goes with each of a, where axes of size 1 repeat. */
function sharedMatrices(lead: readonly number[], bShape: readonly number[]): Int32Array {
  const result = new Int32Array(elementCount(lead));
  for (let matrix = 0; matrix < result.length; matrix += 1) {
    let rest = matrix;
    let index = 0;
    let step = 1;
    for (let axis = lead.length - 1; axis >= 0; axis -= 1) {
      const size = lead[axis] ?? 1;
      const own = bShape[axis] ?? 1;
      if (own !== 1) index += (rest % size) * step;
      rest = Math.floor(rest / size);
      step *= own;
    }
    result[matrix] = index;
  }
  return result;
}
