import type { AttentionInputs, AttentionKernel, AttentionRequest, RunOptions, Runtime } from './backend.ts';
import type { BlockList } from './block-list.ts';
import type { EdgeList } from './edge-list.ts';
import { AttentionError } from './errors.ts';
import type { TableDeclaration } from './expression/declarations.ts';
import type { Tensor } from './tensor.ts';
import type { PlaneSizes } from './validate/block-list.ts';
import { checkBlockList } from './validate/block-list.ts';
import { checkEdgeList } from './validate/edge-list.ts';
import { checkIntegers, largestInteger } from './validate/integers.ts';
import { checkOptions } from './validate/options.ts';
import { checkInto, checkObserved } from './validate/outputs.ts';
import { checkRanges } from './validate/ranges.ts';
import { checkRequest, requestDTypes } from './validate/request.ts';
import { checkInputNames, checkRows, checkRowTensor } from './validate/rows.ts';
import { bindKeySequences, bindSequences } from './validate/sequences.ts';
import { show } from './show.ts';
import type { Structure } from './validate/structure.ts';
import { bindTables, checkTransformTables } from './validate/tables.ts';
import { bindUniforms, defaultUniforms } from './validate/uniforms.ts';


/** One sequence of a call: a batch entry, or a packed sequence. */
export interface BoundSequence {
  /** What random numbers are keyed by. */
  readonly id: number;
  /** Which sequence of the call: `batch` in expressions, and the index of a `batch` axis of tables. */
  readonly batch: number;
  /** Index on axis 0 of query, key and value: 0 when packed. */
  readonly tensorBatch: number;
  /** Its rows of the query tensor start here, and how many the tensor holds for it. */
  readonly queryStart: number;
  readonly queryRows: number;
  readonly keyStart: number;
  readonly keyRows: number;
  /** Rows that count; those after them are padding. `queryLength` in expressions. */
  readonly queryLength: number;
  readonly keyLength: number;
  /** `keyLength` in expressions: keys of the whole sequence, of which these may be a shard. */
  readonly totalKeyLength: number;
  /** Position of row i: positions[i] if there are any, else offset + i. */
  readonly queryOffset: number;
  readonly queryPositions: Int32Array | null;
  readonly keyOffset: number;
  readonly keyPositions: Int32Array | null;
}

/** A table with the strides to read it by: 0 along an axis of size 1 that repeats. */
export interface BoundTable {
  readonly declaration: TableDeclaration;
  readonly tensor: Tensor;
  /** Sizes that indices range over, after repetition. */
  readonly sizes: readonly number[];
  readonly strides: readonly number[];
}

/** A checked call, with every default and every convenience resolved. Backends read this and ask no further questions. */
export interface BoundCall {
  readonly request: AttentionRequest;
  readonly inputs: AttentionInputs;
  readonly heads: number;
  readonly keyHeads: number;
  /** Width of the rows that are combined. */
  readonly scoreDim: number;
  /** Rows of the query tensor for each entry of its axis 0, and keys likewise. */
  readonly queryRows: number;
  readonly keyRows: number;
  readonly sequences: readonly BoundSequence[];
  readonly uniforms: Readonly<Record<string, number>>;
  readonly tables: Readonly<Record<string, BoundTable>>;
  readonly headOffset: number;
  readonly blocks: BlockList | null;
  readonly edges: EdgeList | null;
  readonly keysTransformed: boolean;
  /** [batch, heads, queryLength, valueDim] and [batch, heads, queryLength]. */
  readonly outputShape: readonly number[];
  readonly rowShape: readonly number[];
}

/** Checks the calls of one request. It holds what follows from the request alone, so that a call is bound in microseconds. */
export interface Binder {
  readonly request: AttentionRequest;
  /** Width of the rows that are combined. */
  readonly scoreDim: number;
  /**
   * Checks everything about a call that needs no backend, and resolves its defaults.
   *
   * @throws AttentionError whose code says what is wrong: see docs/errors.md. Nothing was written and nothing is held.
   */
  readonly bind: (inputs: AttentionInputs, options?: RunOptions) => BoundCall;
  /** The same for `transformKeys`: only what key transforms read is needed and checked. */
  readonly bindKeys: (inputs: KeyInputs) => BoundKeys;
}

