import type { Integers } from '@heed/core';
import type { Temporaries } from '../temporaries.ts';
import type { QueryRows } from './attend.ts';
import { wholeRows, type RowSlice } from './projections.ts';

/** Rows first … first + count − 1 of every sequence of a call. */
export interface Piece {
  readonly first: number;
  readonly count: number;
}

/** Pieces of at most `chunk` rows, in order. */
export function piecesOf(length: number, chunk: number): readonly Piece[] {
  if (length <= chunk) return [{ first: 0, count: length }];
  return Array.from({ length: Math.ceil(length / chunk) }, (_, index) => ({ first: index * chunk, count: Math.min(chunk, length - index * chunk) }));
}

/** Rows of a piece that count. */
export function pieceLengths(lengths: Integers | undefined, { first, count }: Piece): readonly number[] | undefined {
  return lengths === undefined ? undefined : Array.from(lengths, (length) => Math.max(0, Math.min(count, length - first)));
}

/** The query rows of a piece: those given where it is all of them, else a copy. */
export function queryPiece(temporaries: Temporaries, query: QueryRows, { first, count }: Piece, lengths: readonly number[] | undefined): QueryRows {
  const { batch, length, rows, gate, positions } = query;
  if (count === length) return query;
  const { runtime } = temporaries;
  const taken = ({ rows: from, start, width }: RowSlice): RowSlice => {
    const all = from.shape[1] ?? 0;
    const dense = temporaries.keep(runtime.operations.copy(runtime.view(from, [batch, count, width], [length * all, all, 1], first * all + start)));
    return wholeRows(runtime.view(dense, [batch * count, width]));
  };
  // A cache's positions follow one another, so they are given by the first of each sequence.
  const moved = 'dtype' in positions ? positions : positions.map((position) => position + first);
  return { ...query, rows: taken(rows), length: count, positions: moved, lengths, ...(gate === undefined ? {} : { gate: taken(gate) }) };
}
