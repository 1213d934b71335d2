import type { AttentionRequest } from '../backend.ts';
import type { Axis } from '../expression/declarations.ts';
import type { Expression, InputName } from '../expression/node.ts';
import { readsInput, walk } from '../expression/node.ts';
import type { Slot } from '../expression/scope.ts';
import type { RowTransform } from '../stages/transforms/transform.ts';
import { transformedWidth } from '../stages/transforms/transform.ts';
import type { AttentionVariant } from '../variant.ts';
import { readsEdges } from '../pair-expressions.ts';
import { expressionsOf, pairExpressions } from '../variant.ts';

/** Where an expression of a variant stands, and how wide the rows are whose channels it sees. */
export interface Site {
  readonly slot: Slot;
  /** Which rows a transform changes; null outside transforms. */
  readonly side: 'query' | 'key' | null;
  readonly expression: Expression;
  /** `channel` runs from 0 to width − 1. */
  readonly width: number;
}

/** A row transform with the width of the rows that reach it. */
export interface TransformSite {
  readonly side: 'query' | 'key';
  readonly transform: RowTransform;
  readonly width: number;
}

/** What follows from a request alone: computed once, read at every call. */
export interface Structure {
  /** Width of the rows that are combined. */
  readonly queryWidth: number;
  readonly keyWidth: number;
  readonly transforms: readonly TransformSite[];
  /** True when moving the queries along the keys can change the result (L3). */
  readonly positionDependent: boolean;
  /** True when a call needs an edge list: something of the variant stands for its edges. */
  readonly readsEdges: boolean;
  /** Expressions with something to prove at each call: a table read or a divisor that the declarations do not settle. */
  readonly obligations: readonly Site[];
}

export function structureOf(request: AttentionRequest): Structure {
  const { variant } = request;
  const query = transformSites('query', variant.scoring.queryTransforms, request.queryDim);
  const key = transformSites('key', variant.scoring.keyTransforms, request.keyDim);
  const transforms = [...query.sites, ...key.sites];
  const sites = [...transforms.flatMap(transformExpressions), ...pairSites(variant, query.width, request.valueDim)];
  return {
    queryWidth: query.width,
    keyWidth: key.width,
    transforms,
    positionDependent: transforms.some(({ transform }) => turnsByPosition(transform)) || sites.some(({ expression }) => readsPosition(expression)),
    readsEdges: readsEdges(variant),
    obligations: sites.filter((site) => hasObligation(site, variant.tables)),
  };
}

function transformSites(side: 'query' | 'key', transforms: readonly RowTransform[], dim: number): { readonly sites: readonly TransformSite[]; readonly width: number } {
  let width = dim;
  const sites = transforms.map((transform): TransformSite => {
    const site = { side, transform, width };
    width = transformedWidth(transform, width);
    return site;
  });
  return { sites, width };
}

function turnsByPosition(transform: RowTransform): boolean {
  return transform.kind === 'rope' || (transform.kind === 'featureMap' && transform.map.rule === 'cosformer');
}

function readsPosition(expression: Expression): boolean {
  if (readsInput(expression, 'queryPosition', 'keyPosition', 'position')) return true;
  for (const node of walk(expression)) if (node.kind === 'random') return true;
  return false;
}

function transformExpressions({ side, transform, width }: TransformSite): readonly Site[] {
  return expressionsOf(transform).map((expression) => ({ slot: 'transform', side, expression, width }));
}

function pairSites(variant: AttentionVariant, scoreDim: number, valueDim: number): readonly Site[] {
  return pairExpressions(variant).map(([slot, expression]) => ({ slot, side: null, expression, width: slot === 'combine' ? scoreDim : slot === 'prepare' || slot === 'finish' ? valueDim : 0 }));
}

/** True unless the declarations alone show that every read is in range and every divisor positive. */
function hasObligation(site: Site, tables: AttentionVariant['tables']): boolean {
  for (const node of walk(site.expression)) {
    if (node.kind === 'queryTable') return true;
    if (node.kind === 'operation' && (node.operator === 'floorDiv' || node.operator === 'mod')) {
      const divisor = node.operands[1];
      if (divisor?.kind !== 'constant' || divisor.value <= 0) return true;
    }
    if (node.kind !== 'table') continue;
    const axes = tables[node.name]?.axes ?? [];
    if (node.indices.some((index, axis) => index.kind !== 'input' || axes[axis] === undefined || axisOf(index.name, site) !== axes[axis])) return true;
  }
  return false;
}

/** The axis that an input stays within by definition: a table that declares it there needs no proof. */
function axisOf(name: InputName, { slot, side }: Site): Axis | null {
  switch (name) {
    case 'batch':
    case 'keyHead':
      return name;
    case 'head':
      return side === 'key' ? 'keyHead' : 'head';
    case 'queryIndex':
      return 'queryLength';
    case 'keyIndex':
      return 'keyLength';
    case 'edgeIndex':
      return 'edge';
    case 'index':
      return side === 'key' ? 'keyLength' : 'queryLength';
    case 'channel':
      return slot === 'combine' ? 'scoreDim' : slot === 'transform' ? null : 'valueDim';
    default:
      return null;
  }
}
