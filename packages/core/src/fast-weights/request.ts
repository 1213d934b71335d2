import type { FastWeightRequest } from '../backend.ts';
import { AttentionError } from '../errors.ts';
import type { DType } from '../tensor.ts';
import { dtypes } from '../tensor.ts';
import type { RowTransform } from '../stages/transforms/transform.ts';
import { transformedWidth } from '../stages/transforms/transform.ts';
import { checkDTypeNames, checkRopeWidth } from '../validate/request.ts';
import type { Names } from '../validate/names.ts';
import { checkNames } from '../validate/names.ts';
import { show } from '../show.ts';
import type { TransformSite } from '../validate/structure.ts';
import { inputsOfRule } from './rule.ts';
import { stateShapes, widthOf } from './state.ts';

/** Storage types of rows. */
export const floats: readonly DType[] = ['f64', 'f32', 'f16', 'bf16'];

const requestNames: Names<FastWeightRequest> = { variant: true, dim: true, valueDim: true, dtypes: true, gradients: true };

/** f32 for query, key and value, and the query's for the output, unless the request says otherwise. */
export function fastWeightDTypes(request: Pick<FastWeightRequest, 'dtypes'>): { readonly query: DType; readonly key: DType; readonly value: DType; readonly output: DType } {
  const { query = 'f32', key = 'f32', value = 'f32', output = query } = request.dtypes ?? {};
  return { query, key, value, output };
}

/** Row transforms with the width of the rows that reach them. */
export function transformSitesOf(request: FastWeightRequest): readonly TransformSite[] {
  const sites = (side: 'query' | 'key', transforms: readonly RowTransform[]): readonly TransformSite[] => {
    let width = request.dim;
    return transforms.map((transform) => {
      const site = { side, transform, width };
      width = transformedWidth(transform, width);
      return site;
    });
  };
  return [...sites('query', request.variant.queryTransforms), ...sites('key', request.variant.keyTransforms)];
}

/**
 * Checks what `prepare` is given, as far as no backend matters.
 * @throws AttentionError `invalid-argument`, `invalid-variant`, `invalid-shape` (dims, widths after transforms), `invalid-dtype`
 */
export function checkFastWeightRequest(request: FastWeightRequest): void {
  const given: unknown = request;
  if (typeof given !== 'object' || given === null) throw new AttentionError('invalid-argument', `Got ${show(given)} for a request.`, 'Pass { variant, dim, valueDim }.');
  const variant: unknown = Reflect.get(given, 'variant');
  if (typeof variant !== 'object' || variant === null || Reflect.get(variant, 'kind') !== 'fastWeights' || !Object.isFrozen(variant)) {
    throw new AttentionError('invalid-variant', `Got ${show(variant)} for the variant.`, 'Make one with fastWeights({ rule }).');
  }
  checkNames('the request', given, requestNames);
  checkDTypeNames(request.dtypes);
  for (const name of ['dim', 'valueDim'] as const) {
    const dim: unknown = request[name];
    if (!Number.isSafeInteger(dim) || (dim as number) < 1 || (dim as number) > 2 ** 24) throw new AttentionError('invalid-shape', `${name} is ${show(dim)}.`, 'Expected an integer of 1 or more (L11).');
  }
  for (const [role, dtype] of Object.entries(fastWeightDTypes(request))) {
    if (!dtypes.includes(dtype) || !floats.includes(dtype)) throw new AttentionError('invalid-dtype', `The dtype of ${role} is ${show(dtype)}.`, `Expected one of ${floats.join(', ')}.`);
  }
  checkWidths(request);
  checkGradients(request);
}

function checkWidths(request: FastWeightRequest): void {
  const { rule, queryTransforms } = request.variant;
  for (const site of transformSitesOf(request)) checkRopeWidth(site);
  const width = widthOf(request);
  const queryWidth = queryTransforms.reduce((before, transform) => transformedWidth(transform, before), request.dim);
  if (queryWidth !== width) {
    throw new AttentionError('invalid-shape', `After their transforms, query rows are ${queryWidth} wide and key rows ${width}.`, 'A state written by keys is read by queries: give both the same width.');
  }
  if (rule.kind === 'gradient' && (rule.residual || rule.target === 'valueMinusKey') && request.valueDim !== width) {
    throw new AttentionError('invalid-shape', `The rule '${rule.name}' learns value − key from rows of ${width} and ${request.valueDim}.`, 'Make valueDim equal to the width of the keys after their transforms.');
  }
}

function checkGradients(request: FastWeightRequest): void {
  const given: unknown = request.gradients;
  if (given === undefined) return;
  const state = Object.keys(stateShapes(request, { sequences: 1, heads: 1, valueHeads: 1 })).map((name) => `state.${name}`);
  const names: readonly unknown[] = ['query', 'key', 'value', ...inputsOfRule(request.variant.rule), ...state];
  if (!Array.isArray(given) || new Set(given).size !== given.length || given.some((name) => !names.includes(name))) {
    throw new AttentionError('invalid-argument', `gradients is ${show(given)}.`, `Expected names, each at most once: ${names.join(', ')}.`);
  }
}
