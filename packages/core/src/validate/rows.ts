import type { AttentionInputs, AttentionRequest, Runtime } from '../backend.ts';
import { AttentionError } from '../errors.ts';
import type { DType, Tensor } from '../tensor.ts';
import { isHostTensor } from '../tensor.ts';
import type { Names } from './names.ts';
import { checkNames } from './names.ts';
import { requestDTypes } from './request.ts';
import { show } from '../show.ts';
import { checkTensor } from './tensors.ts';

/** Sizes of a call that its tensors agree on. */
export interface RowSizes {
  readonly batch: number;
  readonly heads: number;
  readonly keyHeads: number;
  /** Rows of the query tensor for each entry of its axis 0. */
  readonly queryRows: number;
  /** Keys of each entry of the batch: rows of the key tensor, or all rows of its pages. */
  readonly keyRows: number;
}

const inputNames: Names<AttentionInputs> = {
  query: true, key: true, value: true, tables: true, uniforms: true, queryOffset: true, keyOffset: true, queryPositions: true, keyPositions: true, queryLengths: true, keyLengths: true,
  totalKeyLengths: true, packed: true, sequenceIds: true, headOffset: true, blocks: true, edges: true, pages: true, keysTransformed: true, observe: true,
};

const packedNames: Names<NonNullable<AttentionInputs['packed']>> = { query: true, key: true };
const observeNames: Names<NonNullable<AttentionInputs['observe']>> = { heads: true, rows: true };

/**
 * The names of what a call is given, so that none is misspelt.
 * @throws AttentionError `invalid-argument`
 */
export function checkInputNames(inputs: Pick<AttentionInputs, 'packed' | 'observe'>): void {
  checkNames('the inputs', inputs, inputNames);
  const { packed, observe }: { readonly packed?: unknown; readonly observe?: unknown } = inputs;
  if (typeof packed === 'object' && packed !== null) checkNames('packed', packed, packedNames);
  if (typeof observe === 'object' && observe !== null) checkNames('observe', observe, observeNames);
}

/**
 * Query, key and value against the request and each other.
 *
 * @throws AttentionError `invalid-argument`, `invalid-shape`, `invalid-dtype`, `invalid-tensor`, `foreign-tensor`
 */
export function checkRows(request: AttentionRequest, inputs: AttentionInputs, scoreDim: number, runtime: Runtime | undefined): RowSizes {
  const given: unknown = inputs;
  if (typeof given !== 'object' || given === null) throw new AttentionError('invalid-argument', `Got ${show(given)} for the inputs.`, 'Pass { query, key, value }.');
  checkInputNames(inputs);
  if (inputs.keysTransformed !== undefined && typeof inputs.keysTransformed !== 'boolean') {
    throw new AttentionError('invalid-argument', `keysTransformed is ${show(inputs.keysTransformed)}.`, 'Expected true or false.');
  }
  const dtypes = requestDTypes(request);
  const query = checkRowTensor('query', inputs.query, dtypes.query, request.queryDim, runtime);
  const key = checkRowTensor('key', inputs.key, dtypes.key, inputs.keysTransformed === true ? scoreDim : request.keyDim, runtime);
  const value = checkRowTensor('value', inputs.value, dtypes.value, request.valueDim, runtime);
  checkSameOwner(query, key, value);
  const [batch = 0, heads = 0, queryRows = 0] = query.shape;
  const [keyBatch = 0, keyHeads = 0, keyRows = 0] = key.shape;
  const [valueBatch = 0, valueHeads = 0, valueRows = 0] = value.shape;
  if (keyBatch !== valueBatch || keyHeads !== valueHeads || keyRows !== valueRows) {
    throw new AttentionError('invalid-shape', `key has shape [${key.shape.join(', ')}], value [${value.shape.join(', ')}].`, 'Expected the same batch, heads and length.');
  }
  if (heads === 0 || keyHeads === 0 || heads % keyHeads !== 0) {
    throw new AttentionError('invalid-shape', `query has ${heads} heads, key ${keyHeads}.`, 'Expected a multiple of the key heads, at least one (L6).');
  }
  const pages = checkPages(request, inputs, batch, keyBatch, keyRows, runtime);
  if (pages === null && keyBatch !== batch) throw new AttentionError('invalid-shape', `query has batch ${batch}, key ${keyBatch}.`, 'Expected the same batch: expand a shared tensor with a stride of 0.');
  return { batch, heads, keyHeads, queryRows, keyRows: pages ?? keyRows };
}

