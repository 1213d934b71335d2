import { AttentionError } from '@heed/core';
import type { HostBlockList } from '@heed/core/compute';
import { randomAt, TileRuns } from '@heed/core/compute';
import { splitLongTiles } from '../split.ts';

export interface BigBirdOptions {
  /** Rows and keys of a block. Default 64. */
  readonly block?: number;
  /** Blocks on each side of a query's own that it sees. Default 1. */
  readonly window?: number;
  /** First and last blocks that see everything and are seen by everything: `global` at each end. Default 1. */
  readonly global?: number;
  /** Further blocks of a query block, drawn without repetition from those that it does not see yet. Default 3. */
  readonly random?: number;
  /** Of the draws. Default 0. */
  readonly seed?: number;
}

export interface BigBirdPlane {
  /** Rows of queries and keys: attention of a sequence to itself. */
  readonly length: number;
  /** Heads that draw for themselves. Default 1: all heads share one draw, as a layer of the reference does. */
  readonly heads?: number;
}

/**
 * The blocks of BigBird (Zaheer 2020, section 2): window, global and random blocks. The list is the whole meaning, so the variant needs no mask; it is not causal. Draws are keyed by (seed, head,
 * query block), so that length alone decides how many there are to draw from.
 *
 * The few query blocks that see everything stand in the list in pieces, so that memory follows the listed blocks.
 *
 * @throws AttentionError `invalid-argument`
 */
export function bigBirdBlocks({ length, heads = 1 }: BigBirdPlane, options: BigBirdOptions = {}): HostBlockList {
  const { block = 64, window = 1, global = 1, random = 3, seed = 0 } = options;
  for (const [name, size, least] of [['length', length, 0], ['heads', heads, 1], ['block', block, 1], ['window', window, 0], ['global', global, 0], ['random', random, 0]] as const) {
    if (!Number.isSafeInteger(size) || size < least) throw new AttentionError('invalid-argument', `bigBirdBlocks got ${name} ${size}.`, `Expected an integer of ${least} or more.`);
  }
  const blocks = Math.ceil(length / block);
  const runs = new TileRuns();
  for (let head = 0; head < heads; head++) {
    for (let own = 0; own < blocks; own++) {
      const row = head * blocks + own;
      const isGlobal = own < global || own >= blocks - global;
      const chosen = isGlobal ? range(0, blocks) : seenBy(own, blocks, { window, global, random }, (draw) => randomAt(seed, 0, 0, head, own, draw));
      for (const tile of chosen) runs.push(row, tile, tile + 1, length % block > 0 && tile === blocks - 1 ? 1 : 2);
    }
  }
  const list: HostBlockList = runs.list({ blockQuery: block, blockKey: block }, [1, heads, blocks]);
  return splitLongTiles(list, length);
}

/** Blocks that an ordinary query block sees, ascending. */
function seenBy(own: number, blocks: number, { window, global, random }: Required<Pick<BigBirdOptions, 'window' | 'global' | 'random'>>, draw: (count: number) => number): readonly number[] {
  const seen = new Set([...range(0, Math.min(global, blocks)), ...range(Math.max(0, blocks - global), blocks), ...range(Math.max(0, own - window), Math.min(blocks, own + window + 1))]);
  const wanted = Math.min(blocks, seen.size + random);
  // Draws of what is seen already are passed over: few blocks are seen, so few are.
  for (let count = 0; seen.size < wanted; count++) seen.add(Math.floor(draw(count) * blocks));
  return [...seen].sort((a, b) => a - b);
}

function range(from: number, to: number): readonly number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, index) => from + index);
}
