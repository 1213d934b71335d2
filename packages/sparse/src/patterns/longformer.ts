import type { AttentionKernel, Backend, HostTensor, Runtime, Tensor } from '@heed/core';
import type { GatheredBlockList } from '../select/gather.ts';
import { attention, AttentionError, globalTokens, mask, tensor, window, write, type WindowOptions } from '@heed/core';
import { onRuntime } from '../select/pooled-keys.ts';
import { patternOf, type Pattern } from './pattern.ts';

/** Rows and keys of a tile of global rows. */
const tileRows = 32;
const tileKeys = 128;

/**
 * A window, and global tokens that see and are seen by all (Longformer, Beltagy 2020), all of one projection: a pair that both allow counts once. Its tables are {@link globalTables}.
 * Where global rows have projections of their own, use {@link prepareLongformer}.
 *
 * @throws AttentionError `invalid-argument`
 */
export function longformer(options: WindowOptions): Pattern {
  return patternOf(window(options).or(globalTokens()), 'longformer');
}

/**
 * The tables of global tokens at these rows: u8 [1, length] each.
 * @throws AttentionError `invalid-argument` for a row outside the length, or named twice
 */
export function globalTables(globals: readonly number[], length: number): { readonly globalQueries: HostTensor; readonly globalKeys: HostTensor } {
  const marks = new Uint8Array(length);
  for (const row of globals) {
    if (!Number.isSafeInteger(row) || row < 0 || row >= length || marks[row] === 1) throw new AttentionError('invalid-argument', `Got ${row} among the global rows of ${length}.`, 'Expected rows within the length, each once.');
    marks[row] = 1;
  }
  const table = tensor(marks, [1, length]);
  return { globalQueries: table, globalKeys: table };
}

export interface LongformerRequest extends WindowOptions {
  readonly queryDim: number;
  readonly keyDim: number;
  readonly valueDim: number;
}

export interface LongformerInputs {
  /** [batch, heads, length, dim]: projections of every token for the window. */
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
  /** The same with the projections for global attention; of the queries, only global rows are read. */
  readonly globalQuery: Tensor;
  readonly globalKey: Tensor;
  readonly globalValue: Tensor;
  /** Rows of global tokens, the same in every sequence. */
  readonly globals: readonly number[];
}

/** Prepared kernels of one Longformer layer. */
export interface LongformerAttention {
  /** @returns output [batch, heads, length, valueDim], where the query lives */
  readonly run: (inputs: LongformerInputs) => Promise<Tensor>;
  readonly dispose: () => Promise<void>;
}

const either = write('transform', 'either', ({ table }) => table('local', []).at().add(table('global', []).at())).expression;

/**
 * Longformer with projections of its own for global rows (Beltagy 2020, section 3.1), as two calls: rows that are not global see their window and the global keys; global rows see every key of the
 * global projections. Every row is empty in one of the two, so their outputs add up.
 *
 * @param backend takes block lists
 * @throws AttentionError those of `prepare` and of the window
 */
export async function prepareLongformer(backend: Backend, { left, right, ...dims }: LongformerRequest): Promise<LongformerAttention> {
  const rest = mask('rowsThatAreNotGlobal', ({ batch, queryIndex, table }) => table('globalQueries', ['batch', 'queryLength'], 'bool').at(batch, queryIndex).not());
  const keys = mask('globalKeys', ({ batch, keyIndex, table }) => table('globalKeys', ['batch', 'keyLength'], 'bool').at(batch, keyIndex));
  const local = await backend.prepare({ variant: attention({ masking: window({ left, right }).or(keys).and(rest) }), ...dims });
  const global = await backend.prepare({ variant: attention(), ...dims });
  return Object.freeze({
    run: (inputs: LongformerInputs) => run(backend.runtime, local, global, inputs),
    dispose: async () => {
      await Promise.all([local.dispose(), global.dispose()]);
    },
  });
}

async function run(runtime: Runtime, local: AttentionKernel, global: AttentionKernel, inputs: LongformerInputs): Promise<Tensor> {
  const { query, key, value, globalQuery, globalKey, globalValue, globals } = inputs;
  const length = key.shape[2] ?? 0;
  if ((query.shape[2] ?? 0) !== length) throw new AttentionError('invalid-shape', `Got ${query.shape[2] ?? 0} queries and ${length} keys.`, 'Longformer is attention of a sequence to itself.');
  const tables = globalTables(globals, length);
  const held: Tensor[] = [];
  const here = (given: Tensor): Tensor => {
    const own = onRuntime(runtime, given);
    if (own !== given) held.push(own);
    return own;
  };
  try {
    const first = await local.run({ query: here(query), key: here(key), value: here(value), tables });
    held.push(first.output, ...(first.logSumExp === undefined ? [] : [first.logSumExp]));
    const second = await global.run({ query: here(globalQuery), key: here(globalKey), value: here(globalValue), blocks: globalRows(globals, length) });
    held.push(second.output, ...(second.logSumExp === undefined ? [] : [second.logSumExp]));
    const output = runtime.operations.elementwise(either, { local: first.output, global: second.output }, { dtype: first.output.dtype });
    if (query.runtime !== null) return output;
    held.push(output);
    return await runtime.read(output);
  } finally {
    for (const made of held) runtime.release(made);
  }
}

/** Global rows gathered into tiles that see every key; no other row stands in a tile. */
function globalRows(globals: readonly number[], length: number): GatheredBlockList {
  const tiles = Math.max(1, Math.ceil(globals.length / tileRows));
  const columns = Math.max(1, Math.ceil(length / tileKeys));
  const rows = new Int32Array(tiles * tileRows).fill(-1);
  rows.set([...globals].sort((a, b) => a - b));
  const indices = Int32Array.from({ length: tiles * columns }, (_, place) => place % columns);
  const counts = new Int32Array(tiles).fill(globals.length === 0 ? 0 : Math.ceil(length / tileKeys));
  const lead = [1, 1, tiles] as const;
  return {
    blockQuery: tileRows,
    blockKey: tileKeys,
    counts: tensor(counts, lead),
    indices: tensor(indices, [...lead, columns]),
    full: tensor(new Uint8Array(indices.length).fill(1), [...lead, columns]),
    queryRows: tensor(rows, [...lead, tileRows]),
  };
}
