import type { FastWeightRequest } from '../backend.ts';
import { transformedWidth } from '../stages/transforms/transform.ts';
import { parametersOf } from './inner-model.ts';

/** Sizes of a call that the shapes of its state depend on. */
export interface StateSizes {
  /** Batch entries, or packed sequences. */
  readonly sequences: number;
  readonly heads: number;
  readonly valueHeads: number;
}

/** Width of query and key rows after their transforms. */
export function widthOf(request: FastWeightRequest): number {
  return request.variant.keyTransforms.reduce((width, transform) => transformedWidth(transform, width), request.dim);
}

/** Hidden width of the rule's inner model; 0 where there is none. */
export function hiddenDimOf(request: FastWeightRequest): number {
  const { rule } = request.variant;
  return rule.kind === 'gradient' ? rule.model.expansion * widthOf(request) : 0;
}

/**
 * The tensors that a rule carries from one segment to the next, by name, with their shapes. All hold floats.
 *
 * | rule               | name             | shape                                       | what                                                         |
 * |--------------------|------------------|---------------------------------------------|--------------------------------------------------------------|
 * | recurrent          | memory           | [sequences, valueHeads, width, valueDim]    | G                                                            |
 * | … with a row sum   | normalizer       | [sequences, valueHeads, width]              | z, the column that G would have for a value channel of ones  |
 * | gradient           | weight, bias, …  | [sequences, valueHeads, … as the table]     | accumulate: at the start of the mini-batch; momentum: now    |
 * | … accumulate, m>1  | weightGradient…  | as the weight                               | Σ writeStrength ∇ of the mini-batch so far                   |
 * | … momentum         | weightMomentum…  | as the weight                               | S                                                            |
 * | … momentum, m>1    | weightStart…     | as the weight                               | the weights that the mini-batch began with                   |
 * | … m>1              | filled           | [sequences]                                 | tokens of the mini-batch so far, 0 … m − 1                   |
 * | chunk              | weight           | [sequences, valueHeads, width, valueDim]    | G                                                            |
 * |                    | keys             | [sequences, heads, chunk, width]            | transformed keys of the chunk so far; the rest is not read   |
 * |                    | values           | [sequences, valueHeads, chunk, valueDim]    | its values                                                   |
 * |                    | filled           | [sequences]                                 | tokens of the chunk so far, 0 … chunk − 1                    |
 *
 * (m is the mini-batch.)
 */
export function stateShapes(request: FastWeightRequest, sizes: StateSizes): Readonly<Record<string, readonly number[]>> {
  const { variant, valueDim } = request;
  const { rule } = variant;
  const { sequences, heads, valueHeads } = sizes;
  const width = widthOf(request);
  const memory = [sequences, valueHeads, width, valueDim];
  switch (rule.kind) {
    case 'recurrent':
      return variant.rowSum === null ? { memory } : { memory, normalizer: [sequences, valueHeads, width] };
    case 'gradient': {
      const extent = { scoreDim: width, hiddenDim: hiddenDimOf(request), valueDim };
      const alongside = rule.optimizer.kind === 'momentum' ? ['', 'Momentum', ...(rule.miniBatch > 1 ? ['Start'] : [])] : ['', ...(rule.miniBatch > 1 ? ['Gradient'] : [])];
      const parameters = parametersOf(rule.model).flatMap(({ name, axes }) => alongside.map((suffix) => [name + suffix, [sequences, valueHeads, ...axes.map((axis) => extent[axis])]] as const));
      return { ...Object.fromEntries(parameters), ...(rule.miniBatch > 1 ? { filled: [sequences] } : {}) };
    }
    case 'chunk':
      return { weight: memory, keys: [sequences, heads, rule.chunk, width], values: [sequences, valueHeads, rule.chunk, valueDim], filled: [sequences] };
  }
}
