import { given, requireInteger } from '../arguments.ts';
import { constant } from '../../expression/build.ts';
import type { Term } from '../../expression/build.ts';
import type { Modifier } from './modifier.ts';
import { modifier } from './modifier.ts';

export interface EdgeFeaturesOptions {
  /** Features of one edge. The sum is written out, so that wide ones are better projected to one number for each head, and given to `edgeBias`. */
  readonly width: number;
}

/**
 * score + a·f, the features f of the edge weighed by a vector for each head: what graph attention adds for edges that carry something (GAT as built for edge
 * features). Tables `edgeFeatures` [edge, width], in the order of `edges.keys`, and `edgeVector` [head, width], whose first axis may be 1. Only in calls with edges.
 *
 * @throws AttentionError `invalid-argument` when width is no positive integer
 */
export function edgeFeatures(options: EdgeFeaturesOptions): Modifier {
  const { width } = given(options);
  requireInteger('edgeFeatures', 'width', width, 1);
  return modifier('edgeFeatures', ({ score, head, edgeIndex, table }) => {
    const [features, vector] = [table('edgeFeatures', ['edge', width]), table('edgeVector', ['head', width])];
    const terms = Array.from({ length: width }, (_, channel): Term<'f32'> => features.at(edgeIndex, channel).mul(vector.at(head, channel)));
    return score.add(terms.reduce((sum, term) => sum.add(term), constant(0, 'f32')));
  });
}
