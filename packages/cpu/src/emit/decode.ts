import type { FloatStorage, FunctionBuilder, Local, Value } from '@heed/runtime-wasm';
import { call as callTo, constantF32x4, exp, instructions, loadFloats, loadRow, minusInfinity, storageBytes } from '@heed/runtime-wasm';
import { queryRowBytes, readWords, scoreRowBytes, stateWords, valueRowBytes, word, type Callee, type Emission } from './context.ts';
import type { Guard } from './guard.ts';
import { rowAddress } from './pack.ts';
import { clearBlock, readTask } from './prefill.ts';
import { clearSums, declareSums, multiplyAdd } from './product.ts';

const { f32x4, i32, v128 } = instructions;

export interface DecodeParts {
  readonly loadQueries: Callee;
  readonly weigh: Callee;
  readonly values: Callee;
  readonly guard: Guard;
  readonly finish: Callee;
}

/** How products are laid out in registers, for one query row or for up to four that meet each key as it is read. */
interface ScoreTile {
  readonly rows: 1 | 4;
  /** Keys whose products run side by side. */
  readonly keys: 2 | 4;
  /** Sums of each product, over every second vector of channels where there are two: eight sums in all keep both multipliers busy. */
  readonly sums: 1 | 2;
}
const oneRow: ScoreTile = { rows: 1, keys: 4, sums: 2 };
const fourRows: ScoreTile = { rows: 4, keys: 2, sums: 1 };

/** In sums of values, eight registers are one row of 32 channels, or two rows of sixteen. */
interface ValueTile {
  readonly rows: 1 | 2;
  readonly vectors: 4 | 8;
}
const oneValueRow: ValueTile = { rows: 1, vectors: 8 };
const twoValueRows: ValueTile = { rows: 2, vectors: 4 };

/**
 * readScores(queries, key, rowBytes, last, width, groups, target): products of query rows with keys where they lie, channels in the lanes.
 * Keys past `last` (counted from the tile's first) repeat it.
 */
function emitReadScores({ module, plan }: Emission, { rows, keys, sums: split }: ScoreTile): Callee {
  const parameters = { queries: 'i32', key: 'i32', rowBytes: 'i32', last: 'i32', width: 'i32', groups: 'i32', target: 'i32' } as const;
  return module.function(rows === 1 ? 'readScoresOfOne' : 'readScores', { parameters }, (f, { queries, key, rowBytes, last, width, groups, target }) => {
    const bytes = storageBytes[plan.dtypes.key];
    // Vectors of channels in one step.
    const vectors = plan.scoreDim % 16 === 0 ? 4 : plan.scoreDim % 8 === 0 ? 2 : 1;
    const [column, group, channel, left, tile] = [f.local('column', 'i32'), f.local('group', 'i32'), f.local('channel', 'i32'), f.local('left', 'i32'), f.local('tile', 'i32')];
    const places = f.localArray('key', 'i32', keys);
    const sums = Array.from({ length: Math.min(split, vectors) }, (_, half) => Array.from({ length: rows }, (__, row) => f.localArray(`sum${half}_${row}_`, 'v128', keys)));
    const elements = f.localArray('element', 'v128', keys);
    const query = f.local('query', 'v128');
    f.for(column, { to: width, step: keys, atLeastOnce: true }, () => {
      f.set(left, queries);
      f.set(tile, i32.add(target, i32.shl(column, 2)));
      f.for(group, { to: groups, atLeastOnce: true }, () => {
        places.forEach((place, offset) => {
          f.set(place, i32.add(column, offset));
          f.if(i32.gt_s(place, last), () => {
            f.set(place, last);
          });
          f.set(place, i32.add(key, i32.mul(place, rowBytes)));
        });
        for (const half of sums) clearSums(f, half);
        f.for(channel, { to: plan.scoreDim * 4, step: 16 * vectors, atLeastOnce: true }, () => {
          const queryAt = f.let('queryAt', i32.add(left, channel));
          for (let vector = 0; vector < vectors; vector += 1) {
            elements.forEach((element, offset) => {
              const place = places[offset];
              if (place !== undefined) f.set(element, loadFloats(f, plan.dtypes.key, place, vector * 4 * bytes));
            });
            sums[vector % sums.length]?.forEach((row, rowIndex) => {
              f.set(query, v128.load(queryAt, rowIndex * queryRowBytes(plan) + vector * 16));
              row.forEach((sum, part) => {
                const element = elements[part];
                if (element !== undefined) f.set(sum, multiplyAdd(plan.machine.fused, query, element, sum));
              });
            });
          }
          for (const place of places) f.set(place, i32.add(place, vectors * 4 * bytes));
        });
        const [whole, ...halves] = sums;
        for (const half of halves) half.forEach((row, rowIndex) => row.forEach((sum, part) => {
          const total = whole?.[rowIndex]?.[part];
          if (total !== undefined) f.set(total, f32x4.add(total, sum));
        }));
        if (keys === 4) f.do(v128.store(tile, sumOfEach(f, whole?.[0] ?? [])));
        else {
          for (let rowIndex = 0; rowIndex < rows; rowIndex += 2) {
            const both = f.let('both', sumOfEach(f, [...(whole?.[rowIndex] ?? []), ...(whole?.[rowIndex + 1] ?? [])]));
            f.do(v128.store64_lane(tile, both, 0, rowIndex * scoreRowBytes(plan)));
            f.do(v128.store64_lane(tile, both, 1, (rowIndex + 1) * scoreRowBytes(plan)));
          }
        }
        f.set(left, i32.add(left, rows * queryRowBytes(plan)));
        f.set(tile, i32.add(tile, rows * scoreRowBytes(plan)));
      });
    });
  });
}

