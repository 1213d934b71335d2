import type { AttentionKernel, Backend, HostTensor, Runtime, Tensor } from '@heed/core';
import type { HostBlockList } from '@heed/core/compute';
import { attention, AttentionError, causal, modifier, scaledDot, tensor, toFloat64, type Term } from '@heed/core';
import { merge, TileRuns } from '@heed/core/compute';
import type { LshChoice } from './lsh.ts';
import { onRuntime } from './pooled-keys.ts';

export interface LshInputs {
  /** [batch, heads, length, dim]: queries, and before their norm the keys. */
  readonly query: Tensor;
  /** [batch, heads, length, valueDim] */
  readonly value: Tensor;
  /** Of `selectLsh`, over these queries. */
  readonly choice: LshChoice;
}

/** A prepared kernel of LSH attention. */
export interface LshAttention {
  /** @returns output [batch, heads, length, valueDim], where the query lives */
  readonly run: (inputs: LshInputs) => Promise<Tensor>;
  readonly dispose: () => Promise<void>;
}

/** Of a row's own key, so that it is used only when nothing else is there (Kitaev 2020, section 2). */
const selfPenalty = 1e5;

/**
 * Attention within hash chunks (Reformer, Kitaev 2020): keys are the queries at length 1; a row sees its own chunk and the one before it, keys up to its position, itself only where it sees nothing
 * else; the first chunk has none before it. Rounds are merged by their logSumExp, and a pair that n rounds have counts for ln n less in each, so that it counts once.
 *
 * @param backend takes block lists
 * @param dims    `rounds` is that of the choices to come
 * @throws AttentionError those of `prepare`
 */
export async function prepareLsh(backend: Backend, { dim, valueDim, rounds }: { readonly dim: number; readonly valueDim: number; readonly rounds: number }): Promise<LshAttention> {
  const notSelf = modifier('notSelf', ({ score, queryPosition, keyPosition }) => score.sub(queryPosition.eq(keyPosition).select(selfPenalty, 0)));
  const once = modifier('once', ({ score, batch, queryIndex, keyIndex, table }) => {
    const shared = Array.from({ length: rounds }, (_, round): Term<'f32'> => {
      const own = table(`queryChunks${round}`, ['batch', 'queryLength'], 'i32').at(batch, queryIndex);
      const back = own.sub(table(`keyChunks${round}`, ['batch', 'keyLength'], 'i32').at(batch, keyIndex));
      return back.ge(0).and(back.le(1)).select(1, 0);
    });
    return score.sub(shared.reduce((sum, term) => sum.add(term)).max(1).log());
  });
  const variant = attention({ scoring: scaledDot().modify(notSelf, once), masking: causal() });
  const kernel = await backend.prepare({ variant, queryDim: dim, keyDim: dim, valueDim });
  return Object.freeze({ run: (inputs: LshInputs) => run(backend.runtime, kernel, rounds, inputs), dispose: () => kernel.dispose() });
}

async function run(runtime: Runtime, kernel: AttentionKernel, rounds: number, { query, value, choice }: LshInputs): Promise<Tensor> {
  const [batch = 0, heads = 0, length = 0, dim = 0] = query.shape;
  const valueDim = value.shape[3] ?? 0;
  if (choice.order.shape.join() !== [rounds, batch, heads, length].join()) {
    throw new AttentionError('invalid-argument', `The choice is of [${choice.order.shape.join(', ')}].`, `Expected [${rounds}, ${batch}, ${heads}, ${length}]: rounds, batch, heads, length.`);
  }
  const planes = batch * heads;
  const size = planes * length;
  const order = Int32Array.from(toFloat64(choice.order));
  // The place of each row in each round, and so its chunk.
  const places = new Int32Array(order.length);
  for (let round = 0; round < rounds; round++) for (let plane = 0; plane < planes; plane++) for (let place = 0; place < length; place++) {
    const start = round * size + plane * length;
    places[start + (order[start + place] ?? 0)] = place;
  }
  const held: Tensor[] = [];
  const keep = <T extends Tensor>(made: T): T => {
    held.push(made);
    return made;
  };
  const flat = (given: Tensor, width: number): Tensor => {
    const own = onRuntime(runtime, given);
    if (own !== given) keep(own);
    return runtime.view(keep(runtime.operations.copy(own)), [planes, 1, length, width]);
  };
  try {
    const { operations } = runtime;
    const rows = flat(query, dim);
    const keys = keep(operations.rowNorm(rows, { norm: 'l2', epsilon: 1e-12 }));
    const values = flat(value, valueDim);
    const blocks = chunkBlocks(length, choice.chunk);
    const partials = [];
    for (let round = 0; round < rounds; round++) {
      const own = order.subarray(round * size, (round + 1) * size);
      const sorted = tensor(own.slice(), [planes, 1, length]);
      const indices = keep(runtime.upload(sorted));
      const positions = tensor(own.slice(), [planes, length]);
      const tables = Object.fromEntries(Array.from({ length: rounds }, (_, other) => {
        const chunks = tensor(own.map((row, at) => Math.floor((places[other * size + at - (at % length) + row] ?? 0) / choice.chunk)), [planes, length]);
        return [[`queryChunks${other}`, chunks], [`keyChunks${other}`, chunks]] as const;
      }).flat());
      const made = await kernel.run({
        query: keep(operations.gather(rows, indices)), key: keep(operations.gather(keys, indices)), value: keep(operations.gather(values, indices)),
        queryPositions: positions, keyPositions: positions, tables, blocks,
      });
      keep(made.output);
      if (made.logSumExp === undefined) throw new RangeError('softmax gives logSumExp');
      keep(made.logSumExp);
      const back = keep(runtime.upload(tensor(places.slice(round * size, (round + 1) * size), [planes, 1, length])));
      const accumulator = await runtime.read(keep(operations.gather(made.output, back)));
      const logs = await runtime.read(keep(operations.gather(runtime.view(made.logSumExp, [planes, 1, length, 1]), back)));
      partials.push({ mergeClass: 'logSumExp' as const, accumulator, statistics: { logSumExp: tensor(logs.view(), [planes, 1, length]) } });
    }
    const { accumulator } = merge(partials);
    const output: HostTensor = tensor(Float32Array.from(toFloat64(accumulator)), [batch, heads, length, valueDim]);
    return query.runtime === null ? output : runtime.upload(output);
  } finally {
    for (const made of held) runtime.release(made);
  }
}

/** Chunk t of the sorted rows sees chunks t − 1 and t. */
function chunkBlocks(length: number, chunk: number): HostBlockList {
  const runs = new TileRuns();
  const chunks = Math.ceil(length / chunk);
  for (let tile = 0; tile < chunks; tile++) runs.push(tile, Math.max(0, tile - 1), tile + 1, 1);
  return runs.list({ blockQuery: chunk, blockKey: chunk }, [1, 1, chunks]);
}
