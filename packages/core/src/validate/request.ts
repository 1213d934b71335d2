import type { AttentionRequest, Observe } from '../backend.ts';
import { AttentionError } from '../errors.ts';
import type { DType } from '../tensor.ts';
import { dtypes } from '../tensor.ts';
import { show } from '../show.ts';
import type { Names } from './names.ts';
import { checkNames } from './names.ts';
import type { Structure, TransformSite } from './structure.ts';
import { structureOf } from './structure.ts';
import { isDType } from './tensors.ts';

/** Storage types of a request with the defaults filled in. */
export interface RequestDTypes {
  readonly query: DType;
  readonly key: DType;
  readonly value: DType;
  readonly output: DType;
}

/** f32 for query, key and value, and the query's for the output, unless the request says otherwise. */
export function requestDTypes(request: Pick<AttentionRequest, 'dtypes'>): RequestDTypes {
  const { query = 'f32', key = 'f32', value = 'f32', output = query } = request.dtypes ?? {};
  return { query, key, value, output };
}

const storageForms: readonly unknown[] = ['contiguous', 'paged', 'quantised'];
const observedStages: readonly unknown[] = ['scores', 'modified', 'masked', 'weights'];
const requestNames: Names<AttentionRequest> = { variant: true, queryDim: true, keyDim: true, valueDim: true, dtypes: true, storage: true, observe: true, gradients: true };
const observeNames: Names<Observe> = { stages: true, keyMass: true, byteBudget: true };
const dtypeNames: Names<RequestDTypes> = { query: true, key: true, value: true, output: true };
const floats: readonly DType[] = ['f64', 'f32', 'f16', 'bf16'];

/**
 * Checks what `prepare` is given, as far as no backend matters.
 *
 * @returns what follows from the request and is the same at every call
 * @throws AttentionError `invalid-argument`, `invalid-variant`, `invalid-shape` (dims, widths after transforms), `invalid-dtype`, `unknown-table` (a gradient)
 */
export function checkRequest(request: AttentionRequest): Structure {
  const given: unknown = request;
  if (typeof given !== 'object' || given === null) throw new AttentionError('invalid-argument', `Got ${show(given)} for a request.`, 'Pass { variant, queryDim, keyDim, valueDim }.');
  checkVariant('variant' in given ? given.variant : undefined);
  checkNames('the request', given, requestNames);
  for (const name of ['queryDim', 'keyDim', 'valueDim'] as const) checkDim(name, request[name]);
  checkDTypes(request);
  checkChoices(request);
  checkGradients(request);
  const structure = structureOf(request);
  checkWidths(structure);
  return structure;
}

function checkVariant(variant: unknown): void {
  const made = typeof variant === 'object' && variant !== null && 'kind' in variant && variant.kind === 'attention';
  const whole = made && ['scoring', 'masking', 'normalization', 'aggregation', 'uniforms', 'tables'].every((part) => typeof Reflect.get(variant, part) === 'object' && Reflect.get(variant, part) !== null);
  if (!whole || typeof Reflect.get(variant, 'structure') !== 'string' || !Object.isFrozen(variant)) {
    throw new AttentionError('invalid-variant', `Got ${show(variant)} for the variant.`, 'Make one with attention({ scoring, masking, normalization, aggregation }).');
  }
}

function checkDim(name: string, dim: unknown): void {
  if (!Number.isSafeInteger(dim) || (dim as number) < 1 || (dim as number) > 2 ** 24) {
    throw new AttentionError('invalid-shape', `${name} is ${show(dim)}.`, 'Expected an integer of 1 or more (L11).');
  }
}

function checkDTypes(request: AttentionRequest): void {
  checkDTypeNames(request.dtypes);
  for (const [role, dtype] of Object.entries(requestDTypes(request))) {
    if (!isDType(dtype)) throw new AttentionError('invalid-dtype', `The dtype of ${role} is ${show(dtype)}.`, `Expected one of ${dtypes.join(', ')}.`);
    const stored = request.storage === 'quantised' && (role === 'key' || role === 'value');
    if (!floats.includes(dtype) && !(stored && (dtype === 'i8' || dtype === 'u8'))) {
      throw new AttentionError('invalid-dtype', `The dtype of ${role} is ${dtype}.`, `Expected one of ${floats.join(', ')}; i8 and u8 hold only quantised keys and values.`);
    }
  }
}