/** One of query, key and value: rank 4, the dtype and the width of the request. */
export function checkRowTensor(name: 'query' | 'key' | 'value', given: unknown, dtype: DType, dim: number, runtime: Runtime | undefined): Tensor {
  const tensor = checkTensor(name, given, runtime);
  const { shape } = tensor;
  if (shape.length !== 4 || shape[3] !== dim) {
    throw new AttentionError('invalid-shape', `${name} has shape [${shape.join(', ')}].`, `Expected [batch, heads, length, ${dim}], as in the request.`);
  }
  if (tensor.dtype !== dtype) throw new AttentionError('invalid-dtype', `${name} is ${tensor.dtype}.`, `The request says ${dtype}: set its dtypes.${name}, or convert.`);
  return tensor;
}

/** Without a kernel's runtime to compare with, tensors must at least agree among themselves. */
function checkSameOwner(...tensors: readonly Tensor[]): void {
  const owners = tensors.map(({ runtime }) => runtime).filter((owner) => owner !== null);
  if (owners.some((owner) => owner !== owners[0])) throw new AttentionError('foreign-tensor', 'query, key and value live on different runtimes.', 'Bring them to one.');
}

/**
 * Paged keys and values: [pages, keyHeads, pageLength, dim] and a table of pages for each sequence.
 * @returns keys of each sequence; null when keys are not paged
 */
function checkPages(request: AttentionRequest, inputs: AttentionInputs, batch: number, pageCount: number, pageRows: number, runtime: Runtime | undefined): number | null {
  const given: unknown = inputs.pages;
  const paged = request.storage === 'paged';
  if (given === undefined) {
    if (paged) throw new AttentionError('invalid-argument', "The request says storage 'paged', and no pages are given.", 'Pass pages: { pages, pageLength }.');
    return null;
  }
  if (!paged) throw new AttentionError('invalid-argument', `pages are given, and the request says storage '${request.storage ?? 'contiguous'}'.`, "Set the request's storage to 'paged'.");
  if (inputs.packed !== undefined) throw new AttentionError('invalid-argument', 'pages came with packed sequences.', 'Give each sequence its own entry of the batch.');
  const pageLength: unknown = typeof given === 'object' && given !== null && 'pageLength' in given ? given.pageLength : undefined;
  if (pageLength !== pageRows) throw new AttentionError('invalid-shape', `pages.pageLength is ${show(pageLength)}, and a page of key holds ${pageRows} rows.`, 'Expected the same.');
  const pages = checkTensor('pages.pages', typeof given === 'object' && given !== null && 'pages' in given ? given.pages : undefined, runtime);
  if (pages.dtype !== 'i32') throw new AttentionError('invalid-dtype', `pages.pages is ${pages.dtype}.`, 'Expected i32.');
  const [entries, maxPages = 0] = pages.shape;
  if (pages.shape.length !== 2 || entries !== batch) throw new AttentionError('invalid-shape', `pages.pages has shape [${pages.shape.join(', ')}].`, `Expected [${batch}, most pages of a sequence].`);
  if (isHostTensor(pages)) checkPageNumbers(inputs, pages.view(), pages.strides, batch, maxPages, pageRows, pageCount);
  return maxPages * pageRows;
}

function checkPageNumbers(inputs: AttentionInputs, view: ArrayLike<number>, strides: readonly number[], batch: number, maxPages: number, pageRows: number, pageCount: number): void {
  const [entryStep = 0, step = 0] = strides;
  const lengths: unknown = inputs.keyLengths;
  for (let entry = 0; entry < batch; entry++) {
    const length: unknown = typeof lengths === 'object' && lengths !== null ? Reflect.get(lengths, entry) : maxPages * pageRows;
    const used = Math.min(maxPages, Math.ceil((typeof length === 'number' ? length : 0) / pageRows));
    for (let place = 0; place < used; place++) {
      const page = view[entry * entryStep + place * step] ?? -1;
      if (page < 0 || page >= pageCount) throw new AttentionError('invalid-argument', `pages.pages[${entry}, ${place}] is ${page}.`, `Expected a page from 0 to ${pageCount - 1}.`);
    }
  }
}
