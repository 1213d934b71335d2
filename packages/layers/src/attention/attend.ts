import { allocateArray, isHostTensor, tensor, type AttentionInputs, type AttentionKernel, type HostTensor, type Runtime, type Tensor } from '@heed/core';
import { finalize, merge } from '@heed/core/compute';
import type { HostPartial } from '@heed/core';
import type { CachedKeys } from '../caches/cache.ts';
import { splitHeads } from '../linear.ts';
import type { Temporaries } from '../temporaries.ts';
import type { RowSlice } from './projections.ts';

/** Query rows of a call, as their projection made them. */
export interface QueryRows {
  /** [batch · length, heads · dim] of the rows. */
  readonly rows: RowSlice;
  readonly batch: number;
  readonly heads: number;
  readonly length: number;
  readonly dim: number;
  /** Rows of each sequence that count. */
  readonly lengths?: AttentionInputs['queryLengths'] | undefined;
  /** Positions of the rows, i32 [batch | 1, length], or of the first of each sequence. */
  readonly positions: Positions;
  /** Rows of a gate, [batch · length, heads · valueDim], for the table `gate`. */
  readonly gate?: RowSlice | undefined;
}

export type Positions = Tensor | readonly number[];

/** What else every call of the kernel binds. */
export type CallTables = Pick<AttentionInputs, 'tables' | 'uniforms'>;

/**
 * Attends from these rows to all sets of keys, and writes to `output`, a view [batch, heads, length, valueDim]. One set is one call of the kernel; several are partial
 * results, merged in their order (L13).
 */
export async function attend(temporaries: Temporaries, kernel: AttentionKernel, query: QueryRows, sets: readonly CachedKeys[], call: CallTables, output: Tensor): Promise<void> {
  const [first, ...others] = sets;
  if (first === undefined) return;
  const { runtime } = temporaries;
  if (others.length === 0 && first.shared !== true) {
    const { logSumExp } = kernel.enqueue(inputsOf(runtime, kernel, query, first, call), { into: { output } });
    if (logSumExp !== undefined) temporaries.keep(logSumExp);
    return;
  }
  const partials: HostPartial[] = [];
  for (const keys of sets) partials.push(await partialOver(runtime, kernel, query, keys, call));
  // What completes a merged partial reads the query's side alone, so any set of keys may stand for all.
  const inputs = inputsOf(runtime, kernel, query, sets.find(({ shared }) => shared !== true) ?? first, call);
  const whole = finalize(kernel.request, merge(partials), { ...inputs, query: emptyRows(inputs.query), tables: await tablesOnHost(runtime, inputs.tables) });
  runtime.operations.copy(whole.output, { into: output });
}

/** What the kernel binds for one set of keys. Shared keys see the queries of all sequences as one long sequence. */
function inputsOf(runtime: Runtime, kernel: AttentionKernel, query: QueryRows, { shared = false, ...keys }: CachedKeys, { tables, uniforms }: CallTables): AttentionInputs {
  const { batch, heads, length, dim, lengths, positions, gate } = query;
  const sizes = shared ? { batch: 1, heads, length: batch * length } : { batch, heads, length };
  return {
    ...keys,
    ...(shared ? { queryPositions: eachPosition(positions, batch, length) } : isTensor(positions) ? { queryPositions: positions } : { queryOffset: positions }),
    ...(lengths === undefined || shared ? {} : { queryLengths: lengths }),
    ...(uniforms === undefined ? {} : { uniforms }),
    tables: gate === undefined ? (tables ?? {}) : { ...tables, gate: splitHeads(runtime, gate.rows, { ...sizes, dim: kernel.request.valueDim, start: gate.start }) },
    keysTransformed: true,
    query: splitHeads(runtime, query.rows.rows, { ...sizes, dim, start: query.rows.start }),
  };
}

/** Positions of the rows of all sequences, one after another. */
function eachPosition(positions: Positions, batch: number, length: number): HostTensor {
  const at = (sequence: number, row: number): number => {
    if (!isTensor(positions)) return (positions[sequence] ?? 0) + row;
    if (!isHostTensor(positions)) return row;
    const [sequenceStep = 0, step = 1] = positions.strides;
    return positions.view()[(positions.shape[0] === 1 ? 0 : sequence) * sequenceStep + row * step] ?? 0;
  };
  return tensor(Int32Array.from({ length: batch * length }, (_, index) => at(Math.floor(index / length), index % length)), [1, batch * length]);
}

function isTensor(positions: Positions): positions is Tensor {
  return 'dtype' in positions;
}

/** A partial result on the host, its rows as those of the whole call. */
async function partialOver(runtime: Runtime, kernel: AttentionKernel, query: QueryRows, keys: CachedKeys, call: CallTables): Promise<HostPartial> {
  const { batch, heads, length } = query;
  const { mergeClass, accumulator, statistics } = await kernel.partial(inputsOf(runtime, kernel, query, keys, call));
  const taken = async (made: Tensor, dim: number | null): Promise<HostTensor> => {
    const read = await runtime.read(made);
    if (made.runtime === runtime) runtime.release(made);
    const width = dim ?? 1;
    // Those of shared keys are [1, heads, batch · length, width].
    const [sequenceStep, headStep] = keys.shared === true ? [length, batch * length] : [heads * length, length];
    const last = dim === null ? { shape: [], strides: [] } : { shape: [dim], strides: [1] };
    return tensor(read.view(), [batch, heads, length, ...last.shape], { dtype: read.dtype, strides: [sequenceStep * width, headStep * width, width, ...last.strides] });
  };
  const rows: [string, HostTensor][] = [];
  for (const [name, each] of Object.entries(statistics)) rows.push([name, await taken(each, null)]);
  return { mergeClass, accumulator: await taken(accumulator, kernel.request.valueDim), statistics: Object.fromEntries(rows) };
}

/** The shape of query rows, for those who read nothing else. */
function emptyRows({ shape, dtype }: Tensor): HostTensor {
  return tensor(allocateArray(dtype, 1), shape, { dtype, strides: shape.map(() => 0) });
}

async function tablesOnHost(runtime: Runtime, tables: AttentionInputs['tables'] = {}): Promise<Readonly<Record<string, Tensor>>> {
  const read: Record<string, Tensor> = {};
  for (const [name, table] of Object.entries(tables)) read[name] = table.runtime === null ? table : await runtime.read(table);
  return read;
}
