import { AttentionError, elementCount, type DType, type Tensor } from '@heed/core';
import type { WgslWriter } from '../wgsl/writer.ts';
import { checkShape, type GroupShader, type OperationCall } from './context.ts';

export interface MatmulOptions {
  readonly transposed?: boolean;
  readonly bias?: Tensor;
  readonly dtype?: DType;
}

/** How a product is cut into workgroups. Plain data: equal plans give equal text. */
interface MatmulPlan {
  /**
   * tiles: a workgroup makes a square of the product, from squares of both matrices in workgroup memory, each invocation a smaller square in registers.
   * rows: for products of few rows; a workgroup makes some columns of one row, several invocations sharing the terms of each.
   */
  readonly path: 'tiles' | 'rows';
  readonly transposed: boolean;
  readonly bias: boolean;
}

/** Rows and columns of a tile, its width along k, and of the square that one invocation holds. */
const [tile, tileInner, square] = [64, 16, 4];
const tileLanes = (tile / square) ** 2;

/** Below this tiles would be mostly empty. */
const fewRows = 8;

/** a [… , m, k] · b [… , k, n], or [… , n, k] when transposed, + bias [n]. */
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
  const plan: MatmulPlan = { path: m <= fewRows ? 'rows' : 'tiles', transposed, bias: bias !== undefined };
  const map = Int32Array.from({ length: elementCount(lead) }, (_, matrix) => sharedMatrix(matrix, lead, b.shape));
  const matrices = call.runtime.uploadWords(map);
  const reads = [call.dense(a), call.dense(b), matrices, ...(bias === undefined ? [] : [call.dense(bias)])];
  // A matrix of the product is a unit; where there is one alone, its rows are.
  const alone = map.length === 1;
  const step = alone ? 1 : m;
  const units = { count: alone ? m : map.length, reads: [4 * step * k, 0, alone ? 0 : 4, ...(bias === undefined ? [] : [0])], result: 4 * step * n };
  const groupsOf = plan.path === 'tiles' ? (rows: number) => Math.ceil(rows / tile) * Math.ceil(n / tile) : (rows: number) => rows * Math.ceil(n / columnsOf(plan));
  const result = call.store([...lead, m, n], dtype, (target) => {
    call.runUnits(shader(plan), units, (part) => (alone ? groupsOf(part) : part * groupsOf(m)), (part) => [alone ? part : m, k, n], reads, target);
  });
  call.runtime.releaseBuffer(matrices);
  return result;
}

function shader(plan: MatmulPlan): GroupShader {
  const { path, transposed, bias } = plan;
  const common = {
    name: `matmul by ${path}${transposed ? ', b transposed' : ''}${bias ? ', bias' : ''}`,
    reads: { a: 'f32', b: 'f32', matrices: 'i32', ...(bias ? { bias: 'f32' as const } : {}) },
    result: 'f32',
    fields: [['m', 'u32'], ['k', 'u32'], ['n', 'u32']],
  } as const;
  if (path === 'rows') return { ...common, lanes: rowLanes, shared: [`shares: array<f32, ${rowLanes}>`], body: (writer) => { writeRows(writer, plan); } };
  const shared = [`left: array<f32, ${tile * tileInner}>`, `right: array<f32, ${tile * tileInner}>`];
  return { ...common, lanes: tileLanes, shared, body: (writer) => { writeTiles(writer, plan); } };
}

/** Where element (inner, column) of the matrix of b begins, given that of the matrix in `origin`. */
function placeInB({ transposed }: MatmulPlan, inner: string, column: string): string {
  return transposed ? `origin + ${column} * parameters.k + ${inner}` : `origin + ${inner} * parameters.n + ${column}`;
}

