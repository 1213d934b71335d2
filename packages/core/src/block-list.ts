import type { Tensor } from './tensor.ts';

/**
 * Which tiles of the query × key plane are computed: allowed = listed ∧ mask.
 * Query tile t of (batch, head) sees the key tiles `indices[batch, head, t, 0 … counts[batch, head, t] − 1]`, ascending and each once; what lies past the count means nothing.
 */
export interface BlockList {
  /** Rows in a query tile and keys in a key tile. The last tiles may be short. */
  readonly blockQuery: number;
  readonly blockKey: number;
  /** i32 [batch | 1, heads | 1, queryTiles]; a size of 1 is shared. May live on a device. */
  readonly counts: Tensor;
  /** i32 [batch | 1, heads | 1, queryTiles, capacity]. */
  readonly indices: Tensor;
  /** u8 like `indices`: 1 where every pair of the tile is allowed, so no mask code runs. Default: none is known to be full. */
  readonly full?: Tensor;
  /**
   * Query rows gathered into tiles, i32 [batch | 1, heads | 1, queryTiles, blockQuery], −1 where a tile is short. A row that stands in several
   * tiles is merged over them (L13), so its key sets must be disjoint. Default: tile t holds rows t · blockQuery ….
   */
  readonly queryRows?: Tensor;
}

/** What a tile's mask says: no pair, every pair, or some. */
export type TileClass = 'empty' | 'full' | 'mixed';
