import type { Term } from '../../expression/build.ts';
import { AttentionError } from '../../errors.ts';
import { show } from '../../show.ts';
import { atLeast, given, requireInteger } from '../arguments.ts';
import type { Masking } from './stage.ts';
import { full, mask } from './stage.ts';

export interface NeighbourhoodOptions {
  /** Size of the grid, slowest axis first: [length], [height, width] or [depth, height, width]. Positions count its cells row by row. */
  readonly shape: readonly number[];
  /** Keys along each axis, one number for all or one for each. Odd, except on causal axes; kernel · dilation is at most the axis. */
  readonly kernel: number | readonly number[];
  /** Cells from one key to the next, one number for all axes or one for each. Default 1. */
  readonly dilation?: number | readonly number[];
  /** Along a causal axis a query sees itself and the keys before it, fewer at the beginning. One answer for all axes or one for each. Default false. */
  readonly causal?: boolean | readonly boolean[];
}

/**
 * Neighbourhood attention on a grid (Hassani 2022; dilated: Hassani & Shi 2022). At an edge the window is shifted, not cut, so every query sees kernel keys along each
 * axis: start = clamp(i − ⌊kernel/2⌋, 0, N − kernel), keys start … start + kernel − 1. With a dilation the same holds among the cells of equal rest. Sizes are uniforms
 * `neighbourhood.size`, `.stride`, `.kernel`, `.dilation` of each axis. Positions outside the grid see and are seen as the arithmetic has it: mask padding besides.
 *
 * @throws AttentionError `invalid-argument`
 */
export function neighbourhood(options: NeighbourhoodOptions): Masking {
  const { shape, kernel: kernels, dilation: dilations, causal: directions = false } = given(options);
  const sizes: unknown = shape;
  if (!Array.isArray(sizes) || sizes.length === 0) throw new AttentionError('invalid-argument', `neighbourhood got the shape ${show(shape)}.`, 'Expected a list of sizes, at least one.');
  const kernel = spread('kernel', kernels, shape.length);
  const dilation = dilations === undefined ? undefined : spread('dilation', dilations, shape.length);
  const causal = spread('causal', directions, shape.length);
  // Cells that one step along an axis skips.
  let stride = shape.reduce((product, size) => product * size, 1);
  return shape.reduce<Masking>((masking, size, axis) => {
    stride /= size;
    return masking.and(axisMask({ size, stride, kernel: kernel[axis] ?? 1, dilation: dilation?.[axis], causal: causal[axis] ?? false, first: axis === 0, last: axis === shape.length - 1 }));
  }, full());
}

interface GridAxis {
  readonly size: number;
  readonly stride: number;
  readonly kernel: number;
  readonly dilation: number | undefined;
  readonly causal: boolean;
  /** The slowest axis needs no rest, the fastest no quotient. */
  readonly first: boolean;
  readonly last: boolean;
}

function axisMask(axis: GridAxis): Masking {
  const { size, stride, kernel, dilation, causal, first, last } = axis;
  requireInteger('neighbourhood', 'size', size, 1);
  requireInteger('neighbourhood', 'kernel', kernel, 1);
  if (dilation !== undefined) requireInteger('neighbourhood', 'dilation', dilation, 1);
  if (kernel * (dilation ?? 1) > size || (!causal && kernel % 2 === 0)) {
    throw new AttentionError('invalid-argument', `neighbourhood got kernel ${kernel} and dilation ${dilation ?? 1} on an axis of ${size}.`, 'Expected an odd kernel with kernel · dilation of at most the axis.');
  }
  return mask('neighbourhood', ({ queryPosition, keyPosition, uniform }) => {
    const length = uniform('size', size, 'i32', atLeast(1));
    const coordinate = (position: Term<'i32'>): Term<'i32'> => {
      const cell = last ? position : position.floorDiv(uniform('stride', stride, 'i32', atLeast(1)));
      return first ? cell : cell.mod(length);
    };
    const width = uniform('kernel', kernel, 'i32', atLeast(1));
    const query = coordinate(queryPosition);
    const key = coordinate(keyPosition);
    if (dilation === undefined) return inWindow(query, key, length, width, causal);
    const step = uniform('dilation', dilation, 'i32', atLeast(1));
    const rest = query.mod(step);
    // Cells of the query's rest: ⌈(length − rest) / step⌉.
    const cells = length.sub(rest).add(step).sub(1).floorDiv(step);
    return rest.eq(key.mod(step)).and(inWindow(query.floorDiv(step), key.floorDiv(step), cells, width, causal));
  });
}

function inWindow(query: Term<'i32'>, key: Term<'i32'>, length: Term<'i32'>, kernel: Term<'i32'>, causal: boolean): Term<'bool'> {
  if (causal) return key.le(query).and(query.sub(key).lt(kernel));
  const start = query.sub(kernel.floorDiv(2)).min(length.sub(kernel)).max(0);
  const offset = key.sub(start);
  return offset.ge(0).and(offset.lt(kernel));
}

function spread<T extends number | boolean>(name: string, given: T | readonly T[], axes: number): readonly T[] {
  const list = typeof given === 'object' ? given : Array.from({ length: axes }, () => given);
  if (list.length !== axes) throw new AttentionError('invalid-argument', `neighbourhood got ${list.length} entries of ${name} for ${axes} axes.`, 'Give one, or one for each axis.');
  return list;
}
