/**
 * Weighted sums of values: the weights of a tile stand in workgroup memory, and every lane brings its own quads of channels together, for all rows of its team.
 * Values are read from storage: neighbouring lanes read neighbouring channels of one row, and the other teams find them in the caches.
 */
import type { AttentionRequest } from '@heed/core';
import type { Plan } from '../plan.ts';
import type { RowEnd } from './finish.ts';
import type { KernelBody } from './module.ts';
import { forBothTiles, forRows, orEmpty, range } from './pairwise.ts';

/** Vectors of output channels that a lane holds for each row. */
export function partsOf({ tile, valueDim }: Plan): number {
  return Math.ceil(Math.ceil(valueDim / 4) / tile.lanes);
}

/** What stands for the channels lane, lane + lanes, … (in quads) of each row of the team. */
export function writeAccumulators({ writer }: KernelBody, plan: Plan): void {
  writer.line(`var accumulator: array<vec4<f32>, ${plan.tile.rows * partsOf(plan)}>;  // [row][part]: quad part · lanes + lane of the row’s output`);
}

/** True where the values of a mixed tile need a guard: a value that some rows may not see must not reach them as 0 · NaN (L10). */
export function needsGuard({ variant }: AttentionRequest): boolean {
  return variant.masking.allowed.kind !== 'constant';
}

/** What kernels that aggregate declare. */
export function guardDeclaration(request: AttentionRequest): readonly string[] {
  return needsGuard(request) ? ['', guard] : [];
}

const guard = `// Numbers that are not finite as 0: a weight of 0 brings nothing, whatever stands in the value (L10).
fn finiteQuad(value: vec4<f32>) -> vec4<f32> {
  let exponents = bitcast<vec4<u32>>(value) & vec4<u32>(0x7f800000u);
  return select(value, vec4<f32>(0.0f), exponents == vec4<u32>(0x7f800000u));
}`;

/** Adds the tile's weights times its values. */
export function writeAggregate(kernel: KernelBody, request: AttentionRequest, plan: Plan): void {
  if (!needsGuard(request)) writeTileValues(kernel, plan, { clamped: true, guarded: false });
  else forBothTiles(kernel, (mixed) => { writeTileValues(kernel, plan, { clamped: mixed, guarded: mixed }); });
}

/** @param clamped the tile may end after the keys do */
function writeTileValues({ writer }: KernelBody, plan: Plan, { clamped, guarded }: { readonly clamped: boolean; readonly guarded: boolean }): void {
  const { tile, valueDim } = plan;
  const quads = Math.ceil(valueDim / 4);
  const parts = partsOf(plan);
  const slots = range(tile.rows);
  writer.block('for (var quad = 0u; quad < lanes; quad++)', () => {
    for (const key of range(4)) {
      const place = `first + i32(quad${key === 0 ? '' : key === 1 ? ' + lanes' : ` + ${key}u * lanes`})`;
      writer.line(`let key${key} = firstKeyRow + u32(${clamped ? `min(${place}, end - 1)` : place});`);
    }
    for (const row of slots) writer.line(`let weights${row} = tile[pairAt(${row}u * teams + team, quad)];`);
    for (const part of range(parts)) {
      const own = part === 0 ? 'lane' : `lane + ${part}u * lanes`;
      const channels = quads % tile.lanes === 0 ? own : `min(${own}, ${quads - 1}u)`;
      const read = (key: number): string => (guarded ? `finiteQuad(valueQuad(key${key}, ${channels}))` : `valueQuad(key${key}, ${channels})`);
      const values = parts === 1 ? 'values' : `values${part}`;
      writer.line(`let ${values} = mat4x4<f32>(${range(4).map(read).join(', ')});`);
      for (const row of slots) writer.line(`accumulator[${row * parts + part}] += ${values} * weights${row};`);
    }
  });
}

/**
 * Writes every row of the block, through workgroup memory: a lane finds its own channels there again. `end` writes statements
 * for a row and says what its elements are multiplied by; the statistics of the row are its affair too, once, where `part` is 0.
 */
export function writeRows(kernel: KernelBody, { variant }: AttentionRequest, plan: Plan, end: (part: number) => RowEnd): void {
  const { writer, lowering } = kernel;
  const { tile, valueDim } = plan;
  const parts = partsOf(plan);
  for (const part of range(parts)) {
    for (const row of range(tile.rows)) writer.line(`tile[pairAt(${row}u * teams + team, lane)] = accumulator[${row * parts + part}];`);
    forRows(kernel, () => {
      writer.block('if (slot < rowCount)', () => {
        const { factor, empty } = end(part);
        writer.block('for (var turn = 0u; turn < 4u; turn++)', () => {
          writer.line(`let channel = i32(4u * (${part === 0 ? 'lane' : `lane + ${part}u * lanes`}) + turn);`);
          writer.block(`if (channel < ${valueDim}i)`, () => {
            writer.line(`let aggregated = tile[pairAt(slot, lane)][turn]${factor === null ? '' : ` * ${factor}`};`);
            const finished = plan.partial ? 'aggregated' : lowering().lower(variant.aggregation.finish);
            writer.line(`output[queryRow * ${valueDim}u + u32(channel)] = ${orEmpty(finished, '0u', empty)};`);
          });
        });
      });
    });
  }
}
