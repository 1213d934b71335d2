import { AttentionError } from './errors.ts';
import type { HostTensor, Tensor } from './tensor.ts';
import { isHostTensor, tensor, toFloat64, zeros } from './tensor.ts';
import type { TileClasses, TileSizes } from './tiles.ts';
import type { PlaneSizes } from './validate/block-list.ts';
import { checkBlockList } from './validate/block-list.ts';

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

/** A block list that the host can see. */
export interface HostBlockList extends BlockList {
  readonly counts: HostTensor;
  readonly indices: HostTensor;
  readonly full: HostTensor;
}

/** The tiles that are not empty, those that are full marked so. Gives the mask's own result when used beside it, and visits less. */
export function blockListFromClasses({ blockQuery, blockKey, shape, classes }: TileClasses): HostBlockList {
  const [batch, heads, queryTiles, keyTiles] = shape;
  const rows = batch * heads * queryTiles;
  const counts = new Int32Array(rows);
  for (let row = 0; row < rows; row++) counts[row] = classes.subarray(row * keyTiles, (row + 1) * keyTiles).reduce((count, found) => count + Number(found > 0), 0);
  // One place at least, so that a device never meets an empty tensor.
  const capacity = counts.reduce((most, count) => Math.max(most, count), 1);
  const indices = new Int32Array(rows * capacity);
  const full = new Uint8Array(rows * capacity);
  for (let row = 0; row < rows; row++) {
    let place = row * capacity;
    for (let tile = 0; tile < keyTiles; tile++) {
      const found = classes[row * keyTiles + tile] ?? 0;
      if (found === 0) continue;
      indices[place] = tile;
      full[place] = Number(found === 2);
      place++;
    }
  }
  const lead = [batch, heads, queryTiles];
  return { blockQuery, blockKey, counts: tensor(counts, lead), indices: tensor(indices, [...lead, capacity]), full: tensor(full, [...lead, capacity]) };
}

/**
 * The tiles of a dense mask that hold an allowed pair. Tiles that are not full still need the mask itself.
 *
 * @param mask u8 [batch | 1, heads | 1, queryLength, keyLength], 1 = may attend
 * @throws AttentionError `invalid-blocks`
 */
export function blockListFromMask(mask: HostTensor, { blockQuery, blockKey }: TileSizes): HostBlockList {
  const [batch = 0, heads = 0, queryRows = 0, keyRows = 0] = mask.shape;
  if (mask.shape.length !== 4 || mask.dtype !== 'u8') {
    throw new AttentionError('invalid-blocks', `The mask is ${mask.dtype} [${mask.shape.join(', ')}].`, 'Expected u8 [batch or 1, heads or 1, queryLength, keyLength].');
  }
  if (![blockQuery, blockKey].every((size) => Number.isSafeInteger(size) && size > 0)) {
    throw new AttentionError('invalid-blocks', `Got tiles of ${blockQuery} × ${blockKey}.`, 'Expected integers of 1 or more.');
  }
  const queryTiles = Math.ceil(queryRows / blockQuery);
  const keyTiles = Math.ceil(keyRows / blockKey);
  const pairs = toFloat64(mask);
  const classes = new Uint8Array(batch * heads * queryTiles * keyTiles);
  for (let tile = 0; tile < classes.length; tile++) {
    const plane = Math.floor(tile / (queryTiles * keyTiles)) * queryRows * keyRows;
    const queryStart = (Math.floor(tile / keyTiles) % queryTiles) * blockQuery;
    const keyStart = (tile % keyTiles) * blockKey;
    let some = false;
    let all = true;
    for (let query = queryStart; query < Math.min(queryStart + blockQuery, queryRows); query++) {
      for (let key = keyStart; key < Math.min(keyStart + blockKey, keyRows); key++) {
        const isAllowed = pairs[plane + query * keyRows + key] !== 0;
        some ||= isAllowed;
        all &&= isAllowed;
      }
    }
    classes[tile] = all ? 2 : Number(some);
  }
  return blockListFromClasses({ blockQuery, blockKey, shape: [batch, heads, queryTiles, keyTiles], classes });
}

/**
 * The listed pairs as a dense mask: for tests and for looking at.
 * @returns u8 [batch | 1, heads | 1, queryRows, keyRows]
 * @throws AttentionError `invalid-blocks`
 */
export function blockListToMask(list: BlockList, sizes: PlaneSizes): HostTensor {
  checkBlockList(list, sizes);
  const { counts, indices, queryRows: gathered } = onHost(list);
  const [batch = 0, heads = 0, queryTiles = 0, capacity = 0] = indices.shape;
  const count = toFloat64(counts);
  const index = toFloat64(indices);
  const rows = gathered === null ? null : toFloat64(gathered);
  const mask = zeros([batch, heads, sizes.queryRows, sizes.keyRows], 'u8');
  const pairs = mask.view();
  for (let tile = 0; tile < batch * heads * queryTiles; tile++) {
    const plane = Math.floor(tile / queryTiles) * sizes.queryRows;
    for (let place = 0; place < list.blockQuery; place++) {
      const row = rows === null ? (tile % queryTiles) * list.blockQuery + place : (rows[tile * list.blockQuery + place] ?? -1);
      if (row < 0 || row >= sizes.queryRows) continue;
      for (let listed = 0; listed < (count[tile] ?? 0); listed++) {
        const start = (index[tile * capacity + listed] ?? 0) * list.blockKey;
        const base = (plane + row) * sizes.keyRows;
        pairs.fill(1, base + start, base + Math.min(start + list.blockKey, sizes.keyRows));
      }
    }
  }
  return mask;
}

