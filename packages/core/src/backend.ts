import type { BlockList } from './block-list.ts';
import type { EdgeList } from './edge-list.ts';
import type { Expression } from './expression/node.ts';
import type { FastWeightVariant } from './fast-weights.ts';
import type { FastWeightInputName } from './fast-weights/rule.ts';
import type { MergeClass, Partial } from './partial.ts';
import type { DType, HostTensor, Tensor } from './tensor.ts';
import type { AttentionVariant } from './variant.ts';

/** The version of this contract. A backend states the one it was written for; `dispatch` and the conformance suite check it when they are given the backend. */
export const contractVersion = 'heed/1' as const;

// ── Runtime ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Where tensors live and code runs. Several backends share one, so a model that mixes them never copies. */
export interface Runtime {
  readonly name: string;
  readonly operations: Operations;
  /** A tensor of undefined content. Dense in the order of `shape`. Throws `out-of-memory` with both numbers, `disposed`. */
  tensor(shape: readonly number[], dtype: DType): Tensor;
  /** Copies a host tensor here. The host may change it as soon as this returns. */
  upload(source: HostTensor): Tensor;
  /** Waits for everything that writes the tensor, then copies it to the host, dense. Rejects with the late error of the call that made it. */
  read(source: Tensor): Promise<HostTensor>;
  /**
   * The same memory with other axes: split, permuted, sliced, or repeated by a stride of 0. No copy; operations and kernels read it, and write into it where they take `into`.
   * It ends with the tensor and is not released itself. Throws `invalid-tensor` where it would leave the tensor.
   *
   * @param strides in elements; default: dense in the order of `shape`
   * @param start   where the view's element 0 stands, in elements from that of the tensor. Default 0
   */
  view(tensor: Tensor, shape: readonly number[], strides?: readonly number[], start?: number): Tensor;
  /** Gives a tensor's memory back, after its last use. Views of it end with it. */
  release(tensor: Tensor): void;
  /** Resolves when everything enqueued so far is done; rejects with the first late error since the last `idle`. */
  idle(): Promise<void>;
  /** Bytes held by live tensors, and the most that were held at once; for claims about memory. */
  memory(): { readonly bytes: number; readonly peakBytes: number };
  /** Ends pending work with `disposed`, frees everything. May be called twice. */
  dispose(): Promise<void>;
}

/** What layers, selectors and projections compute with, and nothing else. All enqueue in order and return at once; shapes broadcast nothing unless said. */
export interface Operations {
  /** a [… , m, k] · b [… , k, n], or b [… , n, k] with `transposed`; leading axes of b may be 1. + bias [n]. */
  matmul(a: Tensor, b: Tensor, options?: { readonly transposed?: boolean; readonly bias?: Tensor; readonly dtype?: DType }): Tensor;
  /** l2, rms or layer norm of the last axis, as the row transform of that name; gain and shift [dim]. */
  rowNorm(x: Tensor, options: { readonly norm: 'l2' | 'rms' | 'layer'; readonly epsilon: number; readonly gain?: Tensor; readonly shift?: Tensor }): Tensor;
  /** One expression over tensors of one shape: the table `name` is read at the element's own place; uniforms by name. */
  elementwise(expression: Expression, tensors: Readonly<Record<string, Tensor>>, options?: { readonly uniforms?: Readonly<Record<string, number>>; readonly dtype?: DType }): Tensor;
  /** Rows `indices` (i32 [… , n]) of x [… , rows, dim] → [… , n, dim]; an index outside throws `invalid-argument` on the host and gives zeros on a device. */
  gather(x: Tensor, indices: Tensor): Tensor;
  /** Over the last axis. */
  reduce(x: Tensor, reduction: 'sum' | 'max' | 'mean'): Tensor;
  /** The k largest of the last axis, descending, lower index first on ties. */
  topK(x: Tensor, k: number): { readonly values: Tensor; readonly indices: Tensor };
  /** y[t, c] = Σ_n weight[c, n] · x[t − taps + 1 + n, c] over x [batch, length, channels]; `tail` [batch, taps − 1, channels] stands before the first row (default zeros). */
  causalConvolution(x: Tensor, weight: Tensor, options?: { readonly tail?: Tensor; readonly bias?: Tensor }): { readonly output: Tensor; readonly tail: Tensor };
  /** Dense copy, converting to `dtype`; into `into` when given. */
  copy(x: Tensor, options?: { readonly dtype?: DType; readonly into?: Tensor }): Tensor;
}

