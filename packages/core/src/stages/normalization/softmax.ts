import { AttentionError } from '../../errors.ts';
import { input } from '../../expression/build.ts';
import { join } from '../../expression/declarations.ts';
import { write } from '../../expression/scope.ts';
import { Normalization } from './stage.ts';

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
  if (temperature !== undefined && !(temperature > 0)) throw new AttentionError('invalid-argument', `softmax got temperature ${temperature}.`, 'Expected a positive number.');
  const score = write('normalize', 'softmax', (scope) => (temperature === undefined ? scope.score : scope.score.div(scope.uniform('temperature', temperature))));
  const logit = write('normalize', 'softmax', ({ head, table }) => table(typeof sink === 'string' ? sink : 'sink', ['head']).at(head));
  const { declarations } = join(score, sink === false ? { uniforms: {}, tables: {} } : logit);
  return new Normalization({
    ...declarations,
    name: 'softmax',
    rule: { kind: 'softmax', score: score.expression, sink: sink === false ? null : logit.expression },
    reweigh: input('weight').node,
  });
}

/** e^s / (1 + Σ e^s) (Miller 2023): softmax with the sink 0. */
export function softmaxOffByOne(): Normalization {
  const plain = softmax();
  return new Normalization({ ...plain, name: 'softmaxOffByOne', rule: { kind: 'softmax', score: plain.rule.score, sink: { kind: 'constant', type: 'f32', value: 0 } } });
}