/** What `transformKeys` takes. */
export type KeyInputs = Parameters<AttentionKernel['transformKeys']>[0];

/** Checked inputs of `transformKeys`: the key heads are all the heads there are, and sequences have no query rows. */
export type BoundKeys = Pick<BoundCall, 'request' | 'heads' | 'keyHeads' | 'scoreDim' | 'keyRows' | 'sequences' | 'uniforms' | 'tables' | 'headOffset' | 'keysTransformed' | 'edges'>;

export interface BinderOptions {
  /** Tensors of another runtime are refused with `foreign-tensor`. Default: they may be anyone's. */
  readonly runtime?: Runtime;
}

/**
 * Checks a request and returns what checks its calls. A kernel makes one when it is prepared: it holds what follows from the request alone, so that a call is bound in microseconds.
 *
 * @throws AttentionError as {@link checkRequest}
 */
export function createBinder(request: AttentionRequest, options: BinderOptions = {}): Binder {
  const structure = checkRequest(request);
  const uniforms = defaultUniforms(request.variant, structure.queryWidth);
  const context: Context = { request, structure, uniforms, runtime: options.runtime };
  return Object.freeze({
    request,
    scoreDim: structure.queryWidth,
    bind: (inputs: AttentionInputs, run: RunOptions = {}) => bindCall(context, inputs, run),
    bindKeys: (inputs: KeyInputs) => bindKeyInputs(context, inputs),
  });
}

/**
 * Checks a request and one call of it. Kernels, which bind many calls, keep a {@link createBinder} instead.
 *
 * @throws AttentionError as {@link Binder.bind} and {@link checkRequest}
 */
export function bind(request: AttentionRequest, inputs: AttentionInputs, options: RunOptions = {}): BoundCall {
  return createBinder(request).bind(inputs, options);
}

interface Context {
  readonly request: AttentionRequest;
  readonly structure: Structure;
  /** Defaults as numbers. */
  readonly uniforms: Readonly<Record<string, number>>;
  readonly runtime: Runtime | undefined;
}

function bindCall({ request, structure, uniforms: defaults, runtime }: Context, inputs: AttentionInputs, options: RunOptions): BoundCall {
  const { variant } = request;
  const scoreDim = structure.queryWidth;
  checkOptions(options);
  const sizes = checkRows(request, inputs, scoreDim, runtime);
  const { batch, heads, keyHeads, queryRows } = sizes;
  const sequences = bindSequences(inputs, sizes, structure.positionDependent);
  const uniforms = bindUniforms(variant, defaults, inputs.uniforms);
  const queryLength = longest(sequences, 'queryRows');
  const keyLength = longest(sequences, 'keyRows');
  const { queryDim, keyDim, valueDim } = request;
  const tables = bindTables(variant.tables, inputs.tables, { batch: sequences.length, head: heads, keyHead: keyHeads, queryLength, keyLength, queryDim, keyDim, valueDim, scoreDim, edge: edgesOf(inputs, structure) }, runtime);
  checkTransformTables(structure.transforms, tables);
  const outputShape = [batch, heads, queryRows, valueDim];
  const rowShape = [batch, heads, queryRows];
  checkInto(request, options.into, outputShape, rowShape, runtime);
  checkObserved(request, inputs, { batch, heads, queryRows, keyRows: sizes.keyRows });
  checkLists(inputs, { batch: sequences.length, heads, queryRows: queryLength, keyRows: keyLength }, sizes, runtime);
  const call: BoundCall = {
    request,
    inputs,
    heads,
    keyHeads,
    scoreDim,
    queryRows,
    keyRows: inputs.pages === undefined ? sizes.keyRows : inputs.pages.pageLength,
    sequences,
    uniforms,
    tables,
    headOffset: checkHeadOffset(inputs.headOffset),
    blocks: inputs.blocks ?? null,
    edges: inputs.edges ?? null,
    keysTransformed: inputs.keysTransformed ?? false,
    outputShape,
    rowShape,
  };
  if (structure.obligations.length > 0) checkRanges(call, structure.obligations);
  return call;
}

