import { interpolateGnBu, interpolateRdBu } from 'd3-scale-chromatic';

/** How numbers become colours: weights from nothing to the most, scores from cold to warm around zero. */
export type Scale = 'sequential' | 'diverging';

const shades = 256;

/** Red, green and blue of each shade, 0 … 255. */
type Palette = Uint8ClampedArray;

function paletteOf(color: (share: number) => string): Palette {
  return Uint8ClampedArray.from({ length: 3 * shades }, (_, place) => Number((color(Math.floor(place / 3) / (shades - 1)).match(/\d+/g) ?? [])[place % 3] ?? 0));
}

/** Colours between stops at equal distances. Scales made for white paper glare on a dark page: there nothing is as dark as the page. */
function between(...stops: readonly (readonly [number, number, number])[]): (share: number) => string {
  return (share) => {
    const place = Math.min(stops.length - 2, Math.floor(share * (stops.length - 1)));
    const [from, to] = [stops[place] ?? [0, 0, 0], stops[place + 1] ?? [0, 0, 0]];
    const way = share * (stops.length - 1) - place;
    return from.map((start, color) => String(Math.round(start + way * ((to[color] ?? 0) - start)))).join(' ');
  };
}

const palettes = {
  sequential: { light: paletteOf((share) => interpolateGnBu(0.02 + 0.9 * share)), dark: paletteOf(between([30, 33, 39], [24, 82, 96], [52, 156, 152], [170, 226, 190], [246, 252, 214])) },
  diverging: { light: paletteOf((share) => interpolateRdBu(1 - share)), dark: paletteOf(between([150, 205, 255], [62, 116, 190], [34, 37, 44], [190, 78, 66], [255, 190, 160])) },
} as const;

/** What is no number, or not there. */
const nothing = { light: [226, 226, 230], dark: [10, 10, 12] } as const;

/** Paints numbers on a canvas of one pixel for each: 0 … the most for weights, −most … most for scores. */
export function paint(canvas: HTMLCanvasElement, values: Float32Array, rows: number, columns: number, scale: Scale): void {
  const context = canvas.getContext('2d');
  if (context === null || rows === 0 || columns === 0) return;
  const theme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  const palette = palettes[scale][theme];
  let most = 0;
  for (const value of values) if (Number.isFinite(value)) most = Math.max(most, Math.abs(value));
  const image = context.createImageData(columns, rows);
  for (let place = 0; place < rows * columns; place++) {
    const value = values[place] ?? Number.NaN;
    const share = most === 0 ? 0 : value / most;
    const shade = 3 * Math.round((shades - 1) * Math.max(0, Math.min(1, scale === 'sequential' ? share : 0.5 + share / 2)));
    for (let color = 0; color < 3; color++) image.data[place * 4 + color] = Number.isFinite(value) ? (palette[shade + color] ?? 0) : (nothing[theme][color] ?? 0);
    image.data[place * 4 + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
