import { bigBirdBlocks, fixed, globalTables, gridNeighbourhood, longformer, pictureOfBlocks, picturesOfBlocks, streaming } from '../src/index.ts';

/** The picture `docs/patterns.svg`: 256 queries and as many keys, in tiles of 8 × 8. */
export function fivePatterns(): string {
  const length = 256;
  const plane = { queryLength: length, keyLength: length, blockQuery: 8, blockKey: 8 };
  const lists = {
    'sinks and window': streaming({ sinks: 4, left: 63 }).blocks(plane),
    'fixed (Child)': fixed({ stride: 32, summary: 4 }).blocks(plane),
    Longformer: longformer({ left: 24, right: 24 }).blocks({ ...plane, tables: globalTables([0, 100], length) }),
    BigBird: bigBirdBlocks({ length }, { block: 8, seed: 1 }),
    '16 × 16 neighbourhood': gridNeighbourhood({ shape: [16, 16], kernel: 5 }).blocks(plane),
  };
  return picturesOfBlocks(Object.entries(lists).map(([title, list]) => pictureOfBlocks(list, { title, keyTiles: length / 8 })));
}
