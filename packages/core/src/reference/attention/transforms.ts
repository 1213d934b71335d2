import type { Expression } from '../../expression/node.ts';
import { evaluate } from '../../expression/evaluate.ts';
import type { Place } from '../../place.ts';
import type { RowNorm, RowTransform, Rope } from '../../stages/transforms/transform.ts';
import { mapFeatures } from './feature-maps.ts';

/** The row that each transform took, and the last result: what the backward pass needs. */
export interface TransformedRow {
  readonly steps: readonly Float64Array[];
  readonly result: Float64Array;
}

/** One row of q or k through its transforms. The place holds the row's batch, head, index and position. */
export function transformRow(transforms: readonly RowTransform[], row: Float64Array, place: Place): TransformedRow {
  const steps: Float64Array[] = [];
  let current = row;
  for (const transform of transforms) {
    steps.push(current);
    current = applyTransform(transform, current, place);
  }
  return { steps, result: current };
}

function applyTransform(transform: RowTransform, row: Float64Array, place: Place): Float64Array {
  switch (transform.kind) {
    case 'projection': {
      const heads = transform.perHead ? [place.values.head] : [];
      return Float64Array.from({ length: transform.width }, (_, channel) => {
        const bias = transform.bias === null ? 0 : place.table(transform.bias, [...heads, channel]);
        return row.reduce((sum, element, from) => sum + element * place.table(transform.table, [...heads, channel, from]), bias);
      });
    }
    case 'norm': {
      const { centre, divisor } = normStatistics(transform, row, place);
      return row.map((element, channel) => ((element - centre) / divisor) * factor(transform.gain, 1, channel, place) + factor(transform.shift, 0, channel, place));
    }
    case 'rope':
      return rotate(transform, row, place);
    case 'elementwise':
      return row.map((element, channel) => evaluateAt(transform.expression, element, channel, place));
    case 'featureMap':
      return mapFeatures(transform.map, row, place);
  }
}

/** What a norm subtracts and divides by. */
export function normStatistics(transform: RowNorm, row: Float64Array, place: Place): { readonly centre: number; readonly divisor: number } {
  const epsilon = evaluate(transform.epsilon, place);
  const squares = (centre: number): number => row.reduce((sum, element) => sum + (element - centre) ** 2, 0);
  if (transform.norm === 'l2') return { centre: 0, divisor: Math.max(Math.sqrt(squares(0)), epsilon) };
  const centre = transform.norm === 'layer' ? row.reduce((sum, element) => sum + element, 0) / row.length : 0;
  return { centre, divisor: Math.sqrt(squares(centre) / row.length + epsilon) };
}

/** A gain or shift at one channel; `otherwise` where there is none. */
export function factor(expression: Expression | null, otherwise: number, channel: number, place: Place): number {
  return expression === null ? otherwise : evaluateAt(expression, 0, channel, place);
}

export function evaluateAt(expression: Expression, element: number, channel: number, place: Place): number {
  place.values.element = element;
  place.values.channel = channel;
  return evaluate(expression, place);
}

/** The pairs of channels that a rotation turns, with cosine and sine of each one's angle, times the magnitude. */
export function rotaryPairs(transform: Rope, dim: number, place: Place): readonly { readonly first: number; readonly second: number; readonly cos: number; readonly sin: number }[] {
  const width = transform.width ?? dim;
  const base = evaluate(transform.base, place);
  const magnitude = evaluate(transform.magnitude, place);
  return Array.from({ length: width / 2 }, (_, pair) => {
    const frequency = transform.frequencies === null ? base ** ((-2 * pair) / width) : place.table(transform.frequencies, [pair]);
    const angle = place.values.position * frequency;
    const [first, second] = transform.pairing === 'half' ? [pair, pair + width / 2] : [2 * pair, 2 * pair + 1];
    return { first, second, cos: magnitude * Math.cos(angle), sin: magnitude * Math.sin(angle) };
  });
}

function rotate(transform: Rope, row: Float64Array, place: Place): Float64Array {
  const result = row.slice();
  for (const { first, second, cos, sin } of rotaryPairs(transform, row.length, place)) {
    const a = row[first] ?? 0;
    const b = row[second] ?? 0;
    result[first] = a * cos - b * sin;
    result[second] = a * sin + b * cos;
  }
  return result;
}