/** left holds [tileInner, tile] of a turned, right [tileInner, tile] of b, so that an invocation reads neighbours. */
function writeTiles(writer: WgslWriter, plan: MatmulPlan): void {
  const perLane = (tile * tileInner) / tileLanes;
  writer.line(
    `let tileColumns = (parameters.n + ${tile - 1}u) / ${tile}u;`,
    `let tilesOfMatrix = (parameters.m + ${tile - 1}u) / ${tile}u * tileColumns;`,
    'let matrix = group / tilesOfMatrix;',
    'let origin = u32(matrices[matrix]) * parameters.k * parameters.n;',
    `let firstRow = group % tilesOfMatrix / tileColumns * ${tile}u;`,
    `let firstColumn = group % tileColumns * ${tile}u;`,
    `let ownRow = local / ${tile / square}u * ${square}u;`,
    `let ownColumn = local % ${tile / square}u * ${square}u;`,
    `var sums: array<vec${square}<f32>, ${square}>;`,
  );
  writer.block(`for (var first = 0u; first < parameters.k; first += ${tileInner}u)`, () => {
    writer.line('workgroupBarrier();');
    writer.block(`for (var part = 0u; part < ${perLane}u; part++)`, () => {
      writer.line(`let place = part * ${tileLanes}u + local;`);
      // Neighbouring lanes read neighbouring elements of a, and of b either way.
      writer.line(`let row = firstRow + place / ${tileInner}u;`, `let inner = first + place % ${tileInner}u;`);
      writer.line(`left[place % ${tileInner}u * ${tile}u + place / ${tileInner}u] = select(0.0f, a[(matrix * parameters.m + min(row, parameters.m - 1u)) * parameters.k + min(inner, parameters.k - 1u)], row < parameters.m && inner < parameters.k);`);
      const [column, innerOfB] = plan.transposed ? [`place / ${tileInner}u`, `place % ${tileInner}u`] : [`place % ${tile}u`, `place / ${tile}u`];
      writer.line(`let column = firstColumn + ${column};`, `let innerOfB = first + ${innerOfB};`);
      writer.line(`right[${innerOfB.includes('%') ? `(${innerOfB})` : innerOfB} * ${tile}u + ${column}] = select(0.0f, b[${placeInB(plan, 'min(innerOfB, parameters.k - 1u)', 'min(column, parameters.n - 1u)')}], column < parameters.n && innerOfB < parameters.k);`);
    });
    writer.line('workgroupBarrier();');
    writer.block(`for (var inner = 0u; inner < ${tileInner}u; inner++)`, () => {
      writer.line(`let lefts = inner * ${tile}u + ownRow;`, `let rights = inner * ${tile}u + ownColumn;`);
      writer.line(`let columns = vec${square}<f32>(${['0', '1', '2', '3'].map((column) => `right[rights + ${column}u]`).join(', ')});`);
      writer.block(`for (var row = 0u; row < ${square}u; row++)`, () => writer.line('sums[row] = fma(vec4<f32>(left[lefts + row]), columns, sums[row]);'));
    });
  });
  writer.block(`for (var row = 0u; row < ${square}u; row++)`, () => {
    writer.line('let at = firstRow + ownRow + row;', 'let sum = sums[row];');
    writer.block(`for (var index = 0u; index < ${square}u; index++)`, () => {
      writer.line('let column = firstColumn + ownColumn + index;');
      writer.block('if (at < parameters.m && column < parameters.n)', () => writer.line(`result[(matrix * parameters.m + at) * parameters.n + column] = sum[index]${plan.bias ? ' + bias[column]' : ''};`));
    });
  });
}

const rowLanes = 64;

/** Columns of one workgroup of the path `rows`: neighbouring lanes read neighbouring elements of b. */
function columnsOf({ transposed }: MatmulPlan): number {
  return transposed ? 4 : 16;
}

function writeRows(writer: WgslWriter, plan: MatmulPlan): void {
  const columns = columnsOf(plan);
  const parts = rowLanes / columns;
  writer.line(
    `let groupsOfRow = (parameters.n + ${columns - 1}u) / ${columns}u;`,
    'let row = group / groupsOfRow;',
    'let origin = u32(matrices[row / parameters.m]) * parameters.k * parameters.n;',
    // Lanes of one column stand side by side where its terms do.
    plan.transposed ? `let own = local / ${parts}u;` : `let own = local % ${columns}u;`,
    plan.transposed ? `let part = local % ${parts}u;` : `let part = local / ${columns}u;`,
    `let column = group % groupsOfRow * ${columns}u + own;`,
    'let readable = min(column, parameters.n - 1u);',
    'var sum = 0.0f;',
  );
  writer.block(`for (var inner = part; inner < parameters.k; inner += ${parts}u)`, () => writer.line(`sum = fma(a[row * parameters.k + inner], b[${placeInB(plan, 'inner', 'readable')}], sum);`));
  writer.line(`shares[part * ${columns}u + own] = sum;`);
  writer.block(`for (var step = ${parts / 2}u; step > 0u; step /= 2u)`, () => {
    writer.line('workgroupBarrier();');
    writer.block('if (part < step)', () => writer.line(`shares[part * ${columns}u + own] += shares[(part + step) * ${columns}u + own];`));
  });
  writer.block('if (part == 0u && column < parameters.n)', () => writer.line(`result[row * parameters.n + column] = shares[own]${plan.bias ? ' + bias[column]' : ''};`));
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