// ── Request ────────────────────────────────────────────────────────────────────────────────────────────────────────────

/**
 * The points of the pipeline that can be looked at (L8): `scores` are combined and scaled, `modified` have passed all modifiers, `masked` are −∞ where a pair is not
 * allowed, `weights` have passed the normalization, before they are reweighed. Pairs of padding (rows past the lengths of the call), and of two packed sequences, are −∞ in
 * `masked` and 0 in the others.
 */
export type ObservedStage = 'scores' | 'modified' | 'masked' | 'weights';

export interface Observe {
  readonly stages: readonly ObservedStage[];
  /** Also the sum of each key's `weights`, before they are reweighed, over the rows looked at. Default false. */
  readonly keyMass?: boolean;
  /** Most bytes that the observed tensors may take; more is refused with `byte-budget`. Default 64 MiB. */
  readonly byteBudget?: number;
}

/** What a gradient can be asked for. */
export type GradientName = 'query' | 'key' | 'value' | `tables.${string}`;

export type StorageForm = 'contiguous' | 'paged' | 'quantised';

/** All that a kernel is compiled for: never batch, lengths, or values of tables and uniforms. */
export interface AttentionRequest {
  readonly variant: AttentionVariant;
  readonly queryDim: number;
  readonly keyDim: number;
  readonly valueDim: number;
  /** Storage types. Default f32 each; output defaults to the query's. */
  readonly dtypes?: { readonly query?: DType; readonly key?: DType; readonly value?: DType; readonly output?: DType };
  /** How keys and values are stored. Default 'contiguous' (any strides). */
  readonly storage?: StorageForm;
  readonly observe?: Observe;
  readonly gradients?: readonly GradientName[];
}

/** What a gradient of a fast-weight variant can be asked for: an input, or a tensor of the initial state. */
export type FastWeightGradientName = 'query' | 'key' | 'value' | FastWeightInputName | `state.${string}`;

export interface FastWeightRequest {
  readonly variant: FastWeightVariant;
  /** Width of query and key rows, and of value rows. */
  readonly dim: number;
  readonly valueDim: number;
  /** Storage types. Default f32 each; output defaults to the query's. Inputs beside query, key and value may be of any float type. */
  readonly dtypes?: { readonly query?: DType; readonly key?: DType; readonly value?: DType; readonly output?: DType };
  readonly gradients?: readonly FastWeightGradientName[];
}

export type Request = AttentionRequest | FastWeightRequest;

/** What a request is about: rows of weights, or a state that the sequence rewrites. */
export type Variant = AttentionVariant | FastWeightVariant;

/** Sizes of a call, for estimates and explanations. */
export interface CallShape {
  readonly batch: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly queryLength: number;
  readonly keyLength: number;
  /** Edges of the call's list. Default: every pair. */
  readonly edges?: number;
}

// ── Assessment ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/** One reason why a request cannot be done. */
export interface Refusal {
  /** What stands in the way. */
  readonly stage: 'scoring' | 'masking' | 'normalization' | 'aggregation' | 'rule' | 'dtype' | 'dims' | 'storage' | 'observe' | 'gradients' | 'shape';
  readonly reason: string;
  /** What would make it supported. */
  readonly remedy: string;
}

export interface CostEstimate {
  /** 2 · allowed pairs · (scoreDim + valueDim); exponentials are not counted. */
  readonly flops: number;
  /** Read from and written to memory at least. */
  readonly bytes: number;
  /** Beyond inputs and outputs. */
  readonly peakBytes: number;
  /** A guess of the time, for choosing among backends of one runtime. */
  readonly milliseconds: number;
}

export type Assessment =
  | { readonly supported: true; readonly plan: string; readonly cost?: CostEstimate }
  | { readonly supported: false; readonly refusals: readonly Refusal[] };