/**
 * touch(address, rowBytes, count): reads one word of every cache line of `count` rows of `bytes` bytes. Computation between loads keeps only few lines on their way
 * from memory; a walk that does nothing else keeps as many as there can be, and the rows then wait in the second cache.
 */
function emitTouch({ module }: Emission, name: string, bytes: number): Callee {
  return module.function(name, { parameters: { address: 'i32', rowBytes: 'i32', count: 'i32' } }, (f, { address, rowBytes, count }) => {
    const [row, line] = [f.local('row', 'i32'), f.local('line', 'i32')];
    const whole = Math.floor(bytes / 256) * 256;
    f.for(row, { to: count }, () => {
      if (whole > 0) {
        f.for(line, { to: whole, step: 256, atLeastOnce: true }, () => {
          for (let offset = 0; offset < 256; offset += 64) f.do(i32.load8_u(i32.add(address, line), offset));
        });
      }
      for (let offset = whole; offset < bytes; offset += 64) f.do(i32.load8_u(address, offset));
      f.set(address, i32.add(address, rowBytes));
    });
  });
}

/** The lane sums of four vectors, as four lanes. */
function sumOfEach(f: FunctionBuilder, vectors: readonly Local<'v128'>[]): Value<'v128'> {
  const { i8x16 } = instructions;
  const words = (...picked: readonly number[]): readonly number[] => picked.flatMap((one) => [one * 4, one * 4 + 1, one * 4 + 2, one * 4 + 3]);
  const [a, b, c, d] = vectors;
  if (a === undefined || b === undefined || c === undefined || d === undefined) throw new RangeError('four vectors are added up together');
  const pairs = (x: Local<'v128'>, y: Local<'v128'>): Local<'v128'> => f.let('pairs', f32x4.add(i8x16.shuffle(x, y, words(0, 4, 1, 5)), i8x16.shuffle(x, y, words(2, 6, 3, 7))));
  const [ab, cd] = [pairs(a, b), pairs(c, d)];
  return f32x4.add(i8x16.shuffle(ab, cd, words(0, 1, 4, 5)), i8x16.shuffle(ab, cd, words(2, 3, 6, 7)));
}

