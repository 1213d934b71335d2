/// <reference lib="dom" />
/** The plots of the page: SVG text, drawn in Node, coloured by the page's own variables so that they follow light and dark. */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { formatMilliseconds, formatShare } from './format.ts';

/** A row of a plot. */
export interface Bar {
  readonly label: string;
  readonly value: number;
  /** A CSS colour. */
  readonly color: string;
  /** Shown at its end. */
  readonly text: string;
}

/** A point of a curve. */
export interface CurvePoint {
  readonly name: string;
  readonly color: string;
  readonly tokens: number;
  readonly milliseconds: number;
}

/** An error as a share of its tolerance, on one workload. */
export interface ErrorPoint {
  readonly label: string;
  readonly color: string;
  readonly share: number;
  readonly title: string;
}

// Drawn for a phone's width and scaled up from there, so that text stays readable on both.
const width = 400;
const fontSize = 12;

// Beyond this ratio short bars cannot be told apart, and a logarithmic axis says more.
const widestLinear = 30;

/** One value a row, in the order given: bars from zero, or points on a logarithmic axis where the values differ too much for that. */
export function valuePlot(bars: readonly Bar[], label: string): string {
  const values = bars.map(({ value }) => value);
  const longest = Math.max(...values);
  const shortest = Math.min(...values.filter((value) => value > 0));
  const logarithmic = longest / shortest > widestLinear && values.every((value) => value > 0);
  const left = labelMargin(bars.map((bar) => bar.label));
  const plotWidth = width - left - marginRight;
  // The share of the width that the longest bar may take, so that its text fits behind it.
  const share = 1 - (12 + textWidth(Math.max(...bars.map(({ text }) => text.length)))) / plotWidth;
  const first = logarithmic ? shortest / 3 : 0;
  const domain = [first, logarithmic ? first * (longest / first) ** (1 / share) : longest / share];
  const x = { label: null, domain, axis: null, type: logarithmic ? ('log' as const) : ('linear' as const) };
  const title = (bar: Bar): string => `${bar.label}: ${bar.text}`;
  const marks = logarithmic
    ? [
        Plot.gridX(powersOfTen(domain), { stroke: 'var(--rule)', strokeOpacity: 1 }),
        Plot.ruleY(bars, { x1: first, x2: 'value', y: 'label', stroke: 'color', strokeWidth: 2, strokeOpacity: 0.4 }),
        Plot.dot(bars, { x: 'value', y: 'label', fill: 'color', r: 7, title }),
      ]
    : [Plot.barX(bars, { x: 'value', y: 'label', fill: 'color', insetTop: 5, insetBottom: 5, rx2: 3, title }), Plot.ruleX([0], { stroke: 'var(--axis)' })];
  return draw({
    height: (logarithmic ? 24 : 14) + bars.length * rowHeight,
    marginTop: 4,
    marginBottom: logarithmic ? 20 : 10,
    marginLeft: left,
    marginRight,
    x,
    y: { label: null, domain: bars.map((bar) => bar.label), tickSize: 0 },
    marks: [
      ...marks,
      Plot.text(bars, { x: 'value', y: 'label', text: 'text', textAnchor: 'start', dx: logarithmic ? 13 : 6, fill: 'var(--ink)', ...halo }),
      Plot.text(logarithmic ? ['each line is ten times the one before'] : [], { text: (text: string) => text, frameAnchor: 'bottom-right', dy: 14, fontSize: 10, fill: 'var(--soft)' }),
    ],
    ariaLabel: label,
  });
}

const marginRight = 8;
// Keeps text readable where a gridline passes behind it.
const halo = { stroke: 'var(--surface)', strokeWidth: 4 } as const;
const rowHeight = 32;
const curveHeight = 300;

