import type { LengthMeasure } from '../visible-length.ts';
import { visibleLength } from '../visible-length.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

export interface ScalableSoftmaxOptions {
  /** Name of the table of factors [head]. Default 'lengthFactors'. */
  readonly table?: string;
  /** Default 'position'. */
  readonly measure?: LengthMeasure;
}

/** score · a_head · ln n with a learned a for each head (Nakanishi 2025); followed by softmax. */
export function scalableSoftmax(options: ScalableSoftmaxOptions = {}): Modifier {
  return modifier('scalableSoftmax', (scope) => {
    const factor = scope.table(options.table ?? 'lengthFactors', ['head']).at(scope.head);
    return scope.score.mul(factor.mul(visibleLength(scope, options.measure ?? 'position').log()));
  });
}