/** @throws AttentionError `invalid-dtype` when it holds no dtypes by role, `invalid-argument` for another role */
export function checkDTypeNames(given: unknown): void {
  if (given === undefined) return;
  if (typeof given !== 'object' || given === null) throw new AttentionError('invalid-dtype', `dtypes is ${show(given)}.`, 'Pass { query, key, value, output }.');
  checkNames('dtypes', given, dtypeNames);
}

function checkChoices(request: AttentionRequest): void {
  if (request.storage !== undefined && !storageForms.includes(request.storage)) {
    throw new AttentionError('invalid-argument', `storage is ${show(request.storage)}.`, `Expected one of ${storageForms.join(', ')}.`);
  }
  const observe: unknown = request.observe;
  if (observe === undefined) return;
  if (typeof observe === 'object' && observe !== null) checkNames('observe', observe, observeNames);
  const stages: unknown = typeof observe === 'object' && observe !== null && 'stages' in observe ? observe.stages : undefined;
  if (!Array.isArray(stages) || stages.some((stage) => !observedStages.includes(stage)) || new Set(stages).size !== stages.length) {
    throw new AttentionError('invalid-argument', `observe.stages is ${show(stages)}.`, `Expected each at most once: ${observedStages.join(', ')}.`);
  }
  const budget: unknown = request.observe?.byteBudget;
  if (budget !== undefined && (typeof budget !== 'number' || !(budget >= 0))) {
    throw new AttentionError('invalid-argument', `observe.byteBudget is ${show(budget)}.`, 'Expected a number of bytes.');
  }
}

function checkGradients({ gradients, variant }: AttentionRequest): void {
  const given: unknown = gradients;
  if (given === undefined) return;
  if (!Array.isArray(given) || new Set(given).size !== given.length) {
    throw new AttentionError('invalid-argument', `gradients is ${show(given)}.`, "Expected names, each at most once: 'query', 'key', 'value', 'tables.<name>'.");
  }
  for (const name of given as readonly unknown[]) {
    if (name === 'query' || name === 'key' || name === 'value') continue;
    if (typeof name !== 'string' || !name.startsWith('tables.')) {
      throw new AttentionError('invalid-argument', `gradients names ${show(name)}.`, "Expected 'query', 'key', 'value' or 'tables.<name>'.");
    }
    const table = name.slice('tables.'.length);
    const declaration = Object.hasOwn(variant.tables, table) ? variant.tables[table] : undefined;
    if (declaration === undefined) {
      throw new AttentionError('unknown-table', `gradients names ${show(name)}, and the variant declares no such table.`, `It declares ${Object.keys(variant.tables).join(', ') || 'none'}.`);
    }
    if (declaration.type !== 'f32') throw new AttentionError('invalid-argument', `gradients names ${show(name)}, a table of ${declaration.type}.`, 'Only tables of f32 have a gradient.');
  }
}

function checkWidths({ transforms, queryWidth, keyWidth }: Structure): void {
  for (const site of transforms) checkRopeWidth(site);
  if (!Number.isSafeInteger(queryWidth) || queryWidth !== keyWidth) {
    throw new AttentionError('invalid-shape', `After their transforms, query rows are ${queryWidth} wide and key rows ${keyWidth}.`, 'Rows are combined channel by channel: make queryDim and keyDim equal, or project both to one width.');
  }
}

/** @throws AttentionError `invalid-shape` */
export function checkRopeWidth({ side, transform, width }: TransformSite): void {
  if (transform.kind !== 'rope') return;
  const turned = transform.width ?? width;
  if (turned > width || turned % 2 === 1) {
    throw new AttentionError('invalid-shape', `rope turns ${turned} channels of ${side} rows that are ${width} wide.`, 'Expected an even number, at most the width: set its `width` option.');
  }
}