/** Time against tokens, both logarithmic, so that a quadratic cost is a straight line of slope two. */
export function curvePlot(points: readonly CurvePoint[], label: string): string {
  const lengths = [...new Set(points.map(({ tokens }) => tokens))].sort((a, b) => a - b);
  const ends = spread(lastOfEach(points), points);
  return draw({
    height: curveHeight,
    marginLeft: 58,
    marginRight: 14 + textWidth(Math.max(...points.map(({ name }) => name.length))),
    marginBottom: 40,
    x: { type: 'log', label: 'tokens →', ticks: lengths, tickFormat: String },
    y: { type: 'log', label: null, grid: true, ticks: powersOfTen([Math.min(...points.map(({ milliseconds }) => milliseconds)), Math.max(...points.map(({ milliseconds }) => milliseconds))]), tickFormat: formatMilliseconds },
    marks: [
      Plot.line(points, { x: 'tokens', y: 'milliseconds', z: 'name', stroke: 'color', strokeWidth: 2 }),
      Plot.dot(points, { x: 'tokens', y: 'milliseconds', fill: 'color', r: 4, stroke: 'var(--surface)', strokeWidth: 1.5, title: ({ name, tokens, milliseconds }: CurvePoint) => `${name}, ${tokens} tokens: ${formatMilliseconds(milliseconds)}` }),
      Plot.text(ends, { x: 'tokens', y: 'milliseconds', text: 'name', textAnchor: 'start', dx: 9, fill: 'var(--ink)', ...halo }),
    ],
    ariaLabel: label,
  });
}

function lastOfEach(points: readonly CurvePoint[]): readonly CurvePoint[] {
  const ends = new Map<string, CurvePoint>();
  for (const point of points) if (point.tokens >= (ends.get(point.name)?.tokens ?? 0)) ends.set(point.name, point);
  return [...ends.values()];
}

/** Moves labels up until none covers another. */
function spread(ends: readonly CurvePoint[], points: readonly CurvePoint[]): readonly CurvePoint[] {
  const logs = points.map(({ milliseconds }) => Math.log(milliseconds));
  const gap = ((Math.max(...logs) - Math.min(...logs)) * (fontSize + 2)) / (curveHeight - 50);
  let below = -Infinity;
  return [...ends]
    .sort((a, b) => a.milliseconds - b.milliseconds)
    .map((end) => {
      below = Math.max(Math.log(end.milliseconds), below + gap);
      return { ...end, milliseconds: Math.exp(below) };
    });
}

/** Errors as shares of the tolerance on a logarithmic axis, with the tolerance as a line. */
export function errorPlot(points: readonly ErrorPoint[], label: string): string {
  const shares = points.map(({ share }) => share).filter((share) => share > 0);
  const least = Math.min(1e-2, ...shares) / 2;
  const most = Math.max(2, ...shares.filter(Number.isFinite)) * 1.5;
  const shown = points.map((point) => ({ ...point, share: Math.min(most, Math.max(least, point.share)) }));
  const labels = [...new Set(points.map((point) => point.label))];
  return draw({
    height: 62 + labels.length * rowHeight,
    marginTop: 24,
    marginLeft: labelMargin(labels),
    marginRight,
    marginBottom: 36,
    x: { type: 'log', domain: [least, most], label: 'share of the tolerance →', ticks: thinned(powersOfTen([least, most])), tickFormat: formatShare, grid: true },
    y: { label: null, domain: labels, tickSize: 0 },
    marks: [
      Plot.ruleX([1], { stroke: 'var(--bad)', strokeWidth: 2 }),
      Plot.text(['tolerance'], { x: 1, text: (text: string) => text, frameAnchor: 'top', dy: -15, fill: 'var(--bad)' }),
      Plot.dot(shown, { x: 'share', y: 'label', fill: 'color', r: 5, stroke: 'var(--surface)', strokeWidth: 1.5, title: 'title' }),
    ],
    ariaLabel: label,
  });
}

/** Every so manieth, so that labels have room beside one another; 100 % stays. */
function thinned(powers: readonly number[]): readonly number[] {
  const step = Math.ceil(powers.length / mostTicks);
  return powers.filter((power) => Math.round(Math.log10(power)) % step === 0);
}

const mostTicks = 6;

function powersOfTen([least = 1, most = 1]: readonly number[]): readonly number[] {
  const first = Math.ceil(Math.log10(least) - 1e-9);
  const count = Math.max(0, Math.floor(Math.log10(most) + 1e-9) - first + 1);
  return Array.from({ length: count }, (_, index) => 10 ** (first + index));
}

function labelMargin(labels: readonly string[]): number {
  return 12 + textWidth(Math.max(...labels.map((label) => label.length)));
}

/** A generous guess, since nothing here can measure text. */
function textWidth(characters: number): number {
  return characters * fontSize * 0.58;
}

function draw(options: Plot.PlotOptions): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const drawn = Plot.plot({ width, marginTop: 8, marginBottom: 14, style: { fontSize: `${fontSize}px`, background: 'none' }, ...options, document });
  // Its size is the column's; the viewBox keeps the proportions.
  drawn.removeAttribute('width');
  drawn.removeAttribute('height');
  drawn.setAttribute('role', 'img');
  return drawn.outerHTML;
}
