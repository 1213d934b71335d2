import { differentiate } from '../../expression/differentiate.ts';
import { evaluate } from '../../expression/evaluate.ts';
import type { Place } from '../../place.ts';
import type { RowNorm, RowTransform, Rope } from '../../stages/transforms/transform.ts';
import { mapFeaturesBackward } from './feature-maps.ts';
import type { TableGradients } from './table-gradients.ts';
import { evaluateAt, factor, normStatistics, rotaryPairs } from './transforms.ts';
import type { TransformedRow } from './transforms.ts';

/** Gradient of a row from that of its transformed row; the place holds what it held in the forward pass. */
export function transformRowBackward(transforms: readonly RowTransform[], row: TransformedRow, gradient: Float64Array, place: Place, tables: TableGradients): Float64Array {
  return transforms.reduceRight((current, transform, index) => backward(transform, row.steps[index] ?? new Float64Array(0), current, place, tables), gradient);
}

function backward(transform: RowTransform, row: Float64Array, gradient: Float64Array, place: Place, tables: TableGradients): Float64Array {
  switch (transform.kind) {
    case 'projection': {
      const heads = transform.perHead ? [place.values.head] : [];
      gradient.forEach((value, channel) => {
        if (transform.bias !== null) tables.add(transform.bias, [...heads, channel], value);
        row.forEach((element, from) => tables.add(transform.table, [...heads, channel, from], value * element));
      });
      return row.map((_, from) => gradient.reduce((sum, value, channel) => sum + value * place.table(transform.table, [...heads, channel, from]), 0));
    }
    case 'norm':
      return normBackward(transform, row, gradient, place, tables);
    case 'rope':
      return ropeBackward(transform, row, gradient, place, tables);
    case 'elementwise': {
      const byElement = differentiate(transform.expression, { kind: 'input', type: 'f32', name: 'element' });
      gradient.forEach((value, channel) => {
        place.values.element = row[channel] ?? 0;
        place.values.channel = channel;
        tables.through(transform.expression, value, place);
      });
      return gradient.map((value, channel) => value * evaluateAt(byElement, row[channel] ?? 0, channel, place));
    }
    case 'featureMap':
      return mapFeaturesBackward(transform.map, row, gradient, place, tables);
  }
}

function normBackward(transform: RowNorm, row: Float64Array, gradient: Float64Array, place: Place, tables: TableGradients): Float64Array {
  const { centre, divisor } = normStatistics(transform, row, place);
  const unit = row.map((element) => (element - centre) / divisor);
  gradient.forEach((value, channel) => {
    place.values.element = 0;
    place.values.channel = channel;
    if (transform.gain !== null) tables.through(transform.gain, value * (unit[channel] ?? 0), place);
    if (transform.shift !== null) tables.through(transform.shift, value, place);
  });
  const inner = gradient.map((value, channel) => value * factor(transform.gain, 1, channel, place));
  const mean = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const along = inner.map((value, channel) => value * (unit[channel] ?? 0));
  if (transform.norm === 'l2') {
    const clamped = divisor <= evaluate(transform.epsilon, place);
    const tangent = clamped ? 0 : along.reduce((sum, value) => sum + value, 0);
    return inner.map((value, channel) => (value - (unit[channel] ?? 0) * tangent) / divisor);
  }
  const shift = transform.norm === 'layer' ? mean(inner) : 0;
  const tangent = mean(along);
  return inner.map((value, channel) => (value - shift - (unit[channel] ?? 0) * tangent) / divisor);
}

function ropeBackward(transform: Rope, row: Float64Array, gradient: Float64Array, place: Place, tables: TableGradients): Float64Array {
  const result = gradient.slice();
  rotaryPairs(transform, row.length, place).forEach(({ first, second, cos, sin }, pair) => {
    const a = gradient[first] ?? 0;
    const b = gradient[second] ?? 0;
    result[first] = a * cos + b * sin;
    result[second] = b * cos - a * sin;
    if (transform.frequencies !== null) {
      const x = row[first] ?? 0;
      const y = row[second] ?? 0;
      tables.add(transform.frequencies, [pair], place.values.position * (b * (x * cos - y * sin) - a * (x * sin + y * cos)));
    }
  });
  return result;
}
