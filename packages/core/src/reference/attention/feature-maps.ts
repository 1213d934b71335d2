import { evaluate } from '../../expression/evaluate.ts';
import type { Place } from '../../place.ts';
import type { FeatureMapRule } from '../../stages/transforms/transform.ts';
import type { TableGradients } from './table-gradients.ts';

/** φ(row), as FeatureMapRule defines each. */
export function mapFeatures(map: FeatureMapRule, row: Float64Array, place: Place): Float64Array {
  switch (map.rule) {
    case 'hedgehog':
      return hedgehog(map.softmax, row);
    case 'favor':
      return favor(map, row, place);
    case 'cosformer': {
      const { cos, sin } = cosformerAngle(map, place);
      return Float64Array.from([...row.map((x) => Math.max(x, 0) * cos), ...row.map((x) => Math.max(x, 0) * sin)]);
    }
    case 'based':
      return based(row);
    case 'dpfp':
      return dpfp(map.order, row);
  }
}

/** dφ/drow applied to the gradient of φ: the gradient of the row. `tables` receives gradients of ω (FAVOR+). */
export function mapFeaturesBackward(map: FeatureMapRule, row: Float64Array, gradient: Float64Array, place: Place, tables: TableGradients): Float64Array {
  const dim = row.length;
  const at = (index: number): number => gradient[index] ?? 0;
  switch (map.rule) {
    case 'hedgehog': {
      const features = hedgehog(map.softmax, row);
      const inner = map.softmax ? features.reduce((sum, feature, index) => sum + feature * at(index), 0) : 0;
      return row.map((_, channel) => (features[channel] ?? 0) * (at(channel) - inner) - (features[channel + dim] ?? 0) * (at(channel + dim) - inner));
    }
    case 'favor': {
      const features = favor(map, row, place);
      const result = new Float64Array(dim);
      const shrink = dim ** -0.25;
      features.forEach((feature, index) => {
        const weight = at(index) * feature;
        for (let channel = 0; channel < dim; channel++) {
          const x = (row[channel] ?? 0) * shrink;
          result[channel] = (result[channel] ?? 0) + weight * shrink * (place.table(map.table, [index, channel]) - x);
          tables.add(map.table, [index, channel], weight * x);
        }
      });
      return result;
    }
    case 'cosformer': {
      const { cos, sin } = cosformerAngle(map, place);
      return row.map((x, channel) => (x >= 0 ? at(channel) * cos + at(channel + dim) * sin : 0));
    }
    case 'based':
      return basedBackward(row, at);
    case 'dpfp': {
      const rectified = [...row, ...row.map((x) => -x)].map((x) => Math.max(x, 0));
      const width = 2 * dim;
      const inner = new Float64Array(width);
      for (let roll = 1; roll <= map.order; roll++) {
        for (let index = 0; index < width; index++) {
          const other = (index - roll + width) % width;
          const value = at((roll - 1) * width + index);
          inner[index] = (inner[index] ?? 0) + value * (rectified[other] ?? 0);
          inner[other] = (inner[other] ?? 0) + value * (rectified[index] ?? 0);
        }
      }
      return row.map((x, channel) => (x >= 0 ? (inner[channel] ?? 0) : 0) - (-x >= 0 ? (inner[channel + dim] ?? 0) : 0));
    }
  }
}

function hedgehog(softmax: boolean, row: Float64Array): Float64Array {
  const logits = [...row, ...row.map((x) => -x)];
  if (!softmax) return Float64Array.from(logits, Math.exp);
  const largest = Math.max(...logits);
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - largest), 0);
  return Float64Array.from(logits, (logit) => Math.exp(logit - largest) / total);
}

function favor(map: Extract<FeatureMapRule, { rule: 'favor' }>, row: Float64Array, place: Place): Float64Array {
  const scaled = row.map((x) => x * row.length ** -0.25);
  const half = scaled.reduce((sum, x) => sum + x * x, 0) / 2;
  return Float64Array.from({ length: map.features }, (_, feature) => {
    const projected = scaled.reduce((sum, x, channel) => sum + x * place.table(map.table, [feature, channel]), 0);
    return Math.exp(projected - half) / Math.sqrt(map.features);
  });
}

function cosformerAngle(map: Extract<FeatureMapRule, { rule: 'cosformer' }>, place: Place): { readonly cos: number; readonly sin: number } {
  const angle = (Math.PI * place.values.position) / (2 * evaluate(map.horizon, place));
  return { cos: Math.cos(angle), sin: Math.sin(angle) };
}

/** Order of features: 1; x_i; x_i²; x_i x_j for i < j, row by row. */
function based(row: Float64Array): Float64Array {
  const dim = row.length;
  const products: number[] = [];
  row.forEach((x, i) => row.subarray(i + 1).forEach((y) => products.push((x * y) / Math.sqrt(dim))));
  return Float64Array.from([1, ...row.map((x) => x / dim ** 0.25), ...row.map((x) => (x * x) / Math.sqrt(2 * dim)), ...products]);
}

function basedBackward(row: Float64Array, gradient: (index: number) => number): Float64Array {
  const dim = row.length;
  const result = row.map((x, i) => gradient(1 + i) / dim ** 0.25 + (gradient(1 + dim + i) * 2 * x) / Math.sqrt(2 * dim));
  let index = 1 + 2 * dim;
  for (let i = 0; i < dim; i++) {
    for (let j = i + 1; j < dim; j++) {
      const value = gradient(index++) / Math.sqrt(dim);
      result[i] = (result[i] ?? 0) + value * (row[j] ?? 0);
      result[j] = (result[j] ?? 0) + value * (row[i] ?? 0);
    }
  }
  return result;
}

function dpfp(order: number, row: Float64Array): Float64Array {
  const rectified = [...row, ...row.map((x) => -x)].map((x) => Math.max(x, 0));
  const width = rectified.length;
  return Float64Array.from({ length: width * order }, (_, at) => {
    const index = at % width;
    const roll = Math.floor(at / width) + 1;
    return (rectified[index] ?? 0) * (rectified[(index - roll + width) % width] ?? 0);
  });
}