/** readValues(weights, value, rowBytes, count, groups, factors, sums): as `values`, over `count` value rows where they lie. */
function emitReadValues({ module, plan, request }: Emission, { rows: valueRows, vectors: valueVectors }: ValueTile, scaled: boolean): Callee {
  const storage: FloatStorage = plan.dtypes.value;
  const bytes = storageBytes[storage];
  return module.function(valueRows === 1 ? 'readValuesOfOne' : 'readValues', { parameters: { weights: 'i32', value: 'i32', rowBytes: 'i32', count: 'i32', groups: 'i32', factors: 'i32', target: 'i32' } }, (f, { weights, value, rowBytes, count, groups, factors, target }) => {
    const [left, right, end, group] = [f.local('left', 'i32'), f.local('right', 'i32'), f.local('end', 'i32'), f.local('group', 'i32')];
    const spread = f.local('spread', 'v128');
    const panel = (from: number, vectors: number): void => {
      const sums = declareSums(f, valueRows, vectors * 4);
      const columns = f.localArray('column', 'v128', vectors);
      const [weightRow, factor, tile] = [f.let('weightRow', weights), f.let('factor', factors), f.let('tile', i32.add(target, from * 4))];
      f.for(group, { to: groups, atLeastOnce: true }, () => {
        sums.forEach((row, index) => {
          f.set(spread, v128.load32_splat(factor, index * 4));
          row.forEach((sum, part) => {
            const held = v128.load(tile, index * valueRowBytes(plan) + part * 16);
            f.set(sum, scaled ? f32x4.mul(spread, held) : held);
          });
        });
        f.set(left, weightRow);
        f.set(right, i32.add(value, from * bytes));
        f.set(end, i32.add(left, i32.shl(count, 2)));
        f.loop('keys', (again) => {
          columns.forEach((column, part) => {
            f.set(column, loadFloats(f, storage, right, part * 4 * bytes));
          });
          sums.forEach((row, index) => {
            f.set(spread, v128.load32_splat(left, index * scoreRowBytes(plan)));
            row.forEach((sum, part) => {
              const column = columns[part];
              if (column !== undefined) f.set(sum, multiplyAdd(plan.machine.fused, spread, column, sum));
            });
          });
          f.set(right, i32.add(right, rowBytes));
          f.set(left, i32.add(left, 4));
          f.brIf(again, i32.lt_u(left, end));
        });
        sums.forEach((row, index) => row.forEach((sum, part) => f.do(v128.store(tile, sum, index * valueRowBytes(plan) + part * 16))));
        f.set(weightRow, i32.add(weightRow, valueRows * scoreRowBytes(plan)));
        f.set(factor, i32.add(factor, valueRows * 4));
        f.set(tile, i32.add(tile, valueRows * valueRowBytes(plan)));
      });
    };
    const vectors = request.valueDim / 4;
    for (let vector = 0; vector < vectors; vector += valueVectors) panel(vector * 4, Math.min(valueVectors, vectors - vector));
  });
}

/**
 * decode: a task is one part of the keys for one key head, and the few query rows of all heads that read it. Keys and values are read where they lie,
 * once for all of them; statistics and sums go to the workspace of the part.
 * mergeParts: a task is one key head; its parts are merged in order (L13), then finished.
 */
