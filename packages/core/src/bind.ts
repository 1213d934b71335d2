import type { AttentionInputs, AttentionRequest } from './backend.ts';
import type { BlockList } from './block-list.ts';
import type { EdgeList } from './edge-list.ts';
import type { TableDeclaration } from './expression/declarations.ts';
import type { Tensor } from './tensor.ts';

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
