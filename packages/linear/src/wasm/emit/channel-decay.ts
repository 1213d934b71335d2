import type { FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { call as callTo, constantF32x4, exp, instructions, multiplyAdd, sumOfLanes } from '@heed/runtime-wasm';
import { fillVectors, forVectors, rowOf, type Callee, type Emission } from './context.ts';
import { emitProduct } from './product.ts';

const { f32, f32x4, i32, v128 } = instructions;

/** Writers and readers of a chunk, by their places in scratch. */
interface Writer {
  readonly rows: number;
  readonly turned: number;
  /** Pairs of query and writer, and of recall and writer (null: not wanted). */
  readonly queryPairs: number;
  readonly recallPairs: number | null;
}

/**
 * channelPairs(scratch, rows): all pairs of a chunk whose decays differ by channel.
 *
 *     pairs[i, j] = Σ_d reader_id · Π_{j<l≤i} decay_ld · writer_jd
 *
 * The chunk is cut into sub-chunks. Inside one, each writer row walks on from token to token and takes the decay of each: products of numbers up to 1, so nothing overflows, whatever the decays. Across
 * sub-chunks, writers are held decayed to where the sub-chunk begins and readers are decayed from there, so that a matrix product remains (Yang 2023, section 4.3).
 *
 * Afterwards query and recall rows are decayed from the chunk's beginning, turned writers up to its end, and `total` holds the decays of the whole chunk.
 */
export function emitChannelPairs(emission: Emission): Callee {
  const { module, plan, scratch: places } = emission;
  const { recall, widthStride, rows: chunkRows, machine } = plan;
  const rowBytes = widthStride * 4;
  const hasOwn = recall !== null && !recall.isDelta;
  const writers: readonly Writer[] = [
    { rows: places.key, turned: places.keyTurned, queryPairs: places.queryKey, recallPairs: recall === null ? null : places.recallKey },
    ...(hasOwn ? [{ rows: places.remove, turned: places.removeTurned, queryPairs: places.queryRemove, recallPairs: places.recallRemove }] : []),
  ];
  const across = emitProduct(emission, 'acrossSubChunks', { leftRow: rowBytes, rightRow: chunkRows * 4, targetRow: chunkRows * 4, depth: 'all', columns: 'all', mode: 'set' });
  const walk = emitWalk(emission, recall !== null, recall?.beforeDecay === true);
  return module.function('channelPairs', { parameters: { scratch: 'i32', rows: 'i32' } }, (f, { scratch, rows }) => {
    const lanes = { f, fused: machine.fused };
    const row = f.local('row', 'i32');
    const [start, end] = [f.local('start', 'i32'), f.local('end', 'i32')];
    const [total, block] = [f.let('total', i32.add(scratch, places.total)), f.let('block', i32.add(scratch, places.token))];
    const at = (matrix: number, index: Local<'i32'>): Local<'i32'> => f.let('matrixRow', rowOf(scratch, matrix, index, widthStride));

    f.comment('total decays, from sums of logarithms; then the decays themselves');
    fillVectors(f, total, widthStride, constantF32x4(0));
    f.for(row, { to: rows, atLeastOnce: true }, () => {
      const decays = at(places.decay, row);
      forVectors(f, widthStride, (bytes) => {
        const log = f.let('log', v128.load(i32.add(decays, bytes)));
        f.do(v128.store(i32.add(total, bytes), f32x4.add(v128.load(i32.add(total, bytes)), log)));
        f.do(v128.store(i32.add(decays, bytes), exp(lanes, log)));
      });
    });
    forVectors(f, widthStride, (bytes) => {
      f.do(v128.store(i32.add(total, bytes), exp(lanes, v128.load(i32.add(total, bytes)))));
    });

    f.for(start, { to: rows, step: plan.subChunk, atLeastOnce: true }, () => {
      f.set(end, i32.add(start, plan.subChunk));
      f.if(i32.gt_s(end, rows), () => {
        f.set(end, rows);
      });
      f.comment('readers decayed since the sub-chunk began; `block` is their running product');
      fillVectors(f, block, widthStride, constantF32x4(1));
      f.for(row, { from: start, to: end, atLeastOnce: true }, () => {
        const place = f.let('place', i32.sub(row, start));
        decayReaders(f, emission, { query: at(places.query, row), recall: at(places.recall, row), decays: at(places.decay, row), running: block, toQuery: at(places.subQuery, place), toRecall: at(places.subRecall, place) });
      });
      f.if(start, () => {
        const count = f.let('count', i32.sub(end, start));
        for (const { turned, queryPairs, recallPairs } of writers) {
          const target = (pairs: number): Value<'i32'> => i32.add(i32.add(scratch, pairs), i32.mul(start, chunkRows * 4));
          const right = i32.add(scratch, turned);
          f.do(callTo(across, i32.add(scratch, places.subQuery), right, target(queryPairs), count, start, widthStride, 0));
          if (recallPairs !== null) f.do(callTo(across, i32.add(scratch, places.subRecall), right, target(recallPairs), count, start, widthStride, 0));
          scaleTurned(f, emission, f.let('turned', i32.add(scratch, turned)), block, start);
        }
      });
      for (const { rows: source, turned, queryPairs, recallPairs } of writers) {
        f.for(row, { from: start, to: end, atLeastOnce: true }, () => {
          f.do(callTo(walk, scratch, row, end, at(source, row), i32.add(scratch, turned), i32.add(scratch, queryPairs), i32.add(scratch, recallPairs ?? queryPairs)));
        });
      }
    });

    f.comment('readers decayed since the chunk began');
    fillVectors(f, block, widthStride, constantF32x4(1));
    f.for(row, { to: rows, atLeastOnce: true }, () => {
      const [query, recalled] = [at(places.query, row), at(places.recall, row)];
      decayReaders(f, emission, { query, recall: recalled, decays: at(places.decay, row), running: block, toQuery: query, toRecall: recalled });
    });
  });
}

interface Readers {
  readonly query: Local<'i32'>;
  readonly recall: Local<'i32'>;
  readonly decays: Local<'i32'>;
  /** Product of the decays so far; takes those of this token. */
  readonly running: Local<'i32'>;
  readonly toQuery: Local<'i32'>;
  readonly toRecall: Local<'i32'>;
}

function decayReaders(f: FunctionBuilder, { plan }: Emission, { query, recall, decays, running, toQuery, toRecall }: Readers): void {
  forVectors(f, plan.widthStride, (bytes) => {
    const before = f.let('before', v128.load(i32.add(running, bytes)));
    const after = f.let('after', f32x4.mul(before, v128.load(i32.add(decays, bytes))));
    f.do(v128.store(i32.add(running, bytes), after));
    if (plan.recall !== null) f.do(v128.store(i32.add(toRecall, bytes), f32x4.mul(v128.load(i32.add(recall, bytes)), plan.recall.beforeDecay ? before : after)));
    f.do(v128.store(i32.add(toQuery, bytes), f32x4.mul(v128.load(i32.add(query, bytes)), after)));
  });
}

/** Columns 0 … columns − 1 of a turned matrix, each of its rows times the row's factor. */
function scaleTurned(f: FunctionBuilder, { plan }: Emission, turned: Local<'i32'>, factors: Local<'i32'>, columns: Local<'i32'>): void {
  const channel = f.local('channel', 'i32');
  f.for(channel, { to: plan.widthStride, atLeastOnce: true }, () => {
    const factor = f.let('factor', v128.load32_splat(i32.add(factors, i32.shl(channel, 2))));
    const row = f.let('turnedRow', i32.add(turned, i32.mul(channel, plan.rows * 4)));
    forVectors(f, columns, (bytes) => {
      const place = f.let('place', i32.add(row, bytes));
      f.do(v128.store(place, f32x4.mul(factor, v128.load(place))));
    });
  });
}

/**
 * walk(scratch, token, end, source, turned, queryPairs, recallPairs): one writer row through the tokens behind it, up to the end of its sub-chunk; then into its column of the turned matrix.
 */
function emitWalk({ module, plan, scratch: places }: Emission, recalls: boolean, beforeDecay: boolean): Callee {
  const { widthStride, rows: chunkRows, machine } = plan;
  return module.function('walk', { parameters: { scratch: 'i32', token: 'i32', end: 'i32', source: 'i32', turned: 'i32', queryPairs: 'i32', recallPairs: 'i32' } }, (f, { scratch, token, end, source, turned, queryPairs, recallPairs }) => {
    const walking = f.let('walking', i32.add(i32.add(scratch, places.token), widthStride * 4));
    const [row, channel] = [f.local('row', 'i32'), f.local('channel', 'i32')];
    const [queries, recalled, writer] = [f.local('queries', 'v128'), f.local('recalled', 'v128'), f.local('writer', 'v128')];
    const pair = (pairs: Local<'i32'>, reader: Local<'i32'>): Value<'i32'> => i32.add(pairs, i32.shl(i32.add(i32.mul(reader, chunkRows), token), 2));
    f.set(queries, constantF32x4(0));
    const own = f.let('own', rowOf(scratch, places.query, token, widthStride));
    forVectors(f, widthStride, (bytes) => {
      f.set(writer, v128.load(i32.add(source, bytes)));
      f.do(v128.store(i32.add(walking, bytes), writer));
      f.set(queries, multiplyAdd(machine, writer, v128.load(i32.add(own, bytes)), queries));
    });
    f.do(f32.store(pair(queryPairs, token), sumOfLanes(queries)));
    f.for(row, { from: i32.add(token, 1), to: end }, () => {
      const [query, recall, decays] = [places.query, places.recall, places.decay].map((matrix) => f.let('reader', rowOf(scratch, matrix, row, widthStride)));
      if (query === undefined || recall === undefined || decays === undefined) throw new RangeError('three rows meet');
      f.set(queries, constantF32x4(0));
      if (recalls) f.set(recalled, constantF32x4(0));
      forVectors(f, widthStride, (bytes) => {
        f.set(writer, v128.load(i32.add(walking, bytes)));
        const recallHere = (): void => {
          f.set(recalled, multiplyAdd(machine, writer, v128.load(i32.add(recall, bytes)), recalled));
        };
        if (recalls && beforeDecay) recallHere();
        f.set(writer, f32x4.mul(writer, v128.load(i32.add(decays, bytes))));
        f.do(v128.store(i32.add(walking, bytes), writer));
        if (recalls && !beforeDecay) recallHere();
        f.set(queries, multiplyAdd(machine, writer, v128.load(i32.add(query, bytes)), queries));
      });
      f.do(f32.store(pair(queryPairs, row), sumOfLanes(queries)));
      if (recalls) f.do(f32.store(pair(recallPairs, row), sumOfLanes(recalled)));
    });
    f.for(channel, { to: widthStride, atLeastOnce: true }, () => {
      f.do(i32.store(i32.add(turned, i32.shl(i32.add(i32.mul(channel, chunkRows), token), 2)), i32.load(i32.add(walking, i32.shl(channel, 2)))));
    });
  });
}