export function emitDecode(emission: Emission, parts: DecodeParts): void {
  const { module, plan, layouts, request } = emission;
  const isSoftmax = request.variant.normalization.rule.kind === 'softmax';
  const [readScoresOfOne, readScores] = [emitReadScores(emission, oneRow), emitReadScores(emission, fourRows)];
  const [readValuesOfOne, readValues] = [emitReadValues(emission, oneValueRow, isSoftmax), emitReadValues(emission, twoValueRows, isSoftmax)];
  const touchKeys = emitTouch(emission, 'touchKeys', plan.scoreDim * storageBytes[plan.dtypes.key]);
  const touchValues = emitTouch(emission, 'touchValues', plan.valueDim * storageBytes[plan.dtypes.value]);
  module.function('decode', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch: base }) => {
    const { record, scratch } = readTask(f, emission, task, call, base);
    const { sequence, head: keyHead, rows: list, rowCount } = record;
    const group = f.let('group', word(call, layouts.call.offset('group')));
    const firstHead = f.let('firstHead', i32.mul(keyHead, group));
    const total = f.let('total', i32.mul(group, rowCount));
    const fours = f.let('fours', i32.div_u(i32.add(total, 3), 4));
    const valueGroups = f.let('valueGroups', i32.div_u(i32.add(total, plan.valueRows - 1), plan.valueRows));
    const pairs = f.let('pairs', i32.div_u(i32.add(total, twoValueRows.rows - 1), twoValueRows.rows));
    const states = record.workspace;
    const sums = f.let('sums', i32.add(states, plan.partRows * stateWords.bytes));
    const [member, row] = [f.local('member', 'i32'), f.local('firstRow', 'i32')];
    const members = (body: () => void): void => {
      f.for(member, { to: group, atLeastOnce: true }, () => {
        f.set(row, i32.mul(member, rowCount));
        body();
      });
    };
    members(() => {
      f.do(callTo(parts.loadQueries, call, sequence, i32.add(firstHead, member), list, rowCount, scratch.rows, i32.add(scratch.queries, i32.mul(row, queryRowBytes(plan))), scratch.end));
    });
    clearBlock(f, emission, states, sums, scratch.factors, plan.partRows);
    const { lastKey } = readWords(f, sequence, layouts.sequence, ['lastKey']);
    const keyRowBytes = f.let('keyRowBytes', word(call, layouts.call.offset('key.row')));
    const valueBytes = f.let('valueRowBytes', word(call, layouts.call.offset('value.row')));
    const valueChannel = f.let('valueChannelBytes', word(call, layouts.call.offset('value.channel')));
    const [count, tile, target] = [f.local('count', 'i32'), f.let('tile', record.tiles), f.local('weightsAt', 'i32')];
    f.for(count, { to: record.tileCount }, () => {
      const { first, end, low, high, mixed } = readWords(f, tile, layouts.tile, ['first', 'end', 'low', 'high', 'mixed']);
      const width = f.let('width', i32.sub(end, first));
      const key = rowAddress(f, emission, 'key', call, sequence, keyHead, first);
      const value = rowAddress(f, emission, 'value', call, sequence, keyHead, first);
      const last = f.let('lastOfTile', i32.sub(lastKey, first));
      f.if(i32.eq(total, 1), () => {
        f.do(callTo(readScoresOfOne, scratch.queries, key, keyRowBytes, last, width, fours, scratch.scores));
      }, () => {
        f.do(callTo(touchKeys, key, keyRowBytes, i32.sub(high, first)));
        f.do(callTo(readScores, scratch.queries, key, keyRowBytes, last, width, fours, scratch.scores));
      });
      f.set(target, scratch.scores);
      f.if(mixed, () => {
        copyValues(f, emission, { value, rowBytes: valueBytes, channelBytes: valueChannel, last: f.let('last', i32.sub(lastKey, first)), width, target: scratch.values });
        f.if(i32.eqz(callTo(parts.guard.isFinite, scratch.values, width) as Value<'i32'>), () => {
          f.set(target, scratch.weights);
        });
      });
      members(() => {
        const offset = f.let('offset', i32.mul(row, scoreRowBytes(plan)));
        f.do(callTo(parts.weigh, call, sequence, i32.add(firstHead, member), list, rowCount, scratch.end, first, width, low, high, mixed, i32.add(scratch.scores, offset), i32.add(target, offset), i32.add(states, i32.mul(row, stateWords.bytes)), i32.add(scratch.factors, i32.shl(row, 2))));
      });
      f.if(mixed, () => {
        f.if(i32.eq(target, scratch.scores), () => {
          f.do(callTo(parts.values, target, scratch.values, width, valueGroups, scratch.factors, sums));
        }, () => {
          // The copy without odd values stands behind the query tables' place, which this path does not use.
          f.do(callTo(parts.guard.guarded, scratch.scores, target, scratch.values, width, total, valueGroups, scratch.factors, sums, scratch.end));
        });
      }, () => {
        f.if(i32.eq(total, 1), () => {
          f.do(callTo(readValuesOfOne, target, value, valueBytes, width, 1, scratch.factors, sums));
        }, () => {
          f.do(callTo(touchValues, value, valueBytes, width));
          f.do(callTo(readValues, target, value, valueBytes, width, pairs, scratch.factors, sums));
        });
      });
      f.set(tile, i32.add(tile, layouts.tile.bytes));
    });
  });
  emitMergeParts(emission, parts.finish, isSoftmax);
}

interface TileCopy {
  readonly value: Local<'i32'>;
  readonly rowBytes: Local<'i32'>;
  readonly channelBytes: Local<'i32'>;
  readonly last: Local<'i32'>;
  readonly width: Local<'i32'>;
  readonly target: Local<'i32'>;
}