/** Tiles that one of two lists has; full where one says so. @throws AttentionError `invalid-blocks` for lists of other tiles, gathered rows or a device */
export function uniteBlockLists(a: BlockList, b: BlockList): HostBlockList {
  return combine(a, b, Math.max);
}

/** Tiles that both lists have; full where both say so. @throws AttentionError `invalid-blocks` for lists of other tiles, gathered rows or a device */
export function intersectBlockLists(a: BlockList, b: BlockList): HostBlockList {
  return combine(a, b, Math.min);
}

function combine(a: BlockList, b: BlockList, choose: (a: number, b: number) => number): HostBlockList {
  const [left, right] = [onHost(a), onHost(b)];
  const [batchA = 0, headsA = 0, tilesA = 0] = a.counts.shape;
  const [batchB = 0, headsB = 0, tilesB = 0] = b.counts.shape;
  const shared = (sizeA: number, sizeB: number): boolean => sizeA === sizeB || sizeA === 1 || sizeB === 1;
  const fits = a.blockQuery === b.blockQuery && a.blockKey === b.blockKey && tilesA === tilesB && shared(batchA, batchB) && shared(headsA, headsB);
  if (!fits || left.queryRows !== null || right.queryRows !== null) {
    throw new AttentionError(
      'invalid-blocks',
      `Got ${a.blockQuery} × ${a.blockKey} tiles [${a.counts.shape.join(', ')}] and ${b.blockQuery} × ${b.blockKey} tiles [${b.counts.shape.join(', ')}].`,
      'Expected lists of the same tiles without gathered rows, each axis alike or 1.',
    );
  }
  const keyTiles = Math.max(highestTile(left), highestTile(right)) + 1;
  const [batch, heads] = [Math.max(batchA, batchB), Math.max(headsA, headsB)];
  const classesA = classesOf(left, keyTiles);
  const classesB = classesOf(right, keyTiles);
  const plane = tilesA * keyTiles;
  const classes = new Uint8Array(batch * heads * plane);
  for (let tile = 0; tile < classes.length; tile++) {
    const head = Math.floor(tile / plane) % heads;
    const entry = Math.floor(tile / plane / heads);
    const at = (batchSize: number, headSize: number): number => ((batchSize === 1 ? 0 : entry) * headSize + (headSize === 1 ? 0 : head)) * plane + (tile % plane);
    classes[tile] = choose(classesA[at(batchA, headsA)] ?? 0, classesB[at(batchB, headsB)] ?? 0);
  }
  return blockListFromClasses({ blockQuery: a.blockQuery, blockKey: a.blockKey, shape: [batch, heads, tilesA, keyTiles], classes });
}

interface ListOnHost {
  readonly counts: HostTensor;
  readonly indices: HostTensor;
  readonly full: HostTensor | null;
  readonly queryRows: HostTensor | null;
}

function onHost({ counts, indices, full, queryRows }: BlockList): ListOnHost {
  return { counts: hostPart(counts), indices: hostPart(indices), full: full === undefined ? null : hostPart(full), queryRows: queryRows === undefined ? null : hostPart(queryRows) };
}

function hostPart(part: Tensor): HostTensor {
  if (!isHostTensor(part)) throw new AttentionError('invalid-blocks', 'The block list lives on a device.', 'Read its tensors to the host first.');
  return part;
}

function highestTile(list: ListOnHost): number {
  let highest = -1;
  eachListed(list, (_, tile) => (highest = Math.max(highest, tile)));
  return highest;
}

/** Dense classes of a list: 0 not listed, 1 listed, 2 full. */
function classesOf(list: ListOnHost, keyTiles: number): Uint8Array {
  const classes = new Uint8Array(list.counts.shape.reduce((product, size) => product * size, keyTiles));
  eachListed(list, (row, tile, isFull) => (classes[row * keyTiles + tile] = isFull ? 2 : 1));
  return classes;
}

/** Every listed tile, with its row in the dense order of `counts`. */
function eachListed({ counts, indices, full }: ListOnHost, use: (row: number, tile: number, isFull: boolean) => void): void {
  const count = toFloat64(counts);
  const index = toFloat64(indices);
  const marks = full === null ? null : toFloat64(full);
  const capacity = indices.shape[3] ?? 0;
  for (let row = 0; row < count.length; row++) {
    for (let place = 0; place < (count[row] ?? 0); place++) use(row, index[row * capacity + place] ?? 0, marks?.[row * capacity + place] === 1);
  }
}

/**
 * A list as text, one line for each query tile: █ full, ▒ listed, · not. Planes of several batch entries and heads stand one under another.
 * @param keyTiles columns; default: up to the last tile that is listed
 * @throws AttentionError `invalid-blocks`
 */
export function printBlockList(list: BlockList, keyTiles?: number): string {
  const host = onHost(list);
  const columns = keyTiles ?? highestTile(host) + 1;
  const classes = classesOf(host, columns);
  const [batch = 0, heads = 0, queryTiles = 0] = host.counts.shape;
  const planes: string[] = [];
  for (let plane = 0; plane < batch * heads; plane++) {
    const lines = Array.from({ length: queryTiles }, (_, tile) => {
      const start = (plane * queryTiles + tile) * columns;
      return Array.from(classes.subarray(start, start + columns), (found) => '·▒█'.charAt(found)).join('');
    });
    const title = batch * heads === 1 ? [] : [`batch ${Math.floor(plane / heads)}, head ${plane % heads}`];
    planes.push([...title, ...lines].join('\n'));
  }
  return planes.join('\n\n');
}
