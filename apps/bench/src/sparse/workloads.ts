import type { AttentionInputs, AttentionKernel, HostTensor, Tensor } from '@heed/core';
import { attention, causal, isHostTensor, toFloat64, window } from '@heed/core';
import { bigBirdBlocks, gatherQueries, globalTables, longformer, selectMoba, splitLongTiles, type SparseBackend } from '@heed/sparse';

/** Sizes that all workloads of the suite have. */
export const heads = 8;
export const dim = 64;

/** Dense inputs on the runtime, and the same on the host. */
export interface SparseInputs {
  readonly here: Pick<AttentionInputs, 'query' | 'key' | 'value'> & Readonly<Record<'query' | 'key' | 'value', Tensor>>;
  readonly host: Readonly<Record<'query' | 'key' | 'value', HostTensor>>;
}

/** A workload that is ready to be timed. */
export interface PreparedSparse {
  /** One call, the making of lists and choices included. The outputs are the caller's to release. */
  readonly run: () => Promise<{ readonly output: Tensor; readonly logSumExp?: Tensor }>;
  /** Keys of one query of one head, by the pattern's definition: what the float64 comparison reads. */
  readonly keysOf: (head: number, row: number) => readonly number[];
  /** Pairs that count as useful, over all heads: those that are allowed; of block patterns those of the active blocks. */
  readonly pairs: number;
  readonly close: () => Promise<void>;
}

export interface SparseWorkload {
  readonly id: string;
  readonly length: number;
  /** Timed beside it: dense causal attention of the same length, and ONNX Runtime's GroupQueryAttention with the window of this many keys before the query's own. */
  readonly peers: { readonly dense: boolean; readonly window: number | null };
  readonly prepare: (backend: SparseBackend, inputs: SparseInputs) => Promise<PreparedSparse>;
}

const left = 255;
const dims = { queryDim: dim, keyDim: dim, valueDim: dim } as const;

function range(from: number, to: number): readonly number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, index) => from + index);
}

function prepared(kernel: AttentionKernel, run: PreparedSparse['run'], keysOf: PreparedSparse['keysOf'], pairs: number): PreparedSparse {
  return { run, keysOf, pairs, close: () => kernel.dispose() };
}

function windowed(length: number): SparseWorkload {
  return {
    id: `prefill-window?heads=${heads},lq=${length},dim=${dim},left=${left}`,
    length,
    // ONNX Runtime would hold all scores at once, so it is asked at the shortest length.
    peers: { dense: length <= 16_384, window: length === 8192 ? left : null },
    prepare: async (backend, { here }) => {
      const kernel = await backend.prepare({ variant: attention({ masking: causal().and(window({ left, right: 0 })) }), ...dims });
      return prepared(kernel, () => kernel.run(here), (_head, row) => range(Math.max(0, row - left), row + 1), heads * ((left + 1) * length - (left * (left + 1)) / 2));
    },
  };
}

const block = 64;

function bigBird(length: number): SparseWorkload {
  return {
    id: `pattern/big-bird?heads=${heads},lq=${length},dim=${dim},block=${block}`,
    length,
    peers: { dense: length === 16_384, window: null },
    prepare: async (backend, { here }) => {
      const kernel = await backend.prepare({ variant: attention(), ...dims });
      const { counts, indices, queryRows, blockQuery } = bigBirdBlocks({ length });
      const [count, index, rows] = [toFloat64(counts), toFloat64(indices), queryRows !== undefined && isHostTensor(queryRows) ? toFloat64(queryRows) : null];
      const capacity = indices.shape[3] ?? 0;
      const tileRow = (tile: number): number => (rows === null ? tile : Math.floor((rows[tile * blockQuery] ?? -1) / blockQuery));
      const keysOf = (_head: number, row: number): readonly number[] =>
        [...count.keys()].filter((tile) => tileRow(tile) === Math.floor(row / block)).flatMap((tile) => range(0, count[tile] ?? 0).flatMap((place) => {
          const first = (index[tile * capacity + place] ?? 0) * block;
          return range(first, first + block);
        }));
      const active = count.reduce((sum, own) => sum + own, 0);
      return prepared(kernel, () => kernel.run({ ...here, blocks: bigBirdBlocks({ length }) }), keysOf, heads * active * block * block);
    },
  };
}

