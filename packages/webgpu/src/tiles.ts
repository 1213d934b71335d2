import type { Machine } from '@heed/runtime-webgpu';

/**
 * How the invocations of a workgroup share a block of pairs. They stand in teams; a team of `lanes` owns `rows` query rows, and each of its lanes holds, in
 * registers, the scores of those rows with four keys of a tile, and every lanes-th quad of channels of their outputs.
 */
export interface Tile {
  readonly lanes: number;
  readonly teams: number;
  readonly rows: number;
  /** Quads of key channels that stand in workgroup memory at a time. */
  readonly chunk: number;
  /** Invocations of a workgroup that walks over the keys of few queries, one key each. */
  readonly walkers: number;
  /** Query rows, of all heads of one key head together, that such a workgroup serves. */
  readonly walkerRows: number;
}

/** A row of the table: a tile, and what it was made for. */
interface TileRow extends Tile {
  readonly name: string;
  readonly purpose: string;
}

/** Keys that one lane scores of each tile: one vector. */
export const laneKeys = 4;

/**
 * From large to small: the first that the device's limits and the widths of a request allow is taken. A larger tile reads every key for more rows; a team that is
 * wider than the device's subgroups runs in several turns, and a device whose subgroups are small has few and short registers.
 */
const rows: readonly TileRow[] = [
  { name: 'wide', purpose: '32 KiB of workgroup memory, subgroups of 16 or more', lanes: 16, teams: 8, rows: 8, chunk: 16, walkers: 128, walkerRows: 8 },
  { name: 'middle', purpose: 'the guaranteed 16 KiB, subgroups of 16 or more', lanes: 16, teams: 8, rows: 4, chunk: 8, walkers: 64, walkerRows: 4 },
  { name: 'narrow', purpose: 'subgroups of 8', lanes: 8, teams: 8, rows: 4, chunk: 8, walkers: 64, walkerRows: 4 },
  { name: 'small', purpose: 'subgroups of 4, or little memory', lanes: 4, teams: 8, rows: 2, chunk: 4, walkers: 32, walkerRows: 4 },
];

/** Vectors of output channels that one invocation may hold. */
const mostAccumulators = 16;

/** What a tile is chosen for. */
export interface TileDemand {
  readonly valueDim: number;
  /** Most rows of one invocation, where something else grows with them. */
  readonly mostRows?: number;
}

/** The tile for a device and the widths of a request: a table's row, its teams narrowed to rows of few channels, its rows to what registers hold of wide ones. */
export function tileOf(machine: Machine, demand: TileDemand): Tile {
  const fitting = rows.find((row) => refusalOf(row, machine) === null) ?? rows.at(-1);
  if (fitting === undefined) throw new RangeError('the table of tiles is empty');
  return narrowed(fitting, demand);
}

/** Why even the smallest tile does not fit, or null. */
export function tileRefusal(machine: Machine): string | null {
  const smallest = rows.at(-1);
  return smallest === undefined || rows.some((row) => refusalOf(row, machine) === null) ? null : refusalOf(smallest, machine);
}

/** The table with the verdict on each row, for people. */
export function tileTable(machine: Machine): readonly string[] {
  const chosen = rows.find((row) => refusalOf(row, machine) === null);
  return rows.map((row) => {
    const { name, purpose, lanes, teams } = row;
    const verdict = row === chosen ? 'taken' : (refusalOf(row, machine) ?? 'a larger one fits');
    return `tile '${name}' (${purpose}): ${teams} teams of ${lanes} lanes, ${row.rows} × ${laneKeys} pairs each, ${bytesOf(row)} bytes: ${verdict}`;
  });
}

/** Bytes of workgroup memory: keys and then weights of a tile, and the statistics of its rows by lane. */
function tileBytes(tile: Tile): number {
  return 16 * tileQuads(tile) + 8 * blockQueryOf(tile) * (tile.lanes + 1);
}

/** Vectors of the memory that holds a chunk of a tile's keys, and then its weights; one more in a row keeps neighbours in different banks. */
export function tileQuads(tile: Tile): number {
  return Math.max(tile.chunk * (blockKeyOf(tile) + 1), blockQueryOf(tile) * (tile.lanes + 1));
}

export function blockQueryOf({ teams, rows: own }: Tile): number {
  return teams * own;
}

export function blockKeyOf({ lanes }: Tile): number {
  return laneKeys * lanes;
}

function refusalOf(row: TileRow, { invocations, workgroupBytes, subgroups }: Machine): string | null {
  const own = Math.max(row.lanes * row.teams, row.walkers);
  if (own > invocations) return `it takes ${own} invocations; maxComputeInvocationsPerWorkgroup of this device is ${invocations}`;
  const bytes = bytesOf(row);
  if (bytes > workgroupBytes) return `it takes ${bytes} bytes of workgroup memory; maxComputeWorkgroupStorageSize of this device is ${workgroupBytes}`;
  if (subgroups !== null && subgroups.most < row.lanes) return `its teams of ${row.lanes} pass the device’s subgroups of ${subgroups.most}`;
  return null;
}

/** Bytes of workgroup memory of the larger of both programs. */
function bytesOf(tile: Tile): number {
  return Math.max(tileBytes(tile), walkBytes(tile));
}

/** Bytes of workgroup memory of a decode program: keys and then sums, the weights of its keys, and shares of its rows. */
function walkBytes({ walkers, walkerRows }: Tile): number {
  return 16 * Math.max(walkChunk * (walkers + 1), walkers * walkerRows) + 4 * walkerRows * (splitKeysOf({ walkers }) + 4) + 4 * walkers;
}

/** Quads of key channels that a decode program holds at a time. */
export const walkChunk = 8;

/** Keys of one part of a split: two for each invocation that walks. */
export function splitKeysOf({ walkers }: Pick<Tile, 'walkers'>): number {
  return 2 * walkers;
}

function narrowed({ lanes: most, teams, rows: own, chunk, walkers, walkerRows }: TileRow, { valueDim, mostRows = Infinity }: TileDemand): Tile {
  const quads = Math.ceil(valueDim / 4);
  const block = teams * own;
  let lanes = most;
  let team = teams;
  while (lanes > 4 && lanes / 2 >= quads) {
    lanes /= 2;
    team *= 2;
  }
  let held = Math.min(Math.max(1, block / team), mostRows);
  while (held > 1 && held * Math.ceil(quads / lanes) > mostAccumulators) held /= 2;
  return { lanes, teams: team, rows: held, chunk, walkers, walkerRows };
}