/** Value rows of a tile as packed rows, zeros past the last. */
function copyValues(f: FunctionBuilder, { plan, request }: Emission, { value, rowBytes, channelBytes, last, width, target }: TileCopy): void {
  const [row, source, place, part] = [f.local('copyRow', 'i32'), f.local('source', 'i32'), f.local('copyAt', 'i32'), f.local('part', 'i32')];
  f.for(row, { to: width }, () => {
    f.set(place, i32.add(target, i32.mul(row, valueRowBytes(plan))));
    f.for(part, { to: valueRowBytes(plan), step: 16, atLeastOnce: true }, () => {
      f.do(v128.store(i32.add(place, part), constantF32x4(0)));
    });
    f.if(i32.le_s(row, last), () => {
      f.set(source, i32.add(value, i32.mul(row, rowBytes)));
      loadRow(f, plan.dtypes.value, request.valueDim, source, channelBytes, place);
    });
  });
}

/** Bytes of one part's workspace: statistics, then sums. */
export const workspaceBytes = (plan: Emission['plan']): number => plan.partRows * (stateWords.bytes + valueRowBytes(plan));

function emitMergeParts(emission: Emission, finish: Callee, isSoftmax: boolean): void {
  const { module, plan, layouts } = emission;
  const lanes = { fused: plan.machine.fused };
  module.function('mergeParts', { parameters: { task: 'i32', call: 'i32', scratch: 'i32' }, export: true }, (f, { task, call, scratch: base }) => {
    const { record } = readTask(f, emission, task, call, base, 'merges');
    const { sequence, head: keyHead, rows: list, rowCount, workspace, splits } = record;
    const group = f.let('group', word(call, layouts.call.offset('group')));
    const total = f.let('total', i32.mul(group, rowCount));
    const sumsAt = plan.partRows * stateWords.bytes;
    const [row, split, place] = [f.local('row', 'i32'), f.local('split', 'i32'), f.local('place', 'i32')];
    f.for(row, { to: total }, () => {
      const state = f.let('state', i32.add(workspace, i32.mul(row, stateWords.bytes)));
      const sums = f.let('sums', i32.add(i32.add(workspace, sumsAt), i32.mul(row, valueRowBytes(plan))));
      const otherState = f.local('otherState', 'i32');
      const otherSums = f.local('otherSums', 'i32');
      f.for(split, { from: 1, to: splits }, () => {
        f.set(otherState, i32.add(state, i32.mul(split, workspaceBytes(plan))));
        f.set(otherSums, i32.add(sums, i32.mul(split, workspaceBytes(plan))));
        const [own, other] = [f.local('ownFactor', 'v128'), f.local('otherFactor', 'v128')];
        if (isSoftmax) {
          const [a, b] = [f.let('a', v128.load(state, stateWords.largest)), f.let('b', v128.load(otherState, stateWords.largest))];
          const largest = f.let('largest', f32x4.pmax(a, b));
          const origin = f.let('origin', v128.bitselect(constantF32x4(0), largest, f32x4.eq(largest, minusInfinity())));
          f.do(v128.store(state, largest, stateWords.largest));
          f.set(own, exp({ f, ...lanes }, f32x4.sub(a, origin)));
          f.set(other, exp({ f, ...lanes }, f32x4.sub(b, origin)));
        }
        const joined = (left: Value<'v128'>, right: Value<'v128'>): Value<'v128'> => (isSoftmax ? f32x4.add(f32x4.mul(left, own), f32x4.mul(right, other)) : f32x4.add(left, right));
        f.do(v128.store(state, joined(v128.load(state, stateWords.sum), v128.load(otherState, stateWords.sum)), stateWords.sum));
        f.do(v128.store(state, instructions.i32x4.add(v128.load(state, stateWords.count), v128.load(otherState, stateWords.count)), stateWords.count));
        f.do(v128.store(state, f32x4.add(v128.load(state, stateWords.poison), v128.load(otherState, stateWords.poison)), stateWords.poison));
        f.for(place, { to: valueRowBytes(plan), step: 16, atLeastOnce: true }, () => {
          const at = f.let('at', i32.add(sums, place));
          f.do(v128.store(at, joined(v128.load(at), v128.load(i32.add(otherSums, place)))));
        });
      });
    });
    const member = f.local('member', 'i32');
    f.for(member, { to: group, atLeastOnce: true }, () => {
      const first = f.let('firstRow', i32.mul(member, rowCount));
      f.do(callTo(finish, call, sequence, i32.add(i32.mul(keyHead, group), member), list, rowCount, i32.add(workspace, i32.mul(first, stateWords.bytes)), i32.add(i32.add(workspace, sumsAt), i32.mul(first, valueRowBytes(plan)))));
    });
  });
}
