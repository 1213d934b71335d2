import { AttentionError } from '../../errors.ts';
import type { Dense } from './dense.ts';
import { checkShape } from './dense.ts';

/** a [… , m, k] · b [… , k, n], or b [… , n, k] when transposed, + bias [n]; a leading axis of b may be 1 and repeats. */
export function matmul(a: Dense, b: Dense, transposed: boolean, bias: Dense | null): Dense {
  const rank = a.shape.length;
  const lead = a.shape.slice(0, -2);
  const [m = 0, k = 0] = a.shape.slice(-2);
  const [bRows = 0, bColumns = 0] = b.shape.slice(-2);
  const n = transposed ? bRows : bColumns;
  const fits = rank >= 2 && b.shape.length === rank && (transposed ? bColumns : bRows) === k && lead.every((size, axis) => b.shape[axis] === size || b.shape[axis] === 1);
  if (!fits) {
    const expected = [...lead.map((size) => `${size} or 1`), ...(transposed ? ['n', k] : [k, 'n'])];
    throw new AttentionError('invalid-shape', `matmul got [${a.shape.join(', ')}] and [${b.shape.join(', ')}].`, `Expected ${rank < 2 ? 'ranks of 2 or more' : `the second to be [${expected.join(', ')}]`}.`);
  }
  if (bias !== null) checkShape('matmul’s bias', bias, [n]);
  const matrices = lead.reduce((product, size) => product * size, 1);
  const result = new Float64Array(matrices * m * n);
  for (let matrix = 0; matrix < matrices; matrix++) {
    const aStart = matrix * m * k;
    const bStart = sharedIndex(matrix, lead, b.shape) * k * n;
    for (let row = 0; row < m; row++) {
      for (let column = 0; column < n; column++) {
        let sum = bias?.data[column] ?? 0;
        for (let inner = 0; inner < k; inner++) {
          sum += (a.data[aStart + row * k + inner] ?? 0) * (b.data[bStart + (transposed ? column * k + inner : inner * n + column)] ?? 0);
        }
        result[(matrix * m + row) * n + column] = sum;
      }
    }
  }
  return { data: result, shape: [...lead, m, n] };
}

/** Which matrix of b goes with one of a, where axes of size 1 repeat. */
function sharedIndex(matrix: number, lead: readonly number[], bShape: readonly number[]): number {
  let rest = matrix;
  let index = 0;
  let step = 1;
  for (let axis = lead.length - 1; axis >= 0; axis--) {
    const size = lead[axis] ?? 1;
    const own = bShape[axis] ?? 1;
    if (own !== 1) index += (rest % size) * step;
    rest = Math.floor(rest / size);
    step *= own;
  }
  return index;
}
