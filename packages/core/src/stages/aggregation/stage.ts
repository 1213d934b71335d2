import { input } from '../../expression/build.ts';
import type { Declarations } from '../../expression/declarations.ts';
import { join, noDeclarations } from '../../expression/declarations.ts';
import type { Expression } from '../../expression/node.ts';
import { rewrite } from '../../expression/node.ts';
import type { Formula } from '../../expression/scope.ts';

/** How weighted values become one vector: Σ w·v, max w·v, or ln Σ w·e^v, channel by channel. */
export type Reduction = 'sum' | 'max' | 'logSumExp';

/** The fields of an {@link Aggregation}. */
export type AggregationData = Omit<Aggregation, 'prepareBy' | 'finishBy'>;

/** output = finish( ⊕_j  w_ij · prepare(v_j) ). Frozen plain data. An empty row is 0, whatever `finish` says (L1). */
export class Aggregation implements Declarations {
  readonly name: string;
  readonly reduction: Reduction;
  /** In the slot `prepare`; reads `value`. */
  readonly prepare: Expression;
  /** In the slot `finish`; reads `output`. */
  readonly finish: Expression;
  readonly uniforms: Declarations['uniforms'];
  readonly tables: Declarations['tables'];

  constructor(data: AggregationData) {
    this.name = data.name;
    this.reduction = data.reduction;
    this.prepare = data.prepare;
    this.finish = data.finish;
    this.uniforms = data.uniforms;
    this.tables = data.tables;
    Object.freeze(this);
  }

  /** Appends a change of the values. */
  prepareBy(formula: Formula): Aggregation {
    const { declarations, renamed } = join(this, formula, 'expression');
    const prepare = rewrite(renamed.expression, (node) => (node.kind === 'input' && node.name === 'value' ? this.prepare : node));
    return changed(this, { ...declarations, prepare });
  }

  /** Appends a change of the aggregated rows. */
  finishBy(formula: Formula): Aggregation {
    const { declarations, renamed } = join(this, formula, 'expression');
    const finish = rewrite(renamed.expression, (node) => (node.kind === 'input' && node.name === 'output' ? this.finish : node));
    return changed(this, { ...declarations, finish });
  }
}

function changed(aggregation: Aggregation, changes: Partial<AggregationData>): Aggregation {
  const { name, reduction, prepare, finish, uniforms, tables } = aggregation;
  return new Aggregation({ name, reduction, prepare, finish, uniforms, tables, ...changes });
}

/** Values as they are, brought together by one of the reductions. */
export function reduceBy(name: string, reduction: Reduction): Aggregation {
  return new Aggregation({ ...noDeclarations, name, reduction, prepare: input('value').node, finish: input('output').node });
}
