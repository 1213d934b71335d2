import { constant } from '../../expression/build.ts';
import { join } from '../../expression/declarations.ts';
import { write } from '../../expression/scope.ts';
import { positive, requirePositive } from '../arguments.ts';
import type { Normalization } from './stage.ts';
import { normalizeBy } from './stage.ts';

export interface SoftmaxOptions {
  /** Divides every score, not the sink. Default: none. */
  readonly temperature?: number;
  /** One logit for each query head joins the denominator, without a value (L7): the table `sink` [head], or the name of another. Default false. */
  readonly sink?: boolean | string;
}

/**
 * e^(s − m) / Σ e^(s − m) over the allowed keys; with a sink z, the denominator also has e^(z − m).
 * @throws AttentionError `invalid-argument` when the temperature is not positive
 */
export function softmax(options: SoftmaxOptions = {}): Normalization {
  const { temperature, sink = false } = options;
  if (temperature !== undefined) requirePositive('softmax', 'temperature', temperature);
  const score = write('normalize', 'softmax', (scope) => (temperature === undefined ? scope.score : scope.score.div(scope.uniform('temperature', temperature, 'f32', positive))));
  if (sink === false) return normalizeBy('softmax', score, (expression) => ({ kind: 'softmax', score: expression, sink: null }));
  const logit = write('normalize', 'softmax', ({ head, table }) => table(sink === true ? 'sink' : sink, ['head']).at(head));
  const formula = { ...join(score, logit).declarations, expression: score.expression };
  return normalizeBy('softmax', formula, (expression) => ({ kind: 'softmax', score: expression, sink: logit.expression }));
}

/** e^s / (1 + Σ e^s) (Miller 2023): softmax with the sink 0. */
export function softmaxOffByOne(): Normalization {
  const score = write('normalize', 'softmaxOffByOne', (scope) => scope.score);
  return normalizeBy('softmaxOffByOne', score, (expression) => ({ kind: 'softmax', score: expression, sink: constant(0).node }));
}