const side = 256;

function longformerOf(length: number): SparseWorkload {
  return {
    id: `pattern/longformer?heads=${heads},lq=${length},dim=${dim},window=${2 * side},globals=1`,
    length,
    peers: { dense: length === 16_384, window: null },
    prepare: async (backend, { here }) => {
      const kernel = await backend.prepare({ variant: attention({ masking: longformer({ left: side, right: side }).masking }), ...dims });
      const tables = globalTables([0], length);
      // The pattern and its tables stay, so the list is made once, as a layer would.
      const blocks = splitLongTiles(longformer({ left: side, right: side }).blocks({ queryLength: length, keyLength: length, blockQuery: 32, blockKey: 16, tables }), length);
      const keysOf = (_head: number, row: number): readonly number[] => (row === 0 ? range(0, length) : range(0, length).filter((key) => key === 0 || Math.abs(key - row) <= side));
      // Of the window, cut at both ends; the global row, and the global key where the window does not have it.
      const pairs = (2 * side + 1) * length - side * (side + 1) + (length - side - 1) * 2;
      return prepared(kernel, () => kernel.run({ ...here, tables, blocks }), keysOf, heads * pairs);
    },
  };
}

function moba(length: number): SparseWorkload {
  const options = { blockLength: 512, count: 3 };
  return {
    id: `select/moba?heads=${heads},lq=${length},dim=${dim},block=${options.blockLength},count=${options.count}`,
    length,
    peers: { dense: true, window: null },
    prepare: async (backend, { here, host }) => {
      const kernel = await backend.prepare({ variant: attention({ masking: causal() }), ...dims });
      const run = async (): ReturnType<PreparedSparse['run']> => {
        const selection = await selectMoba(backend.runtime, here, options);
        return kernel.run({ ...here, blocks: gatherQueries(selection, { causalOffset: 0 }) });
      };
      const means = meansOf(host.key, options.blockLength);
      const query = toFloat64(host.query);
      const keysOf = (head: number, row: number): readonly number[] => {
        const own = Math.floor(row / options.blockLength);
        const gates = range(0, own).map((candidate) => range(0, dim).reduce((sum, channel) => sum + (query[(head * length + row) * dim + channel] ?? 0) * (means[(head * Math.floor(length / options.blockLength) + candidate) * dim + channel] ?? 0), 0));
        const best = [...gates.keys()].sort((a, b) => (gates[b] ?? 0) - (gates[a] ?? 0) || a - b).slice(0, options.count - 1);
        return [...best, own].sort((a, b) => a - b).flatMap((chosen) => range(chosen * options.blockLength, Math.min(row + 1, (chosen + 1) * options.blockLength)));
      };
      // The own block half, on average, and as many before it as there are, up to two.
      const { blockLength } = options;
      const pairs = range(0, length / blockLength).reduce((sum, own) => sum + (blockLength * (blockLength + 1)) / 2 + Math.min(own, options.count - 1) * blockLength * blockLength, 0);
      return prepared(kernel, run, keysOf, heads * pairs);
    },
  };
}

/** Mean key of each whole block, in float64: [heads, blocks, dim]. */
function meansOf(key: HostTensor, blockLength: number): Float64Array {
  const values = toFloat64(key);
  const length = key.shape[2] ?? 0;
  const blocks = Math.floor(length / blockLength);
  const means = new Float64Array(heads * blocks * dim);
  for (let head = 0; head < heads; head++) for (let row = 0; row < blocks * blockLength; row++) for (let channel = 0; channel < dim; channel++) {
    const at = (head * blocks + Math.floor(row / blockLength)) * dim + channel;
    means[at] = (means[at] ?? 0) + (values[(head * length + row) * dim + channel] ?? 0) / blockLength;
  }
  return means;
}

const lengths = [8192, 16_384, 32_768, 65_536] as const;

export const sparseWorkloads: readonly SparseWorkload[] = [...lengths.map(windowed), ...lengths.map(bigBird), ...lengths.map(longformerOf), moba(32_768)];
