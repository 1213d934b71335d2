import type { TableDeclaration } from '../expression/declarations.ts';
import type { InnerModel } from './rule.ts';

/** A weight of an inner model: the name of its table and of its state, and its axes after the value head. */
export interface InnerParameter {
  readonly name: string;
  readonly axes: readonly ('scoreDim' | 'hiddenDim' | 'valueDim')[];
}

/** The weights of an inner model, in the order in which a forward pass meets them. */
export function parametersOf(model: InnerModel): readonly InnerParameter[] {
  const layer = (suffix: string, from: InnerParameter['axes'][number], to: InnerParameter['axes'][number]): readonly InnerParameter[] => [
    { name: `weight${suffix}`, axes: [from, to] },
    ...(model.bias ? [{ name: `bias${suffix}`, axes: [to] }] : []),
  ];
  return model.layers === 1 ? layer('', 'scoreDim', 'valueDim') : [...layer('1', 'scoreDim', 'hiddenDim'), ...layer('2', 'hiddenDim', 'valueDim')];
}

/** The tables that hold the weights of an inner model before the first token. */
export function modelTables(model: InnerModel): Readonly<Record<string, TableDeclaration>> {
  return Object.freeze(Object.fromEntries(parametersOf(model).map(({ name, axes }) => [name, Object.freeze({ type: 'f32' as const, axes: Object.freeze(['valueHead', ...axes]) })])));
}