// ── Capabilities ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a backend can do, declared here and nowhere else. Where something is absent, the conformance suite runs its refusal test instead. */
export interface Capabilities {
  readonly variants: readonly Variant['kind'][];
  /** Storage types of query, key, value and output. */
  readonly dtypes: readonly DType[];
  readonly logSumExp: boolean;
  readonly partial: boolean;
  readonly blocks: boolean;
  readonly edges: boolean;
  readonly packed: boolean;
  readonly explicitPositions: boolean;
  readonly transformKeys: boolean;
  readonly observe: readonly ObservedStage[];
  readonly keyMass: boolean;
  /** Which gradients `prepare` takes: all of them, or none. */
  readonly gradients: boolean;
  readonly storage: readonly StorageForm[];
  /** A call can be stopped between slices. */
  readonly abort: boolean;
  /** 'exact': NaN and +∞ at allowed positions make the row NaN; 'unspecified': only finite inputs are defined there (L1). */
  readonly nonFinite: 'exact' | 'unspecified';
  /** Same inputs, same bits (L14). */
  readonly deterministic: boolean;
  /** Widest rows taken, for queries, keys and values alike. */
  readonly maxDim: number;
}

// ── Backend and kernels ────────────────────────────────────────────────────────────────────────────────────────────────

/** Turns a request into a kernel on one runtime. */
export interface Backend {
  readonly contract: typeof contractVersion;
  readonly name: string;
  readonly runtime: Runtime;
  readonly capabilities: Capabilities;
  /** Pure and fast: whether and how, or every reason why not. */
  assess(request: Request, shape?: CallShape): Assessment;
  /** Compiles, once per structure. Rejects with `unsupported` naming every reason of `assess`. */
  prepare(request: AttentionRequest): Promise<AttentionKernel>;
  prepare(request: FastWeightRequest): Promise<FastWeightKernel>;
  /** Frees the kernels, not the runtime. May be called twice. */
  dispose(): Promise<void>;
}

/** A position offset: a number for all sequences, one for each, 'start' (0), or 'end' (keyLength − queryLength), which only queries take. */
export type PositionOffset = number | readonly number[] | Int32Array;

/** Numbers of a call that stand on the host: plain or in an array. */
export type Integers = readonly number[] | Int32Array;

/**
 * Everything a call binds. Host tensors are copied before `enqueue` returns.
 * Packed sequences: batch 1, rows of all sequences one after another, and `packed` with the cumulative offsets [0, …, total]; then "batch" in positions, lengths, expressions and table axes means the sequence.
 */
export interface AttentionInputs {
  /** [batch, heads, queryLength, queryDim] */
  readonly query: Tensor;
  /** [batch, keyHeads, keyLength, keyDim]; with `keysTransformed`, what `transformKeys` returned. */
  readonly key: Tensor;
  /** [batch, keyHeads, keyLength, valueDim] */
  readonly value: Tensor;
  /** Every table that the variant declares. */
  readonly tables?: Readonly<Record<string, Tensor>>;
  /** Values that replace the defaults of uniforms. */
  readonly uniforms?: Readonly<Record<string, number>>;
  /** Position of query row 0 (L3). Required when lengths differ and the variant depends on positions, unless positions are explicit. */
  readonly queryOffset?: PositionOffset | 'start' | 'end';
  /** Position of key row 0. Default 0. */
  readonly keyOffset?: PositionOffset;
  /** i32 [batch | 1, queryLength], any order; replaces the offset. Packed: [1, total rows]. */
  readonly queryPositions?: Tensor;
  readonly keyPositions?: Tensor;
  /** Rows of each sequence that count; the rest is padding on the right: its keys are not seen, its query rows are empty (L1). Default: all. */
  readonly queryLengths?: Integers;
  readonly keyLengths?: Integers;
  /** Keys of each whole sequence when `key` is one shard of it: what `keyLength` means in expressions (L13). Default: the keys given. */
  readonly totalKeyLengths?: Integers;
  readonly packed?: { readonly query: Integers; readonly key: Integers };
  /** What random numbers are keyed by (L14). Default 0, 1, …. */
  readonly sequenceIds?: Integers;
  /** Index of head 0 among all heads of the layer, for random numbers; tables are given for the heads at hand. Default 0. */
  readonly headOffset?: number;
  readonly blocks?: BlockList;
  readonly edges?: EdgeList;
  readonly pages?: PageTable;
  readonly keysTransformed?: boolean;
  /** Which rows and heads the observed stages show. Default: all. */
  readonly observe?: { readonly heads?: Integers; readonly rows?: Integers };
}