function bindKeyInputs({ request, structure, uniforms: defaults, runtime }: Context, inputs: KeyInputs): BoundKeys {
  const { variant, queryDim, keyDim, valueDim } = request;
  const scoreDim = structure.queryWidth;
  const given: unknown = inputs;
  if (typeof given !== 'object' || given === null) throw new AttentionError('invalid-argument', `Got ${show(given)} for the inputs.`, 'Pass { key }.');
  checkInputNames(inputs);
  const key = checkRowTensor('key', inputs.key, requestDTypes(request).key, keyDim, runtime);
  const [batch = 0, keyHeads = 0, keyRows = 0] = key.shape;
  if (keyHeads === 0) throw new AttentionError('invalid-shape', 'key has no heads.', 'Expected at least one.');
  const sequences = bindKeySequences(inputs, { batch, queryRows: 0, keyRows });
  const uniforms = bindUniforms(variant, defaults, inputs.uniforms);
  const transforms = structure.transforms.filter(({ side }) => side === 'key');
  const needed = new Set(transforms.flatMap(({ transform }) => Object.keys(transform.tables)));
  const sizes = { batch: sequences.length, head: keyHeads, keyHead: keyHeads, queryLength: 0, keyLength: longest(sequences, 'keyRows'), queryDim, keyDim, valueDim, scoreDim, edge: 0 };
  const tables = bindTables(variant.tables, inputs.tables, sizes, runtime, needed);
  checkTransformTables(transforms, tables);
  const call: BoundKeys = { request, heads: keyHeads, keyHeads, scoreDim, keyRows, sequences, uniforms, tables, headOffset: 0, keysTransformed: false, edges: null };
  checkRanges(call, structure.obligations.filter(({ side }) => side === 'key'));
  return call;
}

function longest(sequences: readonly BoundSequence[], rows: 'queryRows' | 'keyRows'): number {
  let most = 0;
  for (const sequence of sequences) most = Math.max(most, sequence[rows]);
  return most;
}

/** How many edges the call lists; the list itself is checked later. @throws AttentionError `invalid-edges` where the variant reads them and there are none */
function edgesOf({ edges }: AttentionInputs, { readsEdges }: Structure): number {
  const keys: unknown = typeof edges === 'object' && (edges as unknown) !== null ? edges.keys : undefined;
  if (readsEdges && edges === undefined) throw new AttentionError('invalid-edges', 'The variant reads the edges of a graph, and no edges are given.', 'Pass { edges }; edgeList(pairs) makes one.');
  return typeof keys === 'object' && keys !== null ? (edges?.keys.shape[0] ?? 0) : 0;
}

function checkHeadOffset(given: unknown): number {
  if (given === undefined) return 0;
  return checkIntegers('headOffset', [given], null, 0, largestInteger, 'invalid-argument')[0] ?? 0;
}

/** @param rows of the tensors, which edges join even where there are no sequences */
function checkLists(inputs: AttentionInputs, sizes: PlaneSizes, rows: { readonly queryRows: number; readonly keyRows: number }, runtime: Runtime | undefined): void {
  const { blocks, edges } = inputs;
  if (blocks !== undefined) checkBlockList(blocks, sizes, runtime);
  if (edges === undefined) return;
  if (blocks !== undefined) throw new AttentionError('invalid-argument', 'Both blocks and edges are given.', 'Each says which pairs exist: pass one of them.');
  if (inputs.packed !== undefined) throw new AttentionError('invalid-edges', 'edges came with packed sequences.', 'Leave packed out: the edge list alone keeps the sequences apart.');
  checkEdgeList(edges, rows, runtime);
}
