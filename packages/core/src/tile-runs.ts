import type { HostBlockList } from './block-list.ts';
import { tensor } from './tensor.ts';
import type { TileSizes } from './tiles.ts';

/** Numbers of a run: row, first key tile, end, class. */
const words = 4;

/** Runs of key tiles, collected for rows of query tiles; a row's runs come by ascending keys. Memory follows the runs. */
export class TileRuns {
  #runs = new Int32Array(1024);
  #length = 0;

  /** Key tiles from … to − 1 of a row; `found` is 1 for mixed, 2 for full. */
  push(row: number, from: number, to: number, found: number): void {
    if (this.#length + words > this.#runs.length) {
      const longer = new Int32Array(this.#runs.length * 2);
      longer.set(this.#runs);
      this.#runs = longer;
    }
    const runs = this.#runs;
    runs[this.#length] = row;
    runs[this.#length + 1] = from;
    runs[this.#length + 2] = to;
    runs[this.#length + 3] = found;
    this.#length += words;
  }

  /** @param lead batch, heads, query tiles: as many rows as their product */
  list({ blockQuery, blockKey }: TileSizes, lead: readonly [number, number, number]): HostBlockList {
    const counts = new Int32Array(lead[0] * lead[1] * lead[2]);
    this.#each((row, from, to) => (counts[row] = (counts[row] ?? 0) + to - from));
    // One place at least, so that a device never meets an empty tensor.
    const capacity = counts.reduce((most, count) => Math.max(most, count), 1);
    const indices = new Int32Array(counts.length * capacity);
    const full = new Uint8Array(counts.length * capacity);
    const filled = new Int32Array(counts.length);
    this.#each((row, from, to, found) => {
      let place = row * capacity + (filled[row] ?? 0);
      for (let tile = from; tile < to; tile++, place++) {
        indices[place] = tile;
        full[place] = Number(found === 2);
      }
      filled[row] = (filled[row] ?? 0) + to - from;
    });
    return { blockQuery, blockKey, counts: tensor(counts, lead), indices: tensor(indices, [...lead, capacity]), full: tensor(full, [...lead, capacity]) };
  }

  #each(use: (row: number, from: number, to: number, found: number) => void): void {
    const runs = this.#runs;
    for (let at = 0; at < this.#length; at += words) use(runs[at] ?? 0, runs[at + 1] ?? 0, runs[at + 2] ?? 0, runs[at + 3] ?? 0);
  }
}