/** Keys and values in pages: page p of sequence b stands at `pages[b, p]` of key and value [pageCount, keyHeads, pageLength, dim]. */
export interface PageTable {
  /** i32 [batch, maxPages]; entries past a sequence's length mean nothing. */
  readonly pages: Tensor;
  readonly pageLength: number;
}

/** The part of an `AbortSignal` that heed uses. */
export interface StopSignal {
  readonly aborted: boolean;
  readonly reason?: unknown;
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

export interface EnqueueOptions {
  /** Tensors of this runtime to write to, of the right shape and dtype. */
  readonly into?: { readonly output?: Tensor; readonly logSumExp?: Tensor };
}

export interface RunOptions extends EnqueueOptions {
  /** Stops the call between slices of at most 10 ms; the promise rejects with `aborted`. */
  readonly signal?: StopSignal;
}

export interface AttentionOutputs<T extends Tensor = Tensor> {
  /** [batch, heads, queryLength, valueDim] */
  readonly output: T;
  /**
   * f32 [batch, heads, queryLength], natural logarithm, sink included (L5); softmax family only. An empty row's is −∞; with a sink it is the sink, and then no
   * gradient flows from it (L1).
   */
  readonly logSumExp?: T;
  /** f32 [batch, observed heads, observed rows, keyLength] for each stage asked for; padding as {@link ObservedStage} has it. */
  readonly observed?: Readonly<globalThis.Partial<Record<ObservedStage, T>>>;
  /** f32 [batch, observed heads, keyLength]: the sum of `weights` over the observed rows, before they are reweighed. */
  readonly keyMass?: T;
  /** What `backward` needs; only when gradients were requested. */
  readonly saved?: Saved;
}

declare const savedBrand: unique symbol;
/** Opaque: handed from a forward call to `backward` of the same kernel. */
export interface Saved {
  readonly [savedBrand]: true;
}

export interface OutputGradients {
  readonly output: Tensor;
  /** Gradient of the logSumExp output; that of an empty row is ignored (L1). Default zero. */
  readonly logSumExp?: Tensor;
}

/** Gradients by the names requested, in the shapes of their inputs. */
export type Gradients<T extends Tensor = Tensor> = Readonly<Record<string, T>>;

/** A compiled request. It holds its prefill and decode programs and picks at each call. */
export interface AttentionKernel {
  readonly request: AttentionRequest;
  /** Null where partial results refuse (threshold and selection classes). */
  readonly mergeClass: MergeClass | null;
  /** Validates, then returns this runtime's tensors at once, in order with everything else enqueued. A late error poisons them and rejects at `read` or `idle`. */
  enqueue(inputs: AttentionInputs, options?: EnqueueOptions): AttentionOutputs;
  /** Enqueue plus completion. The outputs live where the query lives: host tensors for a host query. */
  run(inputs: AttentionInputs, options?: RunOptions): Promise<AttentionOutputs>;
  /** The result over the keys given, before sink and finish, for `merge` and `finalize`. Rejects with `merge-refused`. */
  partial(inputs: AttentionInputs, options?: RunOptions): Promise<Partial>;
  /** The rows k' of these keys, once and for all, for a cache: [batch, keyHeads, keyLength, scoreDim]. Takes the inputs that key transforms read. */
  transformKeys(inputs: Pick<AttentionInputs, 'key' | 'tables' | 'uniforms' | 'keyOffset' | 'keyPositions' | 'packed'>): Promise<Tensor>;
  /**
   * `transformKeys` in order with everything else enqueued: this runtime's tensor at once, and nobody waits. A cache takes the keys of a decoding step by it. Callers use
   * `transformKeys` where a kernel lacks it.
   */
  enqueueKeys?(inputs: Parameters<AttentionKernel['transformKeys']>[0]): Tensor;
  /** Only when gradients were requested. */
  backward(inputs: AttentionInputs, saved: Saved, outputGradients: OutputGradients): Promise<Gradients>;
  explain(about: CallShape | AttentionInputs): Explanation;
  /** Waits for the last use. May be called twice; every later call of another method rejects with `disposed`. */
  dispose(): Promise<void>;
}

/** Named tensors that a rule carries from one segment to the next, float32 or wider; `stateShapes` says which and how large. */
export type FastWeightState<T extends Tensor = Tensor> = Readonly<Record<string, T>>;

/**
 * What a call of a fast-weight kernel binds. A rule takes exactly the inputs that it reads (`inputsOfRule`).
 * Value head h reads query and key head floor(h · heads / valueHeads). Axes written `n | 1` may have size 1, which repeats.
 */
export interface FastWeightInputs {
  /** [batch, heads, length, dim] */
  readonly query: Tensor;
  /** [batch, heads, length, dim] */
  readonly key: Tensor;
  /** [batch, valueHeads, length, valueDim]; valueHeads a multiple of heads. */
  readonly value: Tensor;
  /** Natural logarithm of the decay, ≤ 0; −∞ forgets everything. [batch | 1, valueHeads | 1, length | 1] for a decay by step, length 1 for one by head, [… , width] for one of each channel. */
  readonly logDecay?: Tensor;
  /** [batch, valueHeads, length]: β of the delta rules, Δ of Mamba-2, the gate of the learning rate of TTT, θ of Titans. */
  readonly writeStrength?: Tensor;
  /** Unit rows [batch, valueHeads, length, width] that RWKV-7 recalls and removes by. */
  readonly removalKey?: Tensor;
  /** 0 … 1, [batch, valueHeads, length, width]. */
  readonly removalWeight?: Tensor;
  /** η of Titans, [batch, valueHeads, length]. */
  readonly momentum?: Tensor;
  readonly tables?: Readonly<Record<string, Tensor>>;
  readonly uniforms?: Readonly<Record<string, number>>;
  /** Position of row 0, for all sequences or for each; what row transforms read as position. Default 0; after a state, the tokens that it has seen. */
  readonly offset?: number | Integers;
  /** Cumulative offsets [0, …, length] of packed sequences, batch 1; the state begins anew at each. */
  readonly packed?: Integers;
  /** Default: the rule's own beginning, zeros for recurrent rules, the tables for the rest. */
  readonly state?: FastWeightState;
}

export interface FastWeightOutputs<T extends Tensor = Tensor> {
  /** [batch, valueHeads, length, valueDim] */
  readonly output: T;
  /** The state after the last token. Packed: one for each sequence, along the batch axis. */
  readonly state: FastWeightState<T>;
  readonly saved?: Saved;
}

/** A compiled request; the methods are those of {@link AttentionKernel}. */
export interface FastWeightKernel {
  readonly request: FastWeightRequest;
  enqueue(inputs: FastWeightInputs): FastWeightOutputs;
  run(inputs: FastWeightInputs, options?: { readonly signal?: StopSignal }): Promise<FastWeightOutputs>;
  /** Gradients of what was requested, from those of the output and, where given, of the final state. */
  backward(inputs: FastWeightInputs, saved: Saved, outputGradients: { readonly output: Tensor; readonly state?: FastWeightState }): Promise<Gradients>;
  explain(): Explanation;
  dispose(): Promise<void>;
}

/** What a kernel would do, for people. */
export interface Explanation {
  readonly backend: string;
  /** The plan in sentences: path, tile sizes, threads, precision. */
  readonly plan: readonly string[];
  /** Share of tiles that are skipped, full and mixed, when a shape or inputs were given. */
  readonly tiles?: { readonly total: number; readonly empty: number; readonly full: number; readonly mixed: number };
  readonly cost?: CostEstimate;
  /** What else could have been picked, and why it was not. */
  readonly alternatives: readonly { readonly name: string; readonly reason: string }[];
  /** Generated code as text, by program. */
  readonly code: Readonly<Record<string, string>>;
}
