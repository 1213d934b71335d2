/// <reference lib="dom" />
/** The plots of the page: SVG text, drawn in Node, coloured by the page's own variables so that they follow light and dark. */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { formatMilliseconds, formatShare } from './format.ts';

/** A length of a bar, with what it belongs to. */
export interface Bar {
  readonly label: string;
  readonly value: number;
  /** A CSS colour. */
  readonly color: string;
  /** Shown at the end of the bar. */
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
const width = 440;
const fontSize = 12;

/** Horizontal bars from zero, one a row, in the order given. */
export function barPlot(bars: readonly Bar[], options: { readonly label: string; readonly limit?: number }): string {
  const longest = Math.max(...bars.map(({ value }) => value), options.limit ?? 0);
  return draw({
    height: 46 + bars.length * 34,
    marginLeft: labelMargin(bars.map(({ label }) => label)),
    marginRight: 12,
    x: { label: null, ticks: 4, grid: true, tickFormat: '~s', domain: [0, longest * 1.32], axis: null },
    y: { label: null, domain: bars.map(({ label }) => label), tickSize: 0 },
    marks: [
      Plot.barX(bars, { x: 'value', y: 'label', fill: 'color', insetTop: 4, insetBottom: 4, rx2: 3, title: ({ label, text }: Bar) => `${label}: ${text}` }),
      Plot.text(bars, { x: 'value', y: 'label', text: 'text', textAnchor: 'start', dx: 6, fill: 'var(--ink)' }),
      Plot.ruleX([0], { stroke: 'var(--axis)' }),
    ],
    ariaLabel: options.label,
  });
}

/** Time against tokens, both logarithmic, so that a quadratic cost is a straight line of slope two. */
export function curvePlot(points: readonly CurvePoint[], label: string): string {
  const ends = lastOfEach(points);
  const lengths = [...new Set(points.map(({ tokens }) => tokens))].sort((a, b) => a - b);
  return draw({
    height: 300,
    marginLeft: 58,
    marginRight: 84,
    marginBottom: 40,
    x: { type: 'log', label: 'tokens →', ticks: lengths, tickFormat: String, grid: false },
    y: { type: 'log', label: null, grid: true, ticks: 4, tickFormat: formatMilliseconds },
    marks: [
      Plot.line(points, { x: 'tokens', y: 'milliseconds', z: 'name', stroke: 'color', strokeWidth: 2 }),
      Plot.dot(points, { x: 'tokens', y: 'milliseconds', fill: 'color', r: 4, stroke: 'var(--surface)', strokeWidth: 1.5, title: ({ name, tokens, milliseconds }: CurvePoint) => `${name}, ${tokens} tokens: ${formatMilliseconds(milliseconds)}` }),
      Plot.text(ends, { x: 'tokens', y: 'milliseconds', text: 'name', textAnchor: 'start', dx: 9, fill: 'var(--ink)' }),
    ],
    ariaLabel: label,
  });
}

function lastOfEach(points: readonly CurvePoint[]): readonly CurvePoint[] {
  const ends = new Map<string, CurvePoint>();
  for (const point of points) if (point.tokens >= (ends.get(point.name)?.tokens ?? 0)) ends.set(point.name, point);
  return [...ends.values()];
}

/** Errors as shares of the tolerance on a logarithmic axis, with the tolerance as a line. */
export function errorPlot(points: readonly ErrorPoint[], label: string): string {
  const shares = points.map(({ share }) => share).filter((share) => share > 0);
  const least = Math.min(1e-3, ...shares) / 2;
  const most = Math.max(3, ...shares.filter(Number.isFinite)) * 1.5;
  const shown = points.map((point) => ({ ...point, share: Math.min(most, Math.max(least, point.share)) }));
  const labels = [...new Set(points.map((point) => point.label))];
  return draw({
    height: 74 + labels.length * 34,
    marginTop: 30,
    marginLeft: labelMargin(labels),
    marginRight: 16,
    marginBottom: 36,
    x: { type: 'log', domain: [least, most], label: 'share of the tolerance →', ticks: 4, tickFormat: formatShare, grid: true },
    y: { label: null, domain: labels, tickSize: 0 },
    marks: [
      Plot.ruleX([1], { stroke: 'var(--bad)', strokeWidth: 2 }),
      Plot.text(['tolerance'], { x: 1, text: (text: string) => text, frameAnchor: 'top', dy: -14, fill: 'var(--bad)' }),
      Plot.ruleY(shown, { x1: least, x2: 'share', y: 'label', stroke: 'color', strokeOpacity: 0.35 }),
      Plot.dot(shown, { x: 'share', y: 'label', fill: 'color', r: 5, stroke: 'var(--surface)', strokeWidth: 1.5, title: 'title' }),
    ],
    ariaLabel: label,
  });
}

function labelMargin(labels: readonly string[]): number {
  const longest = Math.max(...labels.map((label) => label.length));
  return Math.min(190, 14 + longest * 6.6);
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
