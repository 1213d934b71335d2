import type { BlockList } from '@heed/core';
import { AttentionError, isHostTensor, toFloat64 } from '@heed/core';

export interface PictureOptions {
  /** Shown above the picture. */
  readonly title?: string;
  /** Pixels of the picture's longer side. Default 160. */
  readonly size?: number;
  /** Key tiles across; default: up to the last one that is listed. */
  readonly keyTiles?: number;
  /** Which sequence and head of the list. Default the first. */
  readonly batch?: number;
  readonly head?: number;
}

/**
 * A block list as an SVG image: queries downwards, keys to the right, full tiles dark and others light. Tiles side by side are one rectangle, so that the text stays small.
 * @throws AttentionError `invalid-blocks` for a list on a device
 */
export function pictureOfBlocks(list: BlockList, { title, size = 160, keyTiles, batch = 0, head = 0 }: PictureOptions = {}): string {
  const runs = runsOf(list, batch, head);
  const rows = runs.reduce((most, { row }) => Math.max(most, row + 1), list.queryRows === undefined ? (list.counts.shape[2] ?? 0) : 0);
  const columns = keyTiles ?? runs.reduce((most, { to }) => Math.max(most, to), 0);
  const cell = size / Math.max(rows, columns, 1);
  const [width, height] = [columns * cell, rows * cell];
  const top = title === undefined ? 0 : 16;
  const number = (value: number): string => String(Math.round(value * 100) / 100);
  const rectangles = runs.map(({ row, from, to, full }) => `<rect x="${number(from * cell)}" y="${number(top + row * cell)}" width="${number((to - from) * cell)}" height="${number(cell)}" fill="${full ? '#1f5c99' : '#8fbbe8'}"/>`);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${number(width)} ${number(top + height)}" width="${number(width)}" height="${number(top + height)}">`,
    ...(title === undefined ? [] : [`<text x="0" y="11" font-family="sans-serif" font-size="11">${escape(title)}</text>`]),
    `<rect x="0" y="${number(top)}" width="${number(width)}" height="${number(height)}" fill="#f3f3f0"/>`,
    ...rectangles,
    '</svg>',
  ].join('\n');
}

/** Pictures side by side, in one image. */
export function picturesOfBlocks(pictures: readonly string[], gap = 16): string {
  let [x, height] = [0, 0];
  const placed = pictures.map((picture) => {
    const [, width = '0', own = '0'] = /width="([\d.]+)" height="([\d.]+)"/.exec(picture) ?? [];
    const nested = picture.replace('<svg ', `<svg x="${x}" y="0" `);
    x += Math.ceil(Number(width)) + gap;
    height = Math.max(height, Math.ceil(Number(own)));
    return nested;
  });
  return [`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${Math.max(0, x - gap)} ${height}" width="${Math.max(0, x - gap)}" height="${height}">`, ...placed, '</svg>', ''].join('\n');
}

interface Run {
  readonly row: number;
  readonly from: number;
  readonly to: number;
  readonly full: boolean;
}

/** Listed tiles of one plane, those side by side of one kind together. Gathered tiles stand where their first row stands. */
function runsOf({ counts, indices, full, queryRows, blockQuery }: BlockList, batch: number, head: number): readonly Run[] {
  const [batches = 1, heads = 1, tiles = 0] = counts.shape;
  const capacity = indices.shape[3] ?? 0;
  const read = (part: BlockList['counts'] | undefined): Float64Array | null => {
    if (part === undefined) return null;
    if (!isHostTensor(part)) throw new AttentionError('invalid-blocks', 'The block list lives on a device.', 'Read its tensors to the host first.');
    return toFloat64(part);
  };
  const [count, index, marks, gathered] = [read(counts), read(indices), read(full), read(queryRows)];
  const plane = (batches === 1 ? 0 : batch) * heads + (heads === 1 ? 0 : head);
  const runs: Run[] = [];
  for (let tile = plane * tiles; tile < (plane + 1) * tiles; tile++) {
    const row = gathered === null ? tile - plane * tiles : Math.floor((gathered[tile * blockQuery] ?? 0) / blockQuery);
    for (let place = tile * capacity; place < tile * capacity + (count?.[tile] ?? 0); place++) {
      const from = index?.[place] ?? 0;
      const isFull = marks?.[place] === 1;
      const last = runs.at(-1);
      if (last?.row === row && last.to === from && last.full === isFull) runs[runs.length - 1] = { ...last, to: from + 1 };
      else runs.push({ row, from, to: from + 1, full: isFull });
    }
  }
  return runs;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
